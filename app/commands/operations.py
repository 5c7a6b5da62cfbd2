"""Operations on a server: what the commands that start, follow and list them share."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console

from app.commands.client import Server, parsed
from app.commands.deletion_reports import DeletionReport, ItemReport, deletion_report_of, show_deletion
from app.commands.exit_codes import CommandFailed, ExitCode
from app.commands.following import Operation, follow, state_of, telling_what_goes_on
from app.commands.import_reports import (
    REFUSED_STATUSES,
    ImportReport,
    RowReport,
    import_report_of,
    show_import,
)
from app.commands.screen import counted, error_console, printable, result_console, show_table, write_problems

ItemT = TypeVar("ItemT", bound=BaseModel)

PAGE_ITEMS = 200
LIST_COLUMNS = ("id", "kind", "state", "done", "total", "created", "finished", "of")
EXIT_CODES: Mapping[str, ExitCode] = {
    "succeeded": ExitCode.DONE,
    "partial": ExitCode.REFUSED,
    "cancelled": ExitCode.REFUSED,
    "failed": ExitCode.FAILED,
}

DetachOption = Annotated[
    bool,
    typer.Option("--detach", help="Have it done in the background, print the operation's id and do not wait for it."),
]


class Page(BaseModel, Generic[ItemT]):
    items: list[ItemT]
    next_cursor: str | None = None


def operation_path(operation_id: int) -> str:
    return f"api/v1/operations/{operation_id}"


def finished_import(server: Server, operation: Operation) -> ImportReport:
    """The report of an import that has ended, with the rows that were refused."""
    rows = (row for status in REFUSED_STATUSES for row in _items(server, operation, RowReport, status))
    return import_report_of(operation, rows)


def finished_deletion(server: Server, operation: Operation) -> DeletionReport:
    """The report of a deletion that has ended, with every id."""
    return deletion_report_of(operation, list(_items(server, operation, ItemReport)))


def _items(server: Server, operation: Operation, kind: type[ItemT], status: str | None = None) -> Iterator[ItemT]:
    """Page by page; of one status, or of any. Asks for none where the operation counts none."""
    if status is not None and not operation.counts.get(status):
        return
    asked: list[tuple[str, str | int]] = [("limit", PAGE_ITEMS)]
    if status is not None:
        asked.append(("status", status))
    cursor: str | None = ""
    while cursor is not None:
        parameters = [*asked, ("cursor", cursor)] if cursor else asked
        page = parsed(Page[kind], server.get(f"{operation.path}/items", parameters))  # type: ignore[valid-type]
        yield from page.items
        cursor = page.next_cursor


def prepare_problems(problems: Path | None, columns: tuple[str, ...], *, detach: bool) -> None:
    """Raises CommandFailed or OSError for a file that nothing could be written to at the end."""
    if problems is None:
        return
    if detach:
        raise CommandFailed(
            "--problems needs the end, which --detach does not wait for; see muster operations problems"
        )
    # A path that cannot be written is better known before the work than after it.
    write_problems(problems, columns, [])


def show_detached(operation: Operation, document: str, *, as_json: bool) -> None:
    """The id, or the whole as JSON, alone on standard output, for scripts."""
    typer.echo(document if as_json else str(operation.id))
    error_console().print(f"`muster operations watch {operation.id}` follows it to its end", soft_wrap=True)


def show_page(server: Server, parameters: list[tuple[str, str | int]], *, as_json: bool) -> None:
    answer = server.get("api/v1/operations", parameters)
    page = parsed(Page[Operation], answer)
    if as_json:
        typer.echo(answer.text)
        return
    rows = [
        (
            str(each.id),
            each.kind,
            state_of(each),
            f"{each.done:,}",
            f"{each.total:,}",
            each.created_at,
            each.finished_at or "",
            each.request.filename or each.request.mode or "",
        )
        for each in page.items
    ]
    console = result_console(as_json=False)
    show_table(console, LIST_COLUMNS, rows)
    if page.next_cursor is not None:
        console.print("… and older ones, see --limit", soft_wrap=True)


def show_operation(operation: Operation, document: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(document)
        return
    console = result_console(as_json=False)
    speed = f", {operation.rate:,.0f} a second" if operation.rate is not None else ""
    what = f"operation {operation.id} ({printable(operation.kind)}): {state_of(operation)}"
    _say(console, f"{what}, {operation.done:,} of {operation.total:,} done{speed}")
    _say(console, f"  items     {printable(counted(operation.counts.items()))}")
    told = {"created": operation.created_at, "started": operation.started_at, "finished": operation.finished_at}
    for name, moment in told.items():
        if moment is not None:
            _say(console, f"  {name:<9} {printable(moment)}")
    if operation.error is not None:
        _say(console, f"  error     {operation.error.code}: {printable(operation.error.message)}")


def watch(server: Server, operation_id: int, *, as_json: bool) -> ExitCode:
    """Follows it to its end and shows what became of it."""
    path = operation_path(operation_id)
    operation = parsed(Operation, server.get(path))
    with telling_what_goes_on([operation]):
        ended = follow(server, operation)
    if as_json:
        typer.echo(server.get(path).text)
    else:
        _show_end(server, ended)
    return EXIT_CODES.get(ended.state, ExitCode.FAILED)


def _show_end(server: Server, ended: Operation) -> None:
    console = result_console(as_json=False)
    match ended.kind:
        case "instance_import":
            show_import(finished_import(server, ended), console, None, ended.remark)
        case "instance_deletion":
            show_deletion(finished_deletion(server, ended), console, None)
        case _:
            _say(console, f"{state_of(ended)}: {printable(counted(ended.counts.items()))} of {ended.total:,} items")
    ended.require_verdicts()


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
