"""The records of an uploaded file: a CSV or an Excel workbook, told from its content and never from its name."""

import mmap
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

from app.instances.csv_encoding import BYTE_ORDER_MARK, detect_encoding
from app.instances.csv_file import (
    FileFault,
    FileRefused,
    Record,
    detect_delimiter,
    head_of,
    read_records,
    require_text,
)
from app.instances.xlsx_file import workbook_records

# What a report says of a workbook's encoding; its delimiter is empty.
XLSX = "xlsx"

_zip_signature = b"PK\x03\x04"
_old_office_signature = b"\xd0\xcf\x11\xe0"
# How a workbook with a password is packed: https://learn.microsoft.com/openspecs/office_file_formats/ms-offcrypto
_encrypted_package = "EncryptedPackage".encode("utf-16-le")


@dataclass(frozen=True, slots=True)
class Table:
    """`records` can be read once; the header is the first of them."""

    encoding: str
    delimiter: str
    records: Iterator[Record]


@contextmanager
def open_table(source: Path, scratch: Path, encoding: str, known_columns: Collection[str]) -> Iterator[Table]:
    """The file's records, without blank ones. `encoding` is `auto` or one of ENCODINGS; `scratch` a directory to work
    in. Raises FileRefused."""
    head = head_of(source)
    if head.startswith(_zip_signature):
        with workbook_records(source, scratch) as records:
            yield Table(XLSX, "", records)
        return
    if head.startswith(_old_office_signature):
        _refuse_encrypted(source)
    require_text(source)
    codec = detect_encoding(source, encoding)
    with source.open(encoding=codec, newline="") as text:
        delimiter = detect_delimiter(_first_line(text), known_columns)
        text.seek(0)
        # A codec that was asked for by name leaves the mark in.
        start = text.readline().removeprefix(BYTE_ORDER_MARK)
        records = read_records(chain((start,), text), delimiter)
        yield Table("utf-8" if codec == "utf-8-sig" else codec, delimiter, records)


def _refuse_encrypted(source: Path) -> None:
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_encrypted_package) >= 0:
            message = "the Excel workbook is protected by a password; save it without one"
            raise FileRefused(FileFault.UNPARSABLE, message)


def _first_line(text: TextIO) -> str:
    """The first line that is not blank; cut, because a file without line breaks is one line."""
    while line := text.readline(64 * 1024):
        if line.strip():
            return line.strip("\r\n" + BYTE_ORDER_MARK)
    return ""
