"""Reads an Excel workbook (.xlsx, .xlsm): the rows of its first worksheet, with cells as the texts of a CSV.

1. The parts that are needed are found (workbook_parts): the workbook, its first worksheet, shared texts, styles.
2. They are inflated piece by piece into an archive of their own, and counted meanwhile: bytes and cells. What goes
   beyond the limits is refused here. The library that reads them keeps the rectangle of cells up to the last one, 32
   bytes each, filled or not: a single value in the last cell of a sheet would take 500 GiB. It reads what was counted,
   and nothing else that the archive may say of itself in a second place.
3. The library reads the copy. It takes about 90 bytes a cell, at most 400 MB, until the last row was read.
"""

import errno
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from lzma import LZMAError
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from xml.parsers import expat
from zipfile import BadZipFile, ZipFile, ZipInfo

from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum

from app.instances.csv_file import FileFault, FileRefused, Record, head_of
from app.instances.workbook_parts import CONTENT_TYPES, Census, Part, WorkbookDamaged, needed_parts

# All columns of the import in a third of the rows that a sheet can have.
MAX_CELLS = 4_000_000
MAX_INFLATED_BYTES = 512 * 1024 * 1024
READ_BYTES = 1024 * 1024

CellValue = int | float | str | bool | date | datetime | time | timedelta

# The type of a cell that holds an error, such as #N/A. The library shows these as empty; as text, it shows the error.
_error_type = re.compile(rb"""(<(?:[^\s<>/:]*:)?c\s(?:[^>]*\s)?t=)(?:"e"|'e')""")
# What the libraries raise for damage, of which the archive's reader meets most where it expects none.
_damage = (
    WorkbookDamaged, CalamineError, BadZipFile, expat.ExpatError, zlib.error, LZMAError, struct.error, EOFError,
    ValueError, RuntimeError,
)  # fmt: skip


@contextmanager
def workbook_records(source: Path, scratch: Path) -> Iterator[Iterator[Record]]:
    """The rows that are not blank; their line is the row's number in the sheet. `scratch` is a directory to work in.

    Raises FileRefused.
    """
    with TemporaryDirectory(dir=scratch) as directory:
        # The library goes by the ending of the name.
        copy = Path(directory) / "copy.xlsx"
        with _told_as_refusal():
            _copy_within_limits(source, copy)
            rows = _rows_of_first_sheet(copy)
        yield _records(rows)


@contextmanager
def _told_as_refusal() -> Iterator[None]:
    try:
        yield
    except _damage as error:
        raise _damaged() from error
    except OSError as error:
        # A place that the archive names and no file has, and a broken bzip2 stream. A full disk is another matter.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged() from error
    except BaseException as error:
        # What the library did not expect; its type has no public name and is no Exception.
        if type(error).__name__ == "PanicException":
            raise _damaged() from error
        raise


def _damaged() -> FileRefused:
    return FileRefused(FileFault.UNPARSABLE, "the Excel workbook is damaged and cannot be read")


def _copy_within_limits(source: Path, target: Path) -> None:
    try:
        archive = ZipFile(source)
    except BadZipFile:
        if CONTENT_TYPES.encode() in head_of(source):
            raise
        raise FileRefused(FileFault.TYPE_NOT_ACCEPTED, "the file is no CSV, and no Excel workbook (.xlsx)") from None
    left = MAX_INFLATED_BYTES
    with archive, ZipFile(target, "w") as copy:
        for part in needed_parts(archive):
            name = ZipInfo(part.info.filename)
            with archive.open(part.info) as content, copy.open(name, "w", force_zip64=True) as output:
                left -= _copy_part(part, content, output, left)


def _copy_part(part: Part, content: IO[bytes], output: IO[bytes], allowed_bytes: int) -> int:
    """How many bytes it has."""
    census = Census(MAX_CELLS) if part.is_counted else None
    total = 0
    for piece in _whole_tags(content):
        total += len(piece)
        if total > allowed_bytes:
            limit = f"more than {MAX_INFLATED_BYTES // 2**20} MiB"
            raise FileRefused(FileFault.UNPARSABLE, f"unpacked, the Excel workbook has {limit}; save the sheet as CSV")
        kept = piece
        if census is not None:
            if b't="e"' in piece or b"t='e'" in piece:
                kept = _error_type.sub(rb'\1"str"', piece)
            census.take(kept)
        output.write(kept)
    if census is not None:
        census.take(b"", is_last=True)
    return total


def _whole_tags(content: IO[bytes]) -> Iterator[bytes]:
    """The content in pieces that end where a tag ends, unless what is between two tags is longer than a piece."""
    left = b""
    while piece := content.read(READ_BYTES):
        piece = left + piece
        end = piece.rfind(b">") + 1 or len(piece)
        yield piece[:end]
        left = piece[end:]
    yield left


def _rows_of_first_sheet(path: Path) -> Iterable[list[CellValue]]:
    """From the sheet's row 1 on; cells from the first column that has any."""
    with CalamineWorkbook.from_path(path) as workbook:
        for number, sheet in enumerate(workbook.sheets_metadata):
            if sheet.typ is SheetTypeEnum.WorkSheet:
                return workbook.get_sheet_by_index(number).iter_rows()
    raise WorkbookDamaged("it has no worksheet")


def _records(rows: Iterable[list[CellValue]]) -> Iterator[Record]:
    for line, row in enumerate(rows, 1):
        record = Record(line, list(map(_text, row))).without_trailing_blanks()
        if record.cells:
            yield record


def _text(value: CellValue) -> str:
    """As it would stand in a CSV. (All numbers of a workbook are floats.)"""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)
