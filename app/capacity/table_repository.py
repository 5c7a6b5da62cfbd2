"""SQL of an instance's largest tables. Whoever calls has looked the instance up.

A day keeps tables that were among the largest in an earlier measurement of it; the last measurement's are those of the
latest moment.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.capacity.records import TableSize
from app.models.base import table_of
from app.models.capacity import DatabaseTableSizeStat

_tables = table_of(DatabaseTableSizeStat)
_names = (_tables.c.database_name, _tables.c.schema_name, _tables.c.table_name)
_sizes = (_tables.c.size_bytes, _tables.c.data_bytes, _tables.c.index_bytes, _tables.c.row_estimate)


async def last_measured_at(
    session: AsyncSession, instance_id: int, database: str | None, day: date | None
) -> datetime | None:
    """The latest moment up to the end of the day, if one is named, at which tables were measured."""
    conditions = _of(instance_id, database)
    if day is not None:
        conditions.append(_tables.c.collected_on <= day)
    statement = select(func.max(_tables.c.collected_at)).where(*conditions)
    found: datetime | None = await session.scalar(statement, execution_options=SPACES_CHECKED)
    return found


async def largest(
    session: AsyncSession,
    instance_id: int,
    database: str | None,
    moment: datetime,
    after: tuple[int, str, str, str] | None,
    limit: int,
) -> Sequence[TableSize]:
    """The largest first, then by name; behind the one with that size and these names."""
    conditions = [*_of(instance_id, database), *_at(moment)]
    if after is not None:
        size, *names = after
        is_behind = tuple_(*_names) > tuple_(*names, types=[name.type for name in _names])
        conditions.append(or_(_tables.c.size_bytes < size, and_(_tables.c.size_bytes == size, is_behind)))
    statement = select(*_names, *_sizes).where(*conditions).order_by(_tables.c.size_bytes.desc(), *_names).limit(limit)
    return [TableSize(*row) for row in await session.execute(statement, execution_options=SPACES_CHECKED)]


async def count(session: AsyncSession, instance_id: int, database: str | None, moment: datetime) -> int:
    statement = select(func.count()).select_from(_tables).where(*_of(instance_id, database), *_at(moment))
    return (await session.execute(statement, execution_options=SPACES_CHECKED)).scalar_one()


def _of(instance_id: int, database: str | None) -> list[ColumnElement[bool]]:
    conditions = [_tables.c.instance_id == instance_id]
    return conditions if database is None else [*conditions, _tables.c.database_name == database]


def _at(moment: datetime) -> list[ColumnElement[Any]]:
    return [_tables.c.collected_on == moment.date(), _tables.c.collected_at == moment]
