"""SQL about databases. What writes needs an instance that is held, what reads a page one that was looked up."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, ColumnElement, bindparam, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.bulk_loads import insert_rows
from app.database.statements import is_listed, stored_timestamp
from app.inventory.reading_records import DatabaseFilter, DatabaseRecord, Found
from app.inventory.row_updates import update_rows
from app.models.base import UtcDateTime, table_of
from app.models.inventory import InstanceDatabase
from app.pagination import PageRequest, Sort

_databases = table_of(InstanceDatabase)
_sortable = {name: _databases.c[name] for name in ("id", "name", "first_seen_at")}


class DatabaseValues(NamedTuple):
    """Of a database, what is not its name; the names are the columns'."""

    owner: str | None
    character_set_name: str | None
    collation_name: str | None
    is_system: bool


class StoredDatabase(NamedTuple):
    id: int
    name: str
    is_present: bool
    values: DatabaseValues


# Every sync executes these; what is made once needs not be taken apart again to find what it was compiled to.
_of_instance = _databases.c.instance_id == bindparam("held_id", type_=BigInteger())
_stored = select(
    _databases.c.id,
    _databases.c.name,
    _databases.c.is_present,
    *(_databases.c[name] for name in DatabaseValues._fields),
).where(_of_instance)
_refreshed = (
    update(_databases)
    .where(_of_instance, _databases.c.is_present == true())
    .values(last_seen_at=bindparam("seen_at", type_=UtcDateTime()), updated_at=_databases.c.updated_at)
)


async def stored_databases(session: AsyncSession, instance_id: int) -> list[StoredDatabase]:
    """Every database that was ever seen on the instance."""
    result = await session.execute(_stored, {"held_id": instance_id}, execution_options=SPACES_CHECKED)
    return [StoredDatabase._make((*row[:3], DatabaseValues._make(row[3:]))) for row in result]


async def add(
    session: AsyncSession, instance_id: int, databases: Sequence[tuple[str, DatabaseValues]], seen_at: datetime
) -> None:
    if not databases:
        return
    moment = stored_timestamp(session, seen_at)
    columns = ("instance_id", "name", *DatabaseValues._fields, "is_present", "first_seen_at", "last_seen_at")
    rows = ((instance_id, name, *values, True, moment, moment) for name, values in databases)
    await insert_rows(session, _databases, columns, rows)


async def change(session: AsyncSession, instance_id: int, databases: Sequence[tuple[int, DatabaseValues]]) -> None:
    """By id; they are there, if they were not before."""
    rows = [(key, *values) for key, values in databases]
    await update_rows(session, _databases, instance_id, "id", DatabaseValues._fields, rows, is_present=True)


async def deactivate(session: AsyncSession, instance_id: int, ids: Sequence[int]) -> None:
    if not ids:
        return
    statement = update(_databases).where(
        _databases.c.instance_id == instance_id, is_listed(session, _databases.c.id, ids)
    )
    await session.execute(statement.values(is_present=False), execution_options=SPACES_CHECKED)


async def refresh(session: AsyncSession, instance_id: int, seen_at: datetime) -> None:
    """Notes that the databases that are there were seen. It is no change, and `updated_at` stays."""
    await session.execute(_refreshed, {"held_id": instance_id, "seen_at": seen_at}, execution_options=SPACES_CHECKED)


async def page(
    session: AsyncSession, instance_id: int, wanted: DatabaseFilter, sort: str, request: PageRequest
) -> Found[DatabaseRecord]:
    """Raises ParameterError for a sort that is not offered, InvalidCursor for a cursor that is not ours."""
    ordering = Sort.parse(sort, _sortable)
    conditions = _conditions(instance_id, wanted)
    statement = select(*(_databases.c[name] for name in DatabaseRecord._fields)).where(*conditions)
    result = await session.execute(ordering.apply(statement, request), execution_options=SPACES_CHECKED)
    rows, next_cursor = ordering.cut(result.all(), request)
    counted = select(func.count(_databases.c.id)).where(*conditions)
    total = await session.scalar(counted, execution_options=SPACES_CHECKED) if request.include_total else None
    return Found([DatabaseRecord._make(row) for row in rows], next_cursor, total)


def _conditions(instance_id: int, wanted: DatabaseFilter) -> list[ColumnElement[bool]]:
    conditions = [_databases.c.instance_id == instance_id]
    if wanted.q:
        conditions.append(_databases.c.name.icontains(wanted.q, autoescape=True))
    for name in ("is_system", "is_present"):
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(_databases.c[name].is_(value))
    return conditions
