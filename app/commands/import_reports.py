"""What the server answers to an import, at once or as an operation that has ended, and how it is shown."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console

from app.commands.following import Operation
from app.commands.screen import counted, printable, show_problems

PROBLEM_COLUMNS = ("line", "name", "column", "code", "message", "value")
SHOWN_COLUMNS = ("line", "column", "code", "message")
STATUSES = ("created", "updated", "unchanged", "skipped", "invalid", "failed")
REFUSED_STATUSES = ("invalid", "failed")


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
    """`encoding` and `delimiter` are None where they are not told."""

    outcome: str
    dry_run: bool
    counts: dict[str, int]
    encoding: str | None = None
    delimiter: str | None = None
    items: list[RowReport]

    def refused(self) -> Iterator[tuple[RowReport, RowError]]:
        """Each error of each row that was not written. A skipped row's remark is none."""
        for item in self.items:
            if item.status in REFUSED_STATUSES:
                for error in item.errors:
                    yield item, error


class RefusedImport(BaseModel):
    """The problem document of an atomic import that wrote nothing."""

    detail: str
    report: ImportReport


def import_report_of(operation: Operation, refused: Iterable[RowReport]) -> ImportReport:
    """The report of an import in the background, with those of its rows that were refused, in the file's order."""
    return ImportReport(
        outcome="complete" if operation.state == "succeeded" else operation.state,
        dry_run=operation.request.dry_run,
        counts={"rows": operation.total, **operation.counts},
        items=sorted(refused, key=lambda row: row.line),
    )


def show_import(report: ImportReport, console: Console, problems: Path | None, remark: str = "") -> None:
    """`remark` is what the server said besides."""
    rows = [
        (str(item.line), item.name or "", error.column or "", error.code, error.message, error.value or "")
        for item, error in report.refused()
    ]
    show_problems(console, PROBLEM_COLUMNS, rows, problems, shown=SHOWN_COLUMNS)
    if remark:
        console.print(printable(remark), soft_wrap=True)
    counts = counted((status, report.counts.get(status, 0)) for status in STATUSES)
    trial = " (dry run: nothing was written)" if report.dry_run else ""
    outcome = printable(report.outcome)
    console.print(f"{outcome}{trial}: {counts} of {report.counts.get('rows', 0):,} rows", soft_wrap=True)
    if report.encoding is not None:
        separator = f", separated by {report.delimiter!r}" if report.delimiter else ""
        console.print(f"read as {printable(report.encoding)}{separator}", soft_wrap=True)
