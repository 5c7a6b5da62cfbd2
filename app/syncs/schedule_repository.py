"""SQL about schedules."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import table_of
from app.models.operation import Operation, OperationState
from app.models.sync import Schedule
from app.pagination import PageRequest, Sort
from app.syncs.schedule_records import ScheduleFilter, SchedulePage, ScheduleRecord

_schedules = table_of(Schedule)
_operations = table_of(Operation)
_columns = [_schedules.c[field.name] for field in fields(ScheduleRecord)]
_sortable = {name: _schedules.c[name] for name in ("id", "name", "created_at")}


async def page(session: AsyncSession, wanted: ScheduleFilter, sort: str, request: PageRequest) -> SchedulePage:
    ordering = Sort.parse(sort, _sortable)
    statement = select(*_columns).where(*_conditions(wanted))
    rows, cursor = ordering.cut((await session.execute(ordering.apply(statement, request))).all(), request)
    total = None
    if request.include_total:
        total = await session.scalar(select(func.count()).select_from(statement.subquery()))
    return SchedulePage([_record(row) for row in rows], cursor, total)


def _conditions(wanted: ScheduleFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.space_id is not None:
        conditions.append(_schedules.c.space_id == wanted.space_id)
    if wanted.paused is not None:
        conditions.append(_schedules.c.paused.is_(wanted.paused))
    return conditions


def _record(row: Sequence[Any]) -> ScheduleRecord:
    return ScheduleRecord(*row)


async def find(session: AsyncSession, schedule_id: int) -> ScheduleRecord | None:
    row = (await session.execute(select(*_columns).where(_schedules.c.id == schedule_id))).one_or_none()
    return None if row is None else _record(row)


async def lock(session: AsyncSession, schedule_id: int) -> ScheduleRecord | None:
    """The schedule, which nobody else changes, deletes or starts until the transaction ends."""
    statement = select(*_columns).where(_schedules.c.id == schedule_id).with_for_update()
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


async def lock_due(session: AsyncSession, now: datetime) -> ScheduleRecord | None:
    """The one that has been due for longest, of those that nobody else is starting."""
    statement = (
        select(*_columns)
        .where(~_schedules.c.paused, _schedules.c.next_run_at <= now)
        .order_by(_schedules.c.next_run_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


async def is_under_way(session: AsyncSession, operation_id: int) -> bool:
    states = (OperationState.QUEUED, OperationState.RUNNING)
    running = exists().where(_operations.c.id == operation_id, _operations.c.state.in_(states))
    return bool(await session.scalar(select(running)))


async def create(session: AsyncSession, space_id: int, values: Mapping[str, Any]) -> ScheduleRecord:
    statement = insert(_schedules).values(space_id=space_id, **values).returning(*_columns)
    return _record((await session.execute(statement)).one())


async def change(session: AsyncSession, schedule_id: int, values: Mapping[str, Any]) -> ScheduleRecord:
    statement = update(_schedules).where(_schedules.c.id == schedule_id)
    statement = statement.values(revision=_schedules.c.revision + 1, **values)
    return _record((await session.execute(statement.returning(*_columns))).one())


async def note_run(session: AsyncSession, schedule_id: int, values: Mapping[str, Any]) -> None:
    """What its runs change of it, which is nobody's change: the revision stays."""
    statement = update(_schedules).where(_schedules.c.id == schedule_id)
    await session.execute(statement.values(updated_at=_schedules.c.updated_at, **values))


async def remove(session: AsyncSession, schedule_id: int) -> None:
    await session.execute(delete(_schedules).where(_schedules.c.id == schedule_id))
