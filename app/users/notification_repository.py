"""SQL about notifications; every statement is over those of one user."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import table_of, utc_now
from app.models.notification import Notification
from app.pagination import PageRequest, Sort
from app.users.notification_records import NotificationPage, NotificationRecord

_table = table_of(Notification)
_columns = [_table.c[field.name] for field in fields(NotificationRecord)]
# The order of ids is that of writing, and has an index.
_newest_first = Sort.parse("-id", {"id": _table.c.id})


async def page(session: AsyncSession, user_id: int, *, unread: bool, request: PageRequest) -> NotificationPage:
    conditions = _of(user_id, unread=unread)
    statement = _newest_first.apply(select(*_columns).where(*conditions), request)
    rows, next_cursor = _newest_first.cut((await session.execute(statement)).all(), request)
    total = None
    if request.include_total:
        total = await session.scalar(select(func.count(Notification.id)).where(*conditions))
    return NotificationPage([_record(row) for row in rows], next_cursor, total)


def _of(user_id: int, *, unread: bool = False) -> list[ColumnElement[bool]]:
    return [Notification.user_id == user_id, *([Notification.read_at.is_(None)] if unread else [])]


async def create(session: AsyncSession, user_id: int, **values: str | int | None) -> None:
    await session.execute(insert(_table).values(user_id=user_id, **values))


async def mark_read(session: AsyncSession, user_id: int, notification_id: int) -> NotificationRecord | None:
    """None when the user has no such notification. One that is read already keeps the time."""
    statement = (
        update(_table)
        .where(*_of(user_id), Notification.id == notification_id)
        .values(read_at=func.coalesce(Notification.read_at, utc_now()))
        .returning(*_columns)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


async def mark_all_read(session: AsyncSession, user_id: int) -> int:
    """How many were unread."""
    statement = update(_table).where(*_of(user_id, unread=True)).values(read_at=utc_now()).returning(Notification.id)
    return len((await session.scalars(statement)).all())


async def remove(session: AsyncSession, user_id: int, notification_id: int) -> bool:
    """False when the user has no such notification."""
    statement = delete(_table).where(*_of(user_id), Notification.id == notification_id).returning(Notification.id)
    return await session.scalar(statement) is not None


def _record(row: Sequence[Any]) -> NotificationRecord:
    return NotificationRecord(*row)
