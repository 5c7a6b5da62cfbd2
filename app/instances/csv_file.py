"""How an uploaded file is to be read: whether it is text at all, its encoding, its delimiter.

Encoding, in this order: a byte order mark; UTF-16 without one, by its pattern of zero bytes; strict UTF-8; what
charset-normalizer thinks of the lines that hold other bytes, with GB18030 and cp1252 as the candidates. Whatever is
chosen must decode the whole file.

The delimiter is the one under which the first line holds most of the known columns; that is surer than sniffing.
"""

import codecs
import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from charset_normalizer import from_bytes

from app.errors import cut

DELIMITERS = (",", ";", "\t", "|")
READ_BYTES = 1024 * 1024
SAMPLE_BYTES = 256 * 1024
# A cell can be as long as the largest upload; what is too long for its column is that row's error.
csv.field_size_limit(2**31 - 1)

_fallback_encodings = ("gb18030", "cp1252")
# Names under which people ask for an encoding, and the codec that reads it.
ENCODINGS = {
    "utf-8": "utf-8", "utf8": "utf-8", "utf-8-sig": "utf-8-sig",
    "utf-16": "utf-16", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be",
    "gb18030": "gb18030", "gbk": "gb18030", "gb2312": "gb18030",
    "cp1252": "cp1252", "windows-1252": "cp1252", "latin-1": "cp1252", "iso-8859-1": "cp1252",
}  # fmt: skip
_marks = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, None),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_signatures = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"),
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


def detect_encoding(source: Path, requested: str) -> str:
    """The codec that decodes the whole file; `requested` is `auto` or one of ENCODINGS."""
    with source.open("rb") as file:
        head = file.read(4096)
    if not head.strip():
        raise FileRefused(FileFault.EMPTY, "the file is empty")
    for signature, meaning in _signatures:
        if head.startswith(signature):
            raise FileRefused(FileFault.TYPE_NOT_ACCEPTED, f"the file is {meaning}, not a CSV; save the sheet as CSV")
    if requested != "auto":
        codec = ENCODINGS[requested]
        _require_decodable(source, codec, requested)
        return codec
    marked = _by_mark(head) or _utf16_without_mark(head)
    if marked is not None:
        _require_decodable(source, marked, marked)
        return marked
    if undecodable_line(source, "utf-8") is None:
        return "utf-8"
    return _legacy_encoding(source)


def _by_mark(head: bytes) -> str | None:
    for mark, codec in _marks:
        if head.startswith(mark):
            if codec is None:
                raise FileRefused(FileFault.UNPARSABLE, "UTF-32 is not read; save the file as UTF-8")
            return codec
    return None


def _utf16_without_mark(head: bytes) -> str | None:
    """In UTF-16 nearly every other byte of a CSV's first kilobytes is zero, always on the same side."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if odd > half * 0.6 and even < half * 0.1:
        return "utf-16-le"
    if even > half * 0.6 and odd < half * 0.1:
        return "utf-16-be"
    return None


def _legacy_encoding(source: Path) -> str:
    guesses = from_bytes(_lines_beyond_ascii(source), cp_isolation=list(_fallback_encodings))
    for codec in [*(guess.encoding for guess in guesses), *_fallback_encodings]:
        if undecodable_line(source, codec) is None:
            return codec
    line = undecodable_line(source, "utf-8")
    raise FileRefused(
        FileFault.UNPARSABLE,
        f"the file is not text in UTF-8, UTF-16, GB18030 or cp1252; line {line} cannot be decoded",
        (FaultDetail("invalid_encoding", "these bytes are not UTF-8", line=line),),
    )


def _lines_beyond_ascii(source: Path) -> bytes:
    """The lines that tell encodings apart, up to the sample's size."""
    sample = bytearray()
    with source.open("rb") as file:
        for line in file:
            if not line.isascii():
                sample += line[:SAMPLE_BYTES]
                if len(sample) >= SAMPLE_BYTES:
                    break
    return bytes(sample)


def _require_decodable(source: Path, codec: str, named: str) -> None:
    line = undecodable_line(source, codec)
    if line is not None:
        raise FileRefused(
            FileFault.UNPARSABLE,
            f"the file is not {named}: line {line} cannot be decoded",
            (FaultDetail("invalid_encoding", f"these bytes are not {named}", line=line),),
        )


def undecodable_line(source: Path, codec: str) -> int | None:
    """The line of the first bytes that the codec refuses, or None when it decodes the whole file."""
    decoder = codecs.getincrementaldecoder(codec)(errors="strict")
    line = 1
    with source.open("rb") as file:
        while True:
            piece = file.read(READ_BYTES)
            try:
                line += decoder.decode(piece, final=not piece).count("\n")
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].count(b"\n")
            if not piece:
                return None


def detect_delimiter(header: str, known_columns: Collection[str]) -> str:
    """The delimiter that finds most known columns in the header; a comma when none finds any."""

    def found(delimiter: str) -> int:
        return sum(
            cell.strip().lower() in known_columns for cell in next(csv.reader([header], delimiter=delimiter), [])
        )

    return max(DELIMITERS, key=found)


@dataclass(frozen=True, slots=True)
class Record:
    """One CSV record: its first line as an editor counts, and its cells, or why it could not be read."""

    line: int
    cells: list[str]
    unreadable: str | None = None


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
