"""The parts of an Excel workbook, which is a zip archive of XML files: which are needed, and how much is in them.

Standard: ECMA-376, parts 1 and 2. Prefixes of names are free in XML and differ from one program to the next, so names
are compared without them.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import digits
from typing import NamedTuple
from xml.parsers import expat
from zipfile import ZipFile, ZipInfo

from app.instances.csv_file import FileFault, FileRefused

CONTENT_TYPES = "[Content_Types].xml"
ROOT_RELATIONS = "_rels/.rels"
# Of the parts that tell where others are, and of styles: in megabytes, thousands of sheets and of formats.
MAX_SMALL_PART_BYTES = 16 * 1024 * 1024

_letters = re.compile("[A-Za-z]{1,3}")
_counted_kinds = ("worksheet", "sharedStrings")


class WorkbookDamaged(Exception):
    """It is not what the standard says."""


@dataclass(frozen=True, slots=True)
class Part:
    """`is_counted` says that its elements take memory by the million: rows, and shared texts."""

    info: ZipInfo
    is_counted: bool


class _Relation(NamedTuple):
    """To a part at `path`; `kind` is the last word of the type's address."""

    kind: str
    path: str


def needed_parts(archive: ZipFile) -> Iterator[Part]:
    """Those that tell what is in the first worksheet. Raises FileRefused and WorkbookDamaged."""
    info_by_path = _info_by_path(archive)
    if CONTENT_TYPES.lower() not in info_by_path:
        raise FileRefused(
            FileFault.TYPE_NOT_ACCEPTED, "the file is a zip archive, not a CSV or an Excel workbook (.xlsx)"
        )
    workbook = _workbook_path(archive, info_by_path)
    relations_path = posixpath.join(posixpath.dirname(workbook), "_rels", f"{posixpath.basename(workbook)}.rels")
    relations = _relations(archive, info_by_path, relations_path)
    sheet = _first_sheet(_elements(archive, _found(info_by_path, workbook)), relations)
    for path in (CONTENT_TYPES, ROOT_RELATIONS, workbook, relations_path):
        yield Part(_found(info_by_path, path), is_counted=False)
    for relation in relations.values():
        info = info_by_path.get(relation.path.lower())
        if info is not None and (relation == sheet or relation.kind in ("sharedStrings", "styles")):
            yield Part(info, is_counted=relation.kind in _counted_kinds)


def _info_by_path(archive: ZipFile) -> Mapping[str, ZipInfo]:
    if any(info.flag_bits & 1 for info in archive.infolist()):
        raise FileRefused(FileFault.UNPARSABLE, "the file is protected by a password; save it without one")
    return {info.filename.lower(): info for info in archive.infolist()}


def _found(info_by_path: Mapping[str, ZipInfo], path: str) -> ZipInfo:
    info = info_by_path.get(path.lower())
    if info is None:
        raise WorkbookDamaged(f"part {path} is missing")
    return info


def _workbook_path(archive: ZipFile, info_by_path: Mapping[str, ZipInfo]) -> str:
    documents = [
        relation.path
        for relation in _relations(archive, info_by_path, ROOT_RELATIONS).values()
        if relation.kind == "officeDocument"
    ]
    if not documents:
        raise WorkbookDamaged("nothing says which part is the workbook")
    path = documents[0]
    if path.lower().endswith(".bin"):
        message = "the file is a binary Excel workbook (.xlsb); save it as .xlsx or CSV"
        raise FileRefused(FileFault.TYPE_NOT_ACCEPTED, message)
    name, _ = next(_elements(archive, _found(info_by_path, path)))
    if name != "workbook":
        raise FileRefused(FileFault.TYPE_NOT_ACCEPTED, "the file is an Office document, but no Excel workbook")
    return path


def _relations(archive: ZipFile, info_by_path: Mapping[str, ZipInfo], path: str) -> dict[str, _Relation]:
    """By id. Targets are relative to the directory of the part that has them, one above the relations' own."""
    base = posixpath.dirname(posixpath.dirname(path))
    return {
        attributes.get("Id", ""): _Relation(
            attributes.get("Type", "").rpartition("/")[2],
            posixpath.normpath(posixpath.join("/", base, attributes.get("Target", ""))).lstrip("/"),
        )
        for name, attributes in _elements(archive, _found(info_by_path, path))
        if name == "Relationship"
    }


def _first_sheet(workbook: Iterator[tuple[str, Mapping[str, str]]], relations: Mapping[str, _Relation]) -> _Relation:
    """A workbook can have sheets that are charts."""
    for name, attributes in workbook:
        if name == "sheet":
            ids = [value for key, value in attributes.items() if key.rpartition(":")[2] == "id"]
            found = relations.get(ids[0]) if ids else None
            if found is not None and found.kind == "worksheet":
                return found
    raise FileRefused(FileFault.EMPTY, "the Excel workbook has no worksheet")


def _elements(archive: ZipFile, info: ZipInfo) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Name and attributes of every element, of a part that is small."""
    with archive.open(info) as content:
        data = content.read(MAX_SMALL_PART_BYTES + 1)
    if len(data) > MAX_SMALL_PART_BYTES:
        raise FileRefused(FileFault.UNPARSABLE, f"part {info.filename} of the Excel workbook is too large")
    elements: list[tuple[str, Mapping[str, str]]] = []
    parser = _parser(lambda name, attributes: elements.append((name.rpartition(":")[2], attributes)))
    parser.Parse(data, True)
    return iter(elements)


def _parser(start: Callable[[str, dict[str, str]], None]) -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    # The standard has none, and entities are what bombs are made of.
    parser.StartDoctypeDeclHandler = _refuse_document_type
    return parser


def _refuse_document_type(*_: object) -> None:
    raise WorkbookDamaged("a part has a document type declaration")


class Census:
    """Counts what the library will keep in memory: cells, the rectangle that they are in, and shared texts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parser = _parser(self._start)
        self._count = 0
        self._row = self._column = 0
        self._last_row = self._last_column = 0
        self._is_counted = True

    def take(self, piece: bytes, *, is_last: bool = False) -> None:
        """Counts the part's next bytes. Raises FileRefused when there is more than the limit, and WorkbookDamaged."""
        self._parser.Parse(piece, is_last)
        if max(self._count, self._last_row * self._last_column) > self._limit:
            raise FileRefused(
                FileFault.UNPARSABLE,
                f"the sheet has more than {self._limit:,} cells between its first and its last; "
                "save it as CSV, which may have any number, or remove what stands far away",
            )

    # Called for every element, so millions of times.
    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if ":" in name:
            name = name.rpartition(":")[2]
        if name == "c":
            self._enter(attributes.get("r"))
        elif name == "row":
            row = attributes.get("r", "")
            self._row, self._column = int(row) if row.isdecimal() else self._row + 1, 0
        elif name == "si":
            self._count += 1
        elif not self._is_counted:
            # A cell with nothing in it, as formats leave them by the thousand, is not kept.
            self._is_counted = True
            self._count += 1
            self._last_row = max(self._last_row, self._row)
            self._last_column = max(self._last_column, self._column)

    def _enter(self, reference: str | None) -> None:
        """A cell without a reference stands right of the one before."""
        self._is_counted = False
        if reference is None:
            self._column += 1
            return
        letters = reference.rstrip(digits)
        self._column, self._row = _column_number(letters), int(reference[len(letters) :] or 0)


@lru_cache(maxsize=20_000)
def _column_number(letters: str) -> int:
    if not _letters.fullmatch(letters):
        raise WorkbookDamaged("a cell has no valid reference")
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
