"""Turns the bytes of an uploaded file into rows and row errors. Pure: it knows no database.

Steps, in order:
1. open it (table_file): a CSV by its encoding (csv_encoding) and delimiter (csv_file), or a workbook (xlsx_file);
2. check the header, read records one by one, check every cell by the rules in fields, collect all errors of a row;
3. write the judged rows to a file for the event loop (judged_rows);
4. tell which names and endpoints occur more than once, so that only these need to be followed when claims are settled
   (a row that the database refuses claims nothing, so this cannot be settled here).
"""

import difflib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

from app.csv_cells import restored
from app.errors import cut
from app.instances import fields
from app.instances.csv_file import FaultDetail, FileFault, FileRefused, Record
from app.instances.fields import FieldError
from app.instances.judged_rows import write_frames
from app.instances.table_file import Table, open_table
from app.models.instance import DatabaseType

REQUIRED_COLUMNS = ("name", "db_type", "host")
COLUMNS = (
    *REQUIRED_COLUMNS,
    "port",
    "database_name",
    "description",
    "environment",
    "credential",
    "tags",
    "sync_policy",
    "is_active",
    "deletion_protection",
)
# What a file of problems has beside a row's own cells; an import takes no notice of them.
PROBLEM_COLUMNS = ("_line", "_column", "_code", "_message")
MAX_HEADER_CELLS = 1_000


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """What the file is as a whole. `columns` are those that its header names."""

    encoding: str
    delimiter: str
    columns: frozenset[str]
    rows: int
    contested_names: frozenset[int]
    contested_endpoints: frozenset[int]


def fingerprint(key: str) -> int:
    """A short number for a key: equal keys have equal ones, so what is not contested here is not repeated."""
    return crc32(key.encode())


def judge_file(source: Path, frames: Path, encoding: str = "auto", ignore_unknown_columns: bool = False) -> JudgedFile:
    """Judges the file at `source` and writes its rows to `frames`; raises FileRefused when it cannot be judged."""
    with open_table(source, frames.parent, encoding, COLUMNS) as table:
        header = header_of(table, ignore_unknown_columns)
        judge = RowJudge(len(header.cells), _column_positions(header, ignore_unknown_columns))
        with frames.open("wb") as output:
            write_frames(output, (judge.judge(record) for record in table.records))
    if judge.rows == 0:
        raise FileRefused(FileFault.EMPTY, "the file has a header but no rows")
    return JudgedFile(
        encoding=table.encoding,
        delimiter=table.delimiter,
        columns=judge.columns,
        rows=judge.rows,
        contested_names=_repeated(judge.name_fingerprints),
        contested_endpoints=_repeated(judge.endpoint_fingerprints),
    )


def header_of(table: Table, ignore_unknown_columns: bool) -> Record:
    """Takes the first record. Columns without a name are unknown ones, unless they stand behind all others."""
    header = next(table.records, None)
    if header is None:
        raise FileRefused(FileFault.EMPTY, "the file is empty")
    return header if ignore_unknown_columns else header.without_trailing_blanks()


def _repeated(fingerprints: "array[int]") -> frozenset[int]:
    """Sorting an array of numbers takes a tenth of the memory that a set of the keys would."""
    ordered = sorted(fingerprints)
    return frozenset(one for one, next_one in pairwise(ordered) if one == next_one)


def _column_positions(header: Record, ignore_unknown: bool) -> dict[str, int]:
    """Column names to positions; every fault of the header is told at once."""
    if header.unreadable is not None:
        raise FileRefused(FileFault.UNPARSABLE, f"line {header.line}: {header.unreadable}")
    names = [cell.strip().lower() for cell in header.cells[:MAX_HEADER_CELLS]]
    faults = [*_missing(names, header.line), *_repeated_columns(names, header.line)]
    if not ignore_unknown:
        faults += _unknown(names, header.line)
    if faults:
        message = "; ".join(fault.message for fault in faults[:3]) + ("; …" if len(faults) > 3 else "")
        raise FileRefused(FileFault.UNPARSABLE, f"the header is not accepted: {message}", tuple(faults))
    return {name: position for position, name in enumerate(names) if name in COLUMNS}


def _missing(names: list[str], line: int) -> Iterator[FaultDetail]:
    for column in REQUIRED_COLUMNS:
        if column not in names:
            yield FaultDetail("missing_column", f"column {column} is missing", column, line=line)


def _repeated_columns(names: list[str], line: int) -> Iterator[FaultDetail]:
    for name in dict.fromkeys(names):
        if name and names.count(name) > 1:
            yield FaultDetail(
                "repeated_column", f"column {cut(name)} stands {names.count(name)} times", cut(name), line=line
            )


