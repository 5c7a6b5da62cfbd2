"""SQL about what a sync did for each instance and kind."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import dialect_name
from app.models.base import table_of
from app.models.instance import Instance
from app.models.sync import SyncInstanceRecord, SyncState
from app.pagination import PageRequest, Sort
from app.syncs.records import InstanceRecordRow, RecordFilter, RecordPage, UnderWay, UnreachableInstance

# Made into parameters before others have their turn.
PART_ROWS = 100

_records = table_of(SyncInstanceRecord)
_instances = table_of(Instance)
_key = ("session_id", "instance_id", "kind")
_columns = [
    _instances.c.name.label("instance_name") if name == "instance_name" else _records.c[name]
    for name in InstanceRecordRow._fields
]
_of_instances = _records.join(_instances, _instances.c.id == _records.c.instance_id)


async def put(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes records, of instances that were looked up; one that is there from an earlier attempt gets their values.
    All rows name the same columns."""
    statement = _upsert(dialect_name(session), tuple(rows[0]))
    for start in range(0, len(rows), PART_ROWS):
        part = list(rows[start : start + PART_ROWS])
        await session.execute(statement, part, execution_options=SPACES_CHECKED)


@lru_cache
def _upsert(dialect: str, names: Sequence[str]) -> postgresql.Insert | sqlite.Insert:
    """Made once, and compiled once for any number of rows: otherwise every turn of a sync would wait for that twice."""
    # Inline: nobody asks for the ids.
    written = (postgresql.insert(_records) if dialect == "postgresql" else sqlite.insert(_records)).inline()
    changed = {name: written.excluded[name] for name in (*names, "updated_at") if name not in _key}
    return written.on_conflict_do_update(index_elements=[_records.c[name] for name in _key], set_=changed)


async def page(session: AsyncSession, session_id: int, wanted: RecordFilter, request: PageRequest) -> RecordPage:
    """In the order in which instances had their turn."""
    ordering = Sort.parse("id", {"id": _records.c.id})
    statement = select(*_columns).select_from(_of_instances).where(*_conditions(session_id, wanted))
    rows, cursor = ordering.cut((await session.execute(ordering.apply(statement, request))).all(), request)
    total = await _count(session, statement) if request.include_total else None
    return RecordPage([InstanceRecordRow._make(row) for row in rows], cursor, total)


async def counts(session: AsyncSession, session_id: int) -> dict[SyncState, int]:
    """Records by state."""
    statement = select(_records.c.state, func.count()).where(_records.c.session_id == session_id)
    return dict((await session.execute(statement.group_by(_records.c.state))).all())


async def under_way(session: AsyncSession, session_id: int, limit: int) -> list[UnderWay]:
    """Instances whose turn it is, the longest first."""
    started_at = func.min(_records.c.started_at)
    statement = (
        _by_instance(session_id, started_at)
        .where(_records.c.state == SyncState.RUNNING)
        .order_by(started_at, _records.c.instance_id)
        .limit(limit)
    )
    return [UnderWay(*row) for row in await session.execute(statement)]


async def unreachable(session: AsyncSession, session_id: int, limit: int) -> list[UnreachableInstance]:
    """Instances that could not be reached, the longest first."""
    since = func.min(_records.c.unreachable_since)
    statement = (
        _by_instance(session_id, since)
        .where(_records.c.unreachable_since.is_not(None))
        .order_by(since, _records.c.instance_id)
        .limit(limit)
    )
    return [UnreachableInstance(*row) for row in await session.execute(statement)]


async def count_unreachable(session: AsyncSession, session_id: int) -> int:
    statement = select(func.count(_records.c.instance_id.distinct())).where(
        _records.c.session_id == session_id, _records.c.unreachable_since.is_not(None)
    )
    return await session.scalar(statement) or 0


def _by_instance(session_id: int, moment: ColumnElement[Any]) -> Select[Any]:
    server = (_instances.c.name, _instances.c.host, _instances.c.port)
    statement = select(_records.c.instance_id, *server, moment).select_from(_of_instances)
    return statement.where(_records.c.session_id == session_id).group_by(_records.c.instance_id, *server)


def _conditions(session_id: int, wanted: RecordFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_records.c.session_id == session_id]
    if wanted.state is not None:
        found.append(_records.c.state == wanted.state)
    if wanted.kind is not None:
        found.append(_records.c.kind == wanted.kind)
    if wanted.instance_id is not None:
        found.append(_records.c.instance_id == wanted.instance_id)
    return found


async def _count(session: AsyncSession, statement: Select[Any]) -> int:
    return await session.scalar(select(func.count()).select_from(statement.order_by(None).subquery())) or 0
