"""What the server answers to a deletion and its precheck, and how the answers for several slices become one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

ProblemRow = tuple[str, str, str, str, str]
"""Instance id, name, status, code and message."""


class Blocker(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class PlannedInstance(BaseModel):
    instance_id: int
    name: str | None = None
    blockers: list[Blocker] = []


class DeletionPlan(BaseModel):
    """The answer to a precheck."""

    plan_token: str
    counts: dict[str, int]
    rows: dict[str, int] = {}
    items: list[PlannedInstance] = []
    missing: list[int] = []

    def problems(self) -> Iterator[ProblemRow]:
        for item in self.items:
            yield from _blocked(item.instance_id, item.name, item.blockers)
        for instance_id in self.missing:
            yield _missing(instance_id)


class ItemError(BaseModel):
    code: int
    message: str


class ItemReport(BaseModel):
    model_config = ConfigDict(extra="allow")

    instance_id: int
    name: str | None = None
    status: str
    blockers: list[Blocker] = []
    error: ItemError | None = None
    retryable: bool = False

    def problems(self) -> Iterator[ProblemRow]:
        match self.status:
            case "blocked":
                yield from _blocked(self.instance_id, self.name, self.blockers)
            case "missing":
                yield _missing(self.instance_id)
            case "failed":
                code = str(self.error.code) if self.error else ""
                message = self.error.message if self.error else ""
                hint = " (running the command again can help)" if self.retryable else ""
                yield str(self.instance_id), self.name or "", self.status, code, message + hint


class DeletionReport(BaseModel):
    outcome: str
    mode: str
    dry_run: bool
    counts: dict[str, int]
    rows_deleted: dict[str, int] = {}
    items: list[ItemReport]

    def problems(self) -> Iterator[ProblemRow]:
        for item in self.items:
            yield from item.problems()


def _blocked(instance_id: int, name: str | None, blockers: Iterable[Blocker]) -> Iterator[ProblemRow]:
    for blocker in blockers:
        yield str(instance_id), name or "", "blocked", blocker.code, blocker.message


def _missing(instance_id: int) -> ProblemRow:
    return str(instance_id), "", "missing", "missing", "there is no such instance"


def merged_report(reports: Sequence[DeletionReport]) -> DeletionReport:
    """The report that one request for all the ids would have had. There must be at least one."""
    outcomes = {report.outcome for report in reports}
    return DeletionReport(
        outcome=outcomes.pop() if len(outcomes) == 1 else "partial",
        mode=reports[0].mode,
        dry_run=reports[0].dry_run,
        counts=summed(report.counts for report in reports),
        rows_deleted=summed(report.rows_deleted for report in reports),
        items=[item for report in reports for item in report.items],
    )


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Key by key, zeros kept, in the order in which the keys first appear."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