def _unknown(names: list[str], line: int) -> Iterator[FaultDetail]:
    for position, name in enumerate(names, 1):
        if name in COLUMNS or name in PROBLEM_COLUMNS:
            continue
        nearest = difflib.get_close_matches(name[:100], COLUMNS, n=1, cutoff=0.0)[0]
        shown = repr(cut(name)) if name else f"number {position} without a name"
        yield FaultDetail(
            "unknown_column",
            f"column {shown} is not known; the nearest is {nearest}",
            cut(name),
            line=line,
            value=cut(name),
        )


class RowJudge:
    """Judges records one after the other. What repeats from row to row (types, tags, flags) is judged once."""

    def __init__(self, header_cells: int, position_by_column: dict[str, int]) -> None:
        self.columns = frozenset(position_by_column)
        self.rows = 0
        self.name_fingerprints = array("L")
        self.endpoint_fingerprints = array("L")
        self._header_cells = header_cells
        remembered = lru_cache(maxsize=10_000)
        rule_by_column: dict[str, Callable[[str], Any]] = {
            "name": fields.name,
            "db_type": remembered(fields.db_type),
            "host": fields.host,
            "port": remembered(fields.optional_port),
            "database_name": remembered(fields.database_name),
            "description": fields.description,
            "environment": remembered(fields.environment),
            "credential": remembered(fields.credential),
            "tags": remembered(fields.tags),
            "sync_policy": remembered(fields.sync_policy),
            "is_active": remembered(fields.is_active),
            "deletion_protection": remembered(fields.deletion_protection),
        }
        # A column that the file lacks is read as the empty cell that is put behind every row: position -1.
        self._cells = tuple((rule_by_column[column], position_by_column.get(column, -1)) for column in COLUMNS)
        self._name_position = position_by_column["name"]

    def judge(self, record: Record) -> tuple[object, ...]:
        """The row as the frames hold it: the values of a GoodRow, or of a BadRow."""
        self.rows += 1
        if record.unreadable is not None:
            return record.line, None, [(None, "invalid_format", record.unreadable, None)]
        cells = list(map(str.strip, record.cells))
        if "'" in "".join(cells):
            cells = [restored(cell) for cell in cells]
        errors: list[tuple[str | None, str, str, str | None]] = []
        if len(cells) != self._header_cells:
            errors = self._fit(cells)
        # The empty cell of the columns that the file lacks.
        cells.append("")
        if not errors:
            # Nearly every row is good; only another one is worth the trouble of finding all of its errors.
            try:
                return self._good(record.line, *[rule(cells[position]) for rule, position in self._cells])
            except FieldError:
                pass
        errors += self._errors(cells)
        return record.line, cut(cells[self._name_position]) or None, errors

    def _fit(self, cells: list[str]) -> list[tuple[str | None, str, str, str | None]]:
        """Cuts or fills the row to as many cells as the header has, and tells of what it held beyond them."""
        found = len(cells)
        surplus = next(filter(None, cells[self._header_cells :]), None)
        del cells[self._header_cells :]
        cells.extend([""] * (self._header_cells - len(cells)))
        if surplus is None:
            return []
        return [(None, "too_many_cells", f"the row has {found} cells, the header {self._header_cells}", cut(surplus))]

    def _errors(self, cells: list[str]) -> list[tuple[str | None, str, str, str | None]]:
        errors: list[tuple[str | None, str, str, str | None]] = []
        for column, (rule, position) in zip(COLUMNS, self._cells, strict=True):
            try:
                rule(cells[position])
            except FieldError as error:
                errors.append((column, error.code, error.message, cut(cells[position])))
        return errors

    def _good(
        self,
        line: int,
        name: str,
        db_type: DatabaseType,
        host: str,
        port: int | None,
        database_name: str | None,
        description: str | None,
        environment: str,
        credential: str | None,
        tags: tuple[str, ...],
        sync_policy: str,
        is_active: bool,
        deletion_protection: bool,
    ) -> tuple[object, ...]:
        port = fields.DEFAULT_PORT_BY_TYPE[db_type] if port is None else port
        endpoint_key = fields.endpoint_key(db_type, host, port, database_name)
        self.name_fingerprints.append(fingerprint(name))
        self.endpoint_fingerprints.append(fingerprint(endpoint_key))
        return (
            line, name, db_type, host, port, endpoint_key, database_name, description,
            environment, sync_policy, is_active, deletion_protection, credential, tags,
        )  # fmt: skip
