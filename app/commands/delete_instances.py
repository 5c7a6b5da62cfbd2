"""`muster delete`: shows what a deletion would remove, asks, and follows the deletion to its end.

1. The ids are read from the command line, a file or standard input, each counted once.
2. The server checks them beforehand, in slices of as many as it takes in one request. Its plan tokens bind what was
   shown to what is done: where an instance changed in between, the server refuses the slice.
3. Each slice is asked for by a request of its own, which is answered with a report, or with an operation, where there
   are many ids. When all are asked for, the operations are followed to their ends, one after the other.
4. What became of the slices is merged into one report. An interruption leaves the operations running.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, TypeVar

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from app.commands.api_key import KeyFileOption, KeyOption
from app.commands.client import DEFAULT_URL, JsonBody, Server, ServerRefused, UrlOption, connected, parsed
from app.commands.deletion_reports import (
    PROBLEM_COLUMNS,
    SHOWN_COLUMNS,
    DeletionPlan,
    DeletionReport,
    merged_report,
    show_deletion,
    show_rows,
    summed,
)
from app.commands.exit_codes import CommandFailed, ExitCode, reporting_failures
from app.commands.following import Operation, follow, tell_begun, telling_what_goes_on
from app.commands.instance_ids import read_ids
from app.commands.operations import DetachOption, finished_deletion, prepare_problems, show_detached
from app.commands.screen import counted, progress_bar, result_console, show_problems

# As many as the server takes where nothing else is configured; where it takes fewer, it says so.
IDS_PER_REQUEST = 10_000

AnswerT = TypeVar("AnswerT")


class DeletionMode(StrEnum):
    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True)
class _Request:
    """What was asked for, on the command line."""

    ids: Sequence[int]
    mode: DeletionMode
    force: bool
    dry_run: bool
    detach: bool

    def body(self, part: "_Slice") -> JsonBody:
        return {
            "instance_ids": list(part.ids),
            "mode": self.mode.value,
            "force": self.force,
            "dry_run": self.dry_run,
            "plan_token": part.plan_token,
            "background": True if self.detach and not self.dry_run else "auto",
        }


@dataclass(frozen=True)
class _Slice:
    """Ids for one request."""

    ids: Sequence[int]
    plan_token: str | None = None


def delete_instances(
    context: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="The instances' ids; - reads them from standard input.")
    ] = None,
    from_file: Annotated[
        str | None, typer.Option(help="Read ids from this file, one a line; - is standard input.", metavar="FILE")
    ] = None,
    mode: Annotated[
        DeletionMode,
        typer.Option(
            case_sensitive=False,
            help="soft hides an instance and can be undone; hard removes it with every row that refers to it.",
        ),
    ] = DeletionMode.SOFT,
    force: Annotated[
        bool,
        typer.Option("--force", help="Override blockers, such as a running sync; deletion protection is never."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be deleted, delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not show the plan and do not ask.")] = False,
    problems: Annotated[
        Path | None,
        typer.Option(dir_okay=False, writable=True, help="Write every problem to this CSV file.", metavar="FILE"),
    ] = None,
    detach: DetachOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Delete instances by id.

    Shows first what would go and what stands in the way, and asks. Each instance is deleted in a transaction of its
    own: one that cannot be is reported and leaves the others alone. Running the same command again is safe.

    What takes long is done in the background and followed to its end; Ctrl-C leaves it running, and `muster operations
    watch ID` comes back to it.
    """
    with reporting_failures(as_json=as_json):
        request = _Request(read_ids(ids or [], from_file), mode, force, dry_run, detach)
        prepare_problems(problems, PROBLEM_COLUMNS, detach=detach)
        console = result_console(as_json=as_json)
        with connected(context, url, api_key, api_key_file) as server:
            slices = [_Slice(each) for each in _in_slices(request.ids)]
            if not yes and not dry_run:
                slices = _agreed_plan(server, request, console)
            is_complete = _Deletion(server, request, slices).carry_out(console, problems, as_json=as_json)
    if not is_complete:
        raise typer.Exit(ExitCode.REFUSED)


def _in_slices(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + IDS_PER_REQUEST] for start in range(0, len(ids), IDS_PER_REQUEST)]


def _agreed_plan(server: Server, request: _Request, console: Console) -> list[_Slice]:
    """Shows the plan and asks; the slices with their plan tokens. Saying no ends the command."""

    def check(part: _Slice) -> DeletionPlan:
        body: JsonBody = {"instance_ids": list(part.ids), "mode": request.mode.value}
        return parsed(DeletionPlan, server.post_json("api/v1/instances/batch-delete/precheck", body))

    checked = list(_answered([_Slice(each) for each in _in_slices(request.ids)], check))
    plans = [plan for _, plan in checked]
    counts = summed(plan.counts for plan in plans)
    _show_plan(plans, counts, request, console)
    # Where nothing can be deleted, the server is left to say so for each id.
    if counts.get("deletable", 0) or request.force:
        _ask(counts, request, console)
    return [_Slice(part.ids, plan.plan_token) for part, plan in checked]


