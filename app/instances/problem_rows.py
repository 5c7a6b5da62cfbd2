"""Writes the rows of an uploaded file that were not applied, as they came, each with what is wrong with it.

Pure, and made to run in the judging process. Both inputs are in the order of lines, so they are gone through once, side
by side. A row is written so that an import of the file, corrected, judges each other cell as it did the first time.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from app.audit.redaction import REMOVED, speaks_of_secret
from app.csv_cells import neutralized, restored
from app.instances.csv_file import Record
from app.instances.csv_rows import COLUMNS, PROBLEM_COLUMNS, header_of
from app.instances.table_file import open_table

# With the mark, without which spreadsheets take UTF-8 for the encoding of their own system; the import skips it.
ENCODING = "utf-8-sig"
SEPARATOR = " | "


class Problem(NamedTuple):
    """What is wrong with the row of this line; of several errors, columns, codes and messages are joined."""

    line: int
    column: str
    code: str
    message: str


def write_problems(output: Path, problems: Iterable[Problem], mode: str = "ab") -> None:
    """Adds them to a file for `write_problem_rows`."""
    with output.open(mode) as file:
        file.writelines(orjson.dumps(tuple(problem)) + b"\n" for problem in problems)


def write_problem_rows(source: Path, problems: Path, target: Path, encoding: str, ignore_unknown_columns: bool) -> None:
    """The rows of `source` that have a problem, as CSV. Raises FileRefused."""
    with (
        open_table(source, target.parent, encoding, COLUMNS) as table,
        problems.open("rb") as found,
        target.open("w", encoding=ENCODING, newline="") as output,
    ):
        form = _RowForm(header_of(table, ignore_unknown_columns).cells)
        writer = csv.writer(output)
        writer.writerow(form.header)
        record = Record(0, [])
        for line in found:
            problem = Problem(*orjson.loads(line))
            while record.line < problem.line:
                record = next(table.records, Record(problem.line, []))
            writer.writerow(form.cells(record.cells if record.line == problem.line else [], problem))


class _RowForm:
    """How rows are written under a file's header: without the columns of an earlier file of problems, then these anew.

    What a row has beyond the header follows at the end, so that it is refused again until somebody has seen to it.
    """

    def __init__(self, header: Sequence[str]) -> None:
        names = [cell.strip().lower() for cell in header]
        self._width = len(names)
        self._kept = [position for position, name in enumerate(names) if name not in PROBLEM_COLUMNS]
        self._secret = [position for position, name in enumerate(header) if speaks_of_secret(name)]
        self.header = [*(neutralized(header[position].strip()) for position in self._kept), *PROBLEM_COLUMNS]

    def cells(self, cells: Sequence[str], problem: Problem) -> list[str]:
        shown = [neutralized(restored(cell.strip())) for cell in cells]
        shown += [""] * (self._width - len(shown))
        for position in self._secret_positions(shown):
            shown[position] = REMOVED if shown[position] else ""
        surplus = shown[self._width :]
        while surplus and not surplus[-1]:
            surplus.pop()
        return [*(shown[position] for position in self._kept), *_described(problem), *surplus]

    def _secret_positions(self, cells: Sequence[str]) -> Iterable[int]:
        """In a row with too many cells a secret may stand further right than its column."""
        if self._secret and len(cells) > self._width:
            return range(self._secret[0], len(cells))
        return self._secret


def _described(problem: Problem) -> Iterator[str]:
    yield str(problem.line)
    yield from map(neutralized, problem[1:])
