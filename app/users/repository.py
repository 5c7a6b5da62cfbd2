"""SQL about users."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

from sqlalchemy import ColumnElement, Row, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import table_of
from app.models.user import User
from app.pagination import PageRequest, Sort
from app.users.records import StoredValues, UserFilter, UserPage, UserRecord

_users = table_of(User)
_columns = [_users.c[field.name] for field in fields(UserRecord)]
_sortable = {name: _users.c[name] for name in ("id", "username", "created_at")}


async def page(session: AsyncSession, user_filter: UserFilter, sort: str, request: PageRequest) -> UserPage:
    ordering = Sort.parse(sort, _sortable)
    conditions = _conditions(user_filter)
    found = await session.execute(ordering.apply(select(*_columns).where(*conditions), request))
    rows, next_cursor = ordering.cut(found.all(), request)
    total = await session.scalar(select(func.count(User.id)).where(*conditions)) if request.include_total else None
    return UserPage([_made(row) for row in rows], next_cursor, total)


def _conditions(user_filter: UserFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if user_filter.is_active is not None:
        conditions.append(User.is_active.is_(user_filter.is_active))
    if user_filter.q:
        searched = (User.username, User.display_name, User.email)
        conditions.append(or_(*(column.icontains(user_filter.q, autoescape=True) for column in searched)))
    return conditions


async def find(session: AsyncSession, user_id: int) -> UserRecord | None:
    return _record((await session.execute(select(*_columns).where(User.id == user_id))).one_or_none())


async def find_by_name(session: AsyncSession, username: str) -> UserRecord | None:
    return _record((await session.execute(select(*_columns).where(User.username == username))).one_or_none())


async def lock(session: AsyncSession, user_id: int) -> UserRecord | None:
    """The user, whom nobody else can change, or give anything to, until the transaction ends."""
    return _record((await session.execute(select(*_columns).where(User.id == user_id).with_for_update())).one_or_none())


def _record(row: Row[Any] | None) -> UserRecord | None:
    return None if row is None else _made(row)


def _made(row: Sequence[Any]) -> UserRecord:
    return UserRecord(*row)


async def create(session: AsyncSession, values: StoredValues) -> UserRecord:
    return _made((await session.execute(insert(User).values(**values).returning(*_columns))).one())


async def change(session: AsyncSession, user_id: int, values: StoredValues) -> UserRecord:
    statement = update(User).where(User.id == user_id).values(revision=User.revision + 1, **values)
    return _made((await session.execute(statement.returning(*_columns))).one())


async def remove(session: AsyncSession, user_id: int) -> None:
    """With everything that is declared to go with a user."""
    await session.delete(cast("User", await session.get(User, user_id)))
    await session.flush()
