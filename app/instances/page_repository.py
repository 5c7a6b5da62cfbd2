"""SQL of the list, which is asked more often than everything else together.

A page's statement is built and compiled once for each shape of request (which filters, which sort, first page or a
later one) and then handed to the driver with the values of the request.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access import tenancy
from app.database.statements import fetch_rows, sqlite_timestamp
from app.instances.records import InstanceFilter, InstancePage, InstanceRecord
from app.instances.selection import FilterShape, conditions, instances, parameters, records, tag_names
from app.pagination import PageRequest, Sort

MAX_COMPILED_SHAPES = 500

_sortable = {"id": instances.c.id, "name": instances.c.name, "created_at": instances.c.created_at}
_tags_position = InstanceRecord._fields.index("tags")
_flag_positions = [InstanceRecord._fields.index(name) for name in ("is_active", "deletion_protection")]
_moment_positions = [position for position, name in enumerate(InstanceRecord._fields) if name.endswith("_at")]


async def page(session: AsyncSession, wanted: InstanceFilter, sort: str, request: PageRequest) -> InstancePage:
    """Raises ParameterError for a sort that is not offered, InvalidCursor for a cursor that is not ours."""
    ordering = Sort.parse(sort, _sortable)
    dialect = session.get_bind().dialect
    is_restricted = tenancy.is_restricted()
    statement = _compiled(dialect, FilterShape.of(wanted), sort, request.cursor is not None, is_restricted)
    values = parameters(wanted) | ordering.parameters(request)
    if is_restricted:
        values[tenancy.PARAMETER] = tenancy.parameter(dialect.name)
    rows = await fetch_rows(session, statement.sql, statement.arguments(values))
    as_record = _from_sqlite if dialect.name == "sqlite" else _from_postgresql
    items, next_cursor = ordering.cut([as_record(row) for row in rows], request)
    return InstancePage(items, next_cursor, await _total(session, wanted) if request.include_total else None)


async def _total(session: AsyncSession, wanted: InstanceFilter) -> int:
    statement = select(func.count(instances.c.id)).where(*conditions(FilterShape.of(wanted)))
    return await session.scalar(statement, parameters(wanted)) or 0


@dataclass(frozen=True, slots=True)
class _CompiledPage:
    """The statement as text, and by name the parameters that stand at its places."""

    sql: str
    names: Sequence[str]
    constants: Mapping[str, Any]
    bound: Callable[[Any], Any]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [self.bound(values[name]) if name in values else self.constants[name] for name in self.names]


@lru_cache(maxsize=MAX_COMPILED_SHAPES)
def _compiled(
    dialect: Dialect, shape: FilterShape, sort: str, is_continued: bool, is_restricted: bool
) -> _CompiledPage:
    selected = list(conditions(shape))
    if is_restricted:
        selected.append(tenancy.condition(dialect.name, instances.c.space_id))
    statement = _statement(dialect.name, selected, Sort.parse(sort, _sortable), is_continued)
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    bound = _bound_to_sqlite if dialect.name == "sqlite" else _bound_to_postgresql
    return _CompiledPage(compiled.string, tuple(compiled.positiontup or ()), dict(compiled.params), bound)


def _statement(
    dialect: str, selected: Sequence[ColumnElement[bool]], ordering: Sort, is_continued: bool
) -> Select[Any]:
    if dialect != "sqlite":
        return ordering.prepare(records.where(*selected), is_continued=is_continued)
    # Where no index gives the order, SQLite sorts whole rows, tags and all, of everything that matches. Sorting ids
    # takes a sixth of that, and costs nothing that can be measured where an index does.
    ids = ordering.prepare(select(instances.c.id).where(*selected), is_continued=is_continued)
    return ordering.order(records.where(instances.c.id.in_(ids)))


def _bound_to_postgresql(value: Any) -> Any:
    return value


def _bound_to_sqlite(value: Any) -> Any:
    return sqlite_timestamp(value) if isinstance(value, datetime) else value


def _from_postgresql(row: Sequence[Any]) -> InstanceRecord:
    values = list(row)
    values[_tags_position] = tag_names(values[_tags_position])
    return InstanceRecord._make(values)


def _from_sqlite(row: Sequence[Any]) -> InstanceRecord:
    """SQLite has neither booleans nor moments: it keeps numbers, and the text of moments in UTC."""
    values = list(row)
    values[_tags_position] = tag_names(values[_tags_position])
    for position in _flag_positions:
        values[position] = values[position] == 1
    for position in _moment_positions:
        text = values[position]
        if text is not None:
            values[position] = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return InstanceRecord._make(values)