def _answered(slices: Sequence[_Slice], ask: Callable[[_Slice], AnswerT]) -> Iterator[tuple[_Slice, AnswerT]]:
    """Each slice with its answer; one that was not planned yet, with more ids than the server takes, is halved."""
    left = list(reversed(slices))
    while left:
        part = left.pop()
        try:
            answer = ask(part)
        except ServerRefused as refusal:
            if not _has_too_many_ids(refusal) or part.plan_token is not None or len(part.ids) < 2:
                raise
            half = len(part.ids) // 2
            left += [_Slice(part.ids[half:]), _Slice(part.ids[:half])]
            continue
        yield part, answer


def _has_too_many_ids(refusal: ServerRefused) -> bool:
    return any(each.pointer == "/body/instance_ids" and each.code == "too_long" for each in refusal.problem.errors)


def _show_plan(plans: Sequence[DeletionPlan], counts: dict[str, int], request: _Request, console: Console) -> None:
    if request.mode is DeletionMode.HARD:
        show_rows(console, summed(plan.rows for plan in plans))
    found = [row for plan in plans for row in plan.problems()]
    show_problems(console, PROBLEM_COLUMNS, found, None, shown=SHOWN_COLUMNS)
    told = counted((name, counts.get(name, 0)) for name in ("deletable", "blocked", "missing"))
    console.print(f"{request.mode.value} deletion of {len(request.ids):,} ids: {told}", soft_wrap=True)


def _ask(counts: dict[str, int], request: _Request, console: Console) -> None:
    if not _can_ask():
        raise CommandFailed("there is no terminal to ask on; say --yes to delete without asking")
    wanted = f"{counts.get('deletable', 0):,} instances"
    if request.force and counts.get("blocked", 0):
        wanted += f" and of the {counts['blocked']:,} blocked those that force overrides"
    consequence = "for good, with all their rows" if request.mode is DeletionMode.HARD else "(they can be restored)"
    try:
        said = console.input(f"Delete {wanted} {consequence}? [y/N] ", markup=False)
    except EOFError:
        raise KeyboardInterrupt from None
    if said.strip().lower() not in {"y", "yes"}:
        raise CommandFailed("nothing was deleted")


def _can_ask() -> bool:
    return sys.stdin.isatty()


class _Deletion:
    """What has become of the slices so far; whatever ends the command, this is shown."""

    def __init__(self, server: Server, request: _Request, slices: Sequence[_Slice]) -> None:
        self._server = server
        self._request = request
        self._slices = slices
        # In the order of the slices: the report, or the operation that will have it.
        self._answers: list[DeletionReport | Operation] = []
        self._under_way: list[Operation] = []
        self._ended: list[Operation] = []

    def carry_out(self, console: Console, problems: Path | None, *, as_json: bool) -> bool:
        """Whether every id was deleted, as far as that is waited for."""
        try:
            with telling_what_goes_on(self._under_way):
                self._ask_for_all(as_json=as_json)
                self._follow_all()
            for operation in self._ended:
                operation.require_verdicts()
        except (CommandFailed, KeyboardInterrupt) as failure:
            if self._shown(console, problems, as_json=as_json) is None:
                raise
            if isinstance(failure, CommandFailed):
                # The report was the one JSON document of this run.
                raise CommandFailed(str(failure)) from failure
            raise
        report = self._shown(console, problems, as_json=as_json)
        return report is None or report.outcome == "complete"

    def _ask_for_all(self, *, as_json: bool) -> None:
        for _, answer in _answered(self._slices, self._ask_for):
            if answer.status_code != HTTPStatus.ACCEPTED:
                self._answers.append(parsed(DeletionReport, answer))
                continue
            operation = parsed(Operation, answer)
            if self._request.detach:
                show_detached(operation, answer.text, as_json=as_json)
            else:
                self._answers.append(operation)
                self._under_way.append(operation)
                tell_begun(operation)

    def _ask_for(self, part: _Slice) -> httpx.Response:
        """The bar only tells that it goes on; how far it is, the server tells of operations."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with progress_bar(*columns) as bar:
            doing = "checking" if self._request.dry_run else "deleting"
            bar.add_task(f"{doing} {len(part.ids):,} ids", total=None)
            return self._server.post_json("api/v1/instances/batch-delete", self._request.body(part))

    def _follow_all(self) -> None:
        for place, answer in enumerate(self._answers):
            if isinstance(answer, Operation):
                ended = follow(self._server, answer)
                self._answers[place] = finished_deletion(self._server, ended)
                self._under_way.remove(answer)
                self._ended.append(ended)

    def _shown(self, console: Console, problems: Path | None, *, as_json: bool) -> DeletionReport | None:
        """The report that was shown; None when there is none yet."""
        reports = [answer for answer in self._answers if isinstance(answer, DeletionReport)]
        if not reports:
            return None
        report = merged_report(reports)
        show_deletion(report, console, problems)
        if as_json:
            typer.echo(report.model_dump_json(exclude_unset=True, exclude_none=True))
        left = len(self._request.ids) - len(report.items)
        if left > 0 and not self._request.detach:
            console.print(f"{left:,} ids are not in this report; running the command again is safe", soft_wrap=True)
        return report
