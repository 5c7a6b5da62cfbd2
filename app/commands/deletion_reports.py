"""What the server answers to a deletion and its precheck, how several answers become one, and how they are shown."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from app.commands.following import Operation
from app.commands.screen import counted, printable, show_problems, show_table

PROBLEM_COLUMNS = ("instance", "name", "status", "code", "message")
SHOWN_COLUMNS = ("instance", "code", "message")
STATUSES = ("deleted", "blocked", "missing", "failed")

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
    # Of an operation's item; a report has none.
    position: int | None = Field(None, exclude=True)
    name: str | None = None
    status: str
    rows_deleted: dict[str, int] = {}
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


def deletion_report_of(operation: Operation, items: Sequence[ItemReport]) -> DeletionReport:
    """The report that the server had given if it had not been in the background."""
    rows = summed(item.rows_deleted for item in items)
    deleted = operation.counts.get("deleted", 0)
    if operation.request.mode == "hard" and deleted:
        rows["instances"] = deleted
    return DeletionReport(
        outcome="complete" if operation.state == "succeeded" else operation.state,
        mode=operation.request.mode or "",
        dry_run=operation.request.dry_run,
        counts={"requested": operation.total, **{status: operation.counts.get(status, 0) for status in STATUSES}},
        rows_deleted=rows,
        items=list(items),
    )


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


def show_deletion(report: DeletionReport, console: Console, problems: Path | None) -> None:
    if report.dry_run:
        show_rows(console, report.rows_deleted)
    show_problems(console, PROBLEM_COLUMNS, list(report.problems()), problems, shown=SHOWN_COLUMNS)
    trial = " (dry run: nothing was deleted)" if report.dry_run else ""
    told = counted((status, report.counts.get(status, 0)) for status in STATUSES)
    rows = sum(report.rows_deleted.values())
    removed = f"; {rows:,} rows {'would go' if report.dry_run else 'removed'}" if rows else ""
    asked = f"{report.counts.get('requested', 0):,} ids"
    console.print(f"{printable(report.outcome)}{trial}: {told} of {asked}{removed}", soft_wrap=True)


def show_rows(console: Console, rows: Mapping[str, int]) -> None:
    """How many of each table; nothing where there are none."""
    if any(rows.values()):
        show_table(console, ("table", "rows"), [(table, f"{count:,}") for table, count in rows.items() if count])
