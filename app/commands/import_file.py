"""`muster import`: uploads a CSV file and shows the verdict for every row that was refused."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer
from pydantic import BaseModel, ValidationError
from rich.progress import BarColumn, FileSizeColumn, TextColumn, TimeElapsedColumn

from app.commands.api_key import KeyFileOption, KeyOption
from app.commands.client import DEFAULT_URL, Server, ServerRefused, UrlOption, connected, parsed
from app.commands.exit_codes import ExitCode, reporting_failures
from app.commands.screen import counted, printable, progress_bar, result_console, show_problems, write_problems

PROBLEM_COLUMNS = ("line", "name", "column", "code", "message", "value")
SHOWN_COLUMNS = ("line", "column", "code", "message")
STATUSES = ("created", "updated", "unchanged", "skipped", "invalid", "failed")


class OnExisting(StrEnum):
    SKIP = "skip"
    UPDATE = "update"
    FAIL = "fail"


class RowError(BaseModel):
    column: str | None = None
    code: str
    message: str
    value: str | None = None


class RowReport(BaseModel):
    line: int
    name: str | None = None
    status: str
    errors: list[RowError] = []


class ImportReport(BaseModel):
    outcome: str
    dry_run: bool
    counts: dict[str, int]
    encoding: str
    delimiter: str
    items: list[RowReport]

    def refused(self) -> Iterator[tuple[RowReport, RowError]]:
        """Each error of each row that was not written. A skipped row's remark is none."""
        for item in self.items:
            if item.status in {"invalid", "failed"}:
                for error in item.errors:
                    yield item, error


class RefusedImport(BaseModel):
    """The problem document of an atomic import that wrote nothing."""

    detail: str
    report: ImportReport


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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the server's report as JSON instead of tables.")
    ] = False,
) -> None:
    """Register the instances of a CSV file.

    The server judges the whole file first and tells every error of every row; good rows are written, refused ones never
    are. Running the same command again is safe: rows that are registered already are skipped.

    Columns: name, db_type and host; and, as you need them, port, database_name, description, environment, credential,
    tags, sync_policy, is_active, deletion_protection.
    """
    fields = {
        "on_existing": on_existing.value,
        "dry_run": _form_boolean(dry_run),
        "atomic": _form_boolean(atomic),
        "encoding": encoding,
        "ignore_unknown_columns": _form_boolean(ignore_unknown_columns),
        # The report is wanted here and now, however many rows there are.
        "background": "false",
    }
    if space_id is not None:
        fields["space_id"] = str(space_id)
    with reporting_failures(as_json=as_json):
        if problems is not None:
            # A path that cannot be written is better known before the import than after it.
            write_problems(problems, PROBLEM_COLUMNS, [])
        with connected(context, url, api_key, api_key_file) as server:
            verdict = _upload(server, file, fields)
        _show(verdict, problems, as_json=as_json)
    if verdict.report.outcome != "complete":
        raise typer.Exit(ExitCode.REFUSED)


def _form_boolean(value: bool) -> str:
    return "true" if value else "false"


@dataclass(frozen=True)
class _Verdict:
    """A report, the JSON document that held it, and what the server said besides."""

    report: ImportReport
    document: str
    remark: str = ""


def _upload(server: Server, file: Path, fields: dict[str, str]) -> _Verdict:
    try:
        with _read_with_progress(file) as content:
            response = server.post_file("api/v1/instances/batch-create", fields, file.name, content)
    except ServerRefused as refusal:
        try:
            refused = RefusedImport.model_validate_json(refusal.document)
        except ValidationError:
            raise refusal from None
        return _Verdict(refused.report, refusal.document, refused.detail)
    return _Verdict(parsed(ImportReport, response), response.text)


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


def _show(verdict: _Verdict, problems: Path | None, *, as_json: bool) -> None:
    console = result_console(as_json=as_json)
    report = verdict.report
    rows = [
        (str(item.line), item.name or "", error.column or "", error.code, error.message, error.value or "")
        for item, error in report.refused()
    ]
    show_problems(console, PROBLEM_COLUMNS, rows, problems, shown=SHOWN_COLUMNS)
    if verdict.remark:
        console.print(printable(verdict.remark), soft_wrap=True)
    counts = counted((status, report.counts.get(status, 0)) for status in STATUSES)
    trial = " (dry run: nothing was written)" if report.dry_run else ""
    console.print(f"{report.outcome}{trial}: {counts} of {report.counts.get('rows', 0):,} rows", soft_wrap=True)
    console.print(f"read as {report.encoding}, separated by {report.delimiter!r}", soft_wrap=True)
    if as_json:
        typer.echo(verdict.document)
