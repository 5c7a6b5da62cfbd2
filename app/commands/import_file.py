"""`muster import`: uploads a file and shows the verdict for every row that was refused.

The server answers with its report, or with an operation, which is followed to its end and reported in the same way.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import httpx
import typer
from pydantic import ValidationError
from rich.progress import BarColumn, FileSizeColumn, TextColumn, TimeElapsedColumn

from app.commands.api_key import KeyFileOption, KeyOption
from app.commands.client import DEFAULT_URL, Server, ServerRefused, UrlOption, connected, parsed
from app.commands.exit_codes import ExitCode, reporting_failures
from app.commands.following import Operation, follow, tell_begun, telling_what_goes_on
from app.commands.import_reports import PROBLEM_COLUMNS, ImportReport, RefusedImport, show_import
from app.commands.operations import DetachOption, finished_import, prepare_problems, show_detached
from app.commands.screen import progress_bar, result_console


class OnExisting(StrEnum):
    SKIP = "skip"
    UPDATE = "update"
    FAIL = "fail"


@dataclass(frozen=True)
class _Verdict:
    """A report, the JSON document to print for it, what the server said besides, and the operation that it is of."""

    report: ImportReport
    document: str
    remark: str = ""
    operation: Operation | None = None


@dataclass(frozen=True)
class _Output:
    """Where the verdict goes."""

    problems: Path | None
    as_json: bool
    detach: bool


def import_file(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="The CSV file.")
    ],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
    space_id: Annotated[
        int | None,
        typer.Option(min=1, metavar="ID", help="The space to register in; by default the only one you have."),
    ] = None,
    on_existing: Annotated[
        OnExisting,
        typer.Option(
            case_sensitive=False,
            help="What to do with a row whose name is registered: skip it, update the instance, or refuse the row.",
        ),
    ] = OnExisting.SKIP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge every row, write nothing.")] = False,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Write all rows in one transaction, or none when any is refused.")
    ] = False,
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="The file's encoding, such as utf-8 or gb18030; auto finds it out.")
    ] = "auto",
    ignore_unknown_columns: Annotated[
        bool, typer.Option("--ignore-unknown-columns", help="Pass over columns that have no meaning here.")
    ] = False,
    problems: Annotated[
        Path | None,
        typer.Option(dir_okay=False, writable=True, help="Write every problem to this CSV file.", metavar="FILE"),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Work on it in the background, however few rows there are.")
    ] = False,
    detach: DetachOption = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the report as JSON instead of tables; of an import in the background, the rows refused.",
        ),
    ] = False,
) -> None:
    """Register the instances of a CSV file.

    The server judges the whole file first and tells every error of every row; good rows are written, refused ones never
    are. Running the same command again is safe: rows that are registered already are skipped.

    What takes long is done in the background and followed to its end; Ctrl-C leaves it running, and `muster operations
    watch ID` comes back to it.

    Columns: name, db_type and host; and, as you need them, port, database_name, description, environment, credential,
    tags, sync_policy, is_active, deletion_protection.
    """
    options = {
        "on_existing": on_existing.value,
        "dry_run": _form_boolean(dry_run),
        "atomic": _form_boolean(atomic),
        "encoding": encoding,
        "ignore_unknown_columns": _form_boolean(ignore_unknown_columns),
        "background": "true" if background or detach else "auto",
    }
    space = {} if space_id is None else {"space_id": str(space_id)}
    with reporting_failures(as_json=as_json):
        prepare_problems(problems, PROBLEM_COLUMNS, detach=detach)
        with connected(context, url, api_key, api_key_file) as server:
            is_complete = _import(server, file, options | space, _Output(problems, as_json, detach))
    if not is_complete:
        raise typer.Exit(ExitCode.REFUSED)


def _form_boolean(value: bool) -> str:
    return "true" if value else "false"


def _import(server: Server, file: Path, fields: dict[str, str], output: _Output) -> bool:
    """Whether no row was refused, as far as that is waited for."""
    answer = _upload(server, file, fields)
    if not isinstance(answer, _Verdict):
        operation = parsed(Operation, answer)
        if output.detach:
            show_detached(operation, answer.text, as_json=output.as_json)
            return True
        answer = _followed(server, operation)
    _show(answer, output)
    if answer.operation is not None:
        answer.operation.require_verdicts()
    return answer.report.outcome == "complete"


def _upload(server: Server, file: Path, fields: dict[str, str]) -> _Verdict | httpx.Response:
    """The verdict, or the answer with an operation that will have it."""
    try:
        with _read_with_progress(file) as content:
            response = server.post_file("api/v1/instances/batch-create", fields, file.name, content)
    except ServerRefused as refusal:
        try:
            refused = RefusedImport.model_validate_json(refusal.document)
        except ValidationError:
            raise refusal from None
        return _Verdict(refused.report, refusal.document, refused.detail)
    if response.status_code == HTTPStatus.ACCEPTED:
        return response
    return _Verdict(parsed(ImportReport, response), response.text)


def _followed(server: Server, operation: Operation) -> _Verdict:
    with telling_what_goes_on([operation]):
        tell_begun(operation)
        ended = follow(server, operation)
    report = finished_import(server, ended)
    return _Verdict(report, report.model_dump_json(exclude_unset=True), ended.remark, ended)


class _WatchedFile(BufferedIOBase):
    """A file that tells how far it was read.

    The HTTP client takes its length from `fileno`. A pipe has none, and without `fileno` it is sent in chunks.
    """

    def __init__(self, file: BinaryIO, on_read: Callable[[int], None], *, has_size: bool) -> None:
        self._file = file
        self._on_read = on_read
        self._has_size = has_size

    def read(self, size: int | None = -1, /) -> bytes:
        content = self._file.read(-1 if size is None else size)
        self._on_read(len(content))
        return content

    def fileno(self) -> int:
        return self._file.fileno() if self._has_size else super().fileno()


@contextmanager
def _read_with_progress(file: Path) -> Iterator[BinaryIO]:
    """The file, with a bar that follows its upload and then waits for the report."""
    columns = (TextColumn("{task.description}"), BarColumn(), FileSizeColumn(), TimeElapsedColumn())
    with file.open("rb") as content, progress_bar(*columns) as bar:
        status = os.fstat(content.fileno())
        has_size = stat.S_ISREG(status.st_mode)
        uploading = bar.add_task("uploading", total=status.st_size if has_size else None)

        def advance(count: int) -> None:
            bar.advance(uploading, count)
            if count == 0:
                # How long this takes is not known, and rich takes no total from a task that had one.
                bar.update(uploading, visible=False)
                bar.add_task("judging and writing", total=None, completed=int(bar.tasks[uploading].completed))

        yield cast(BinaryIO, _WatchedFile(content, advance, has_size=has_size))


def _show(verdict: _Verdict, output: _Output) -> None:
    show_import(verdict.report, result_console(as_json=output.as_json), output.problems, verdict.remark)
    if output.as_json:
        typer.echo(verdict.document)
