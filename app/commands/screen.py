"""What commands show to people: pretty on a terminal, plain lines everywhere else.

Texts that came from a server or a file may hold anything: control characters are shown as escapes, and nothing is read
as markup.
"""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from app.csv_cells import neutralized

SHOWN_PROBLEMS = 50


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, force_terminal=stream.isatty(), markup=False, emoji=False, highlight=False)


def error_console() -> Console:
    return _console(stderr=True)


def result_console(*, as_json: bool) -> Console:
    """For results; where standard output is for JSON, people read them on standard error."""
    return _console(stderr=as_json)


def progress_bar(*columns: str | ProgressColumn) -> Progress:
    """A bar on standard error, or nothing where that is not a terminal."""
    console = error_console()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def printable(text: str, *, keep_lines: bool = False) -> str:
    """The text with everything that is not for showing (escape sequences, line breaks) as Python writes it."""
    return "".join(each if each.isprintable() or (keep_lines and each == "\n") else repr(each)[1:-1] for each in text)


def show_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose last column takes what room is left; without a terminal, aligned lines of any length."""
    shown = [[printable(cell) for cell in row] for row in rows]
    if not console.is_terminal:
        _show_lines(console, columns, shown)
        return
    table = Table(*columns, header_style="bold")
    for row in shown:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _show_lines(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), soft_wrap=True)


def show_problems(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    problems_file: Path | None,
    *,
    shown: Sequence[str],
) -> None:
    """The first problems as a table of the `shown` columns, and all of them, whole, in the file where one is wanted."""
    if rows:
        places = [columns.index(column) for column in shown]
        show_table(console, shown, [[row[place] for place in places] for row in rows[:SHOWN_PROBLEMS]])
    more = len(rows) - SHOWN_PROBLEMS
    if more > 0:
        console.print(f"… and {more:,} more, see {problems_file or '--problems FILE'}", soft_wrap=True)
    if problems_file is not None:
        write_problems(problems_file, columns, rows)
        console.print(f"{len(rows):,} problems written to {problems_file}", soft_wrap=True)


def write_problems(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """All of them, with cells that a spreadsheet would run as formulas made harmless."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([neutralized(cell) for cell in row] for row in rows)


def counted(counts: Iterable[tuple[str, int]]) -> str:
    """`3 created, 1 invalid`: what is not zero, in the order given."""
    return ", ".join(f"{count:,} {name}" for name, count in counts if count) or "nothing"
