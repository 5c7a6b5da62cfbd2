"""`muster delete`: shows what a deletion would remove, asks, and deletes slice by slice.

1. The ids are read from the command line, a file or standard input, each counted once.
2. The server checks every slice beforehand. Its plan tokens bind what was shown to what is done: where an instance
   changed in between, the server refuses the slice.
3. Each slice is deleted by a request of its own, so that the bar moves and an interruption loses little. The slices'
   reports are merged into one.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from app.commands.api_key import KeyFileOption, KeyOption
from app.commands.client import DEFAULT_URL, JsonBody, Server, UrlOption, connected, parsed
from app.commands.deletion_reports import DeletionPlan, DeletionReport, merged_report, summed
from app.commands.exit_codes import CommandFailed, ExitCode, reporting_failures
from app.commands.screen import counted, progress_bar, result_console, show_problems, show_table, write_problems

IDS_PER_REQUEST = 200
STANDARD_INPUT = "-"
MAX_ID_DIGITS = 19
PROBLEM_COLUMNS = ("instance", "name", "status", "code", "message")
SHOWN_COLUMNS = ("instance", "code", "message")
STATUSES = ("deleted", "blocked", "missing", "failed")


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

    def slices(self) -> list[Sequence[int]]:
        return [self.ids[start : start + IDS_PER_REQUEST] for start in range(0, len(self.ids), IDS_PER_REQUEST)]

    def body(self, ids: Sequence[int], plan_token: str | None) -> JsonBody:
        return {
            "instance_ids": list(ids),
            "mode": self.mode.value,
            "force": self.force,
            "dry_run": self.dry_run,
            "plan_token": plan_token,
            "background": False,
        }


@dataclass
class _Progress:
    """The reports that have come in so far; whatever ends the command, these are shown."""

    reports: list[DeletionReport] = field(default_factory=list)

    @property
    def reported(self) -> int:
        return sum(len(report.items) for report in self.reports)


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
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Delete instances by id.

    Shows first what would go and what stands in the way, and asks. Each instance is deleted in a transaction of its
    own: one that cannot be is reported and leaves the others alone. Running the same command again is safe.
    """
    with reporting_failures(as_json=as_json):
        request = _Request(_read_ids(ids or [], from_file), mode, force, dry_run)
        if problems is not None:
            # A path that cannot be written is better known before the deletion than after it.
            write_problems(problems, PROBLEM_COLUMNS, [])
        console = result_console(as_json=as_json)
        with connected(context, url, api_key, api_key_file) as server:
            tokens: Sequence[str | None] = [None] * len(request.slices())
            if not yes and not dry_run:
                tokens = _agreed_plan(server, request, console)
            report = _delete(server, request, tokens, console, problems, as_json=as_json)
    if report.outcome != "complete":
        raise typer.Exit(ExitCode.REFUSED)


def _read_ids(arguments: Sequence[str], from_file: str | None) -> list[int]:
    """The ids in the order given, each once."""
    given = [_id(text, "") for text in arguments if text != STANDARD_INPUT]
    if STANDARD_INPUT in arguments or from_file == STANDARD_INPUT:
        given += _ids_of_lines(sys.stdin, "standard input")
    if from_file is not None and from_file != STANDARD_INPUT:
        given += _ids_of_file(Path(from_file))
    if not given:
        raise CommandFailed("no ids: name them, or give --from-file FILE")
    return list(dict.fromkeys(given))


def _ids_of_file(path: Path) -> list[int]:
    try:
        # Spreadsheets put a byte order mark before the first line.
        with path.open(encoding="utf-8-sig") as lines:
            return list(_ids_of_lines(lines, str(path)))
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path} is not a text file with one id a line") from error


def _ids_of_lines(lines: Iterable[str], source: str) -> Iterator[int]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _id(line.strip(), f"line {number} of {source}: ")


def _id(text: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS and int(text) > 0):
        raise CommandFailed(f"{place}an id is a whole number from 1, not {text[:40]!r}")
    return int(text)


def _agreed_plan(server: Server, request: _Request, console: Console) -> list[str]:
    """Shows the plan and asks; the plan tokens of the slices. Saying no ends the command."""
    plans = [
        parsed(
            DeletionPlan,
            server.post_json(
                "api/v1/instances/batch-delete/precheck", {"instance_ids": list(ids), "mode": request.mode.value}
            ),
        )
        for ids in request.slices()
    ]
    counts = summed(plan.counts for plan in plans)
    _show_plan(plans, counts, request, console)
    # Where nothing can be deleted, the server is left to say so for each id.
    if counts.get("deletable", 0) or request.force:
        _ask(counts, request, console)
    return [plan.plan_token for plan in plans]


def _show_plan(plans: Sequence[DeletionPlan], counts: dict[str, int], request: _Request, console: Console) -> None:
    if request.mode is DeletionMode.HARD:
        _show_rows(console, summed(plan.rows for plan in plans))
    found = [row for plan in plans for row in plan.problems()]
    show_problems(console, PROBLEM_COLUMNS, found, None, shown=SHOWN_COLUMNS)
    told = counted((name, counts.get(name, 0)) for name in ("deletable", "blocked", "missing"))
    console.print(f"{request.mode.value} deletion of {len(request.ids):,} ids: {told}", soft_wrap=True)


def _show_rows(console: Console, rows: dict[str, int]) -> None:
    if any(rows.values()):
        show_table(console, ("table", "rows"), [(table, f"{count:,}") for table, count in rows.items() if count])


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


def _delete(
    server: Server,
    request: _Request,
    tokens: Sequence[str | None],
    console: Console,
    problems: Path | None,
    *,
    as_json: bool,
) -> DeletionReport:
    done = _Progress()
    try:
        _delete_slices(server, request, tokens, done)
    except (CommandFailed, KeyboardInterrupt) as failure:
        if not done.reports:
            raise
        _show(merged_report(done.reports), console, problems, as_json=as_json)
        left = len(request.ids) - done.reported
        console.print(f"{left:,} ids are not in this report; running the command again is safe", soft_wrap=True)
        if isinstance(failure, CommandFailed):
            # The report was the one JSON document of this run.
            raise CommandFailed(str(failure)) from failure
        raise
    report = merged_report(done.reports)
    _show(report, console, problems, as_json=as_json)
    return report


def _delete_slices(server: Server, request: _Request, tokens: Sequence[str | None], done: _Progress) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_bar(*columns) as bar:
        task = bar.add_task("checking" if request.dry_run else "deleting", total=len(request.ids))
        for ids, token in zip(request.slices(), tokens, strict=True):
            answer = server.post_json("api/v1/instances/batch-delete", request.body(ids, token))
            done.reports.append(parsed(DeletionReport, answer))
            bar.advance(task, len(ids))


def _show(report: DeletionReport, console: Console, problems: Path | None, *, as_json: bool) -> None:
    if report.dry_run:
        _show_rows(console, report.rows_deleted)
    show_problems(console, PROBLEM_COLUMNS, list(report.problems()), problems, shown=SHOWN_COLUMNS)
    trial = " (dry run: nothing was deleted)" if report.dry_run else ""
    told = counted((status, report.counts.get(status, 0)) for status in STATUSES)
    rows = sum(report.rows_deleted.values())
    removed = f"; {rows:,} rows {'would go' if report.dry_run else 'removed'}" if rows else ""
    asked = f"{report.counts.get('requested', 0):,} ids"
    console.print(f"{report.outcome}{trial}: {told} of {asked}{removed}", soft_wrap=True)
    if as_json:
        typer.echo(report.model_dump_json(exclude_unset=True))
