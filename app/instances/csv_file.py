"""How an uploaded file is to be read: whether it is text at all, its delimiter, its records. csv_encoding decodes it.

The delimiter is the one under which the first line holds most of the known columns; that is surer than sniffing.
"""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from app.errors import cut

DELIMITERS = (",", ";", "\t", "|")
HEAD_BYTES = 4096
# A cell can be as long as the largest upload; what is too long for its column is that row's error.
csv.field_size_limit(2**31 - 1)

_signatures = (
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"SQLite format 3\x00", "an SQLite database"),
)


class FileFault(StrEnum):
    TYPE_NOT_ACCEPTED = "type_not_accepted"
    UNPARSABLE = "unparsable"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class FaultDetail:
    """One thing wrong with the file as a whole; `column` and `line` where there is one to name."""

    code: str
    message: str
    column: str | None = None
    line: int | None = None
    value: str | None = None


class FileRefused(Exception):
    """The file cannot be judged at all. Its arguments are all there is, so that it survives being pickled."""

    def __init__(self, fault: FileFault, message: str, details: tuple[FaultDetail, ...] = ()) -> None:
        super().__init__(fault, message, details)
        self.fault = fault
        self.message = message
        self.details = details


def head_of(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)


def require_text(source: Path) -> None:
    """Refuses a file of nothing but whitespace, and one that begins as other types of file do."""
    head = head_of(source)
    if len(head) < HEAD_BYTES and not head.strip():
        raise FileRefused(FileFault.EMPTY, "the file is empty")
    for signature, meaning in _signatures:
        if head.startswith(signature):
            raise FileRefused(FileFault.TYPE_NOT_ACCEPTED, f"the file is {meaning}, not a CSV; save the sheet as CSV")


def detect_delimiter(header: str, known_columns: Collection[str]) -> str:
    """The delimiter that finds most known columns in the header; a comma when none finds any."""

    def found(delimiter: str) -> int:
        return sum(
            cell.strip().lower() in known_columns for cell in next(csv.reader([header], delimiter=delimiter), [])
        )

    return max(DELIMITERS, key=found)


class Record(NamedTuple):
    """One CSV record: its first line as an editor counts, and its cells, or why it could not be read."""

    line: int
    cells: list[str]
    unreadable: str | None = None

    def without_trailing_blanks(self) -> "Record":
        """As a header: spreadsheets leave empty cells behind the last column."""
        named = [number for number, cell in enumerate(self.cells, 1) if cell.strip()]
        return self._replace(cells=self.cells[: max(named, default=0)])


def read_records(lines: Iterator[str], delimiter: str) -> Iterator[Record]:
    """Every record that is not a blank line. Strict about quotes, so that a file cut inside one is noticed."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(line, [], _explained(str(error)))
            continue
        if cells and (len(cells) > 1 or cells[0].strip()):
            yield Record(line, cells)


def _explained(message: str) -> str:
    if "end of data" in message:
        return "a quote opened in this record is never closed: the file may have been cut"
    if "expected after" in message:
        return "there is text after a closing quote; quotes inside a cell are written twice"
    return f"not readable as CSV: {cut(message)}"
