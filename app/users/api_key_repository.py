"""SQL about API keys."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.api_key_format import digest, shown
from app.models.base import table_of
from app.models.user import ApiKey
from app.pagination import PageRequest, Sort
from app.users.api_key_records import ApiKeyPage, ApiKeyRecord

_keys = table_of(ApiKey)
_columns = [_keys.c[field.name] for field in fields(ApiKeyRecord)]
_sortable = {name: _keys.c[name] for name in ("id", "name", "created_at")}


async def page(session: AsyncSession, user_id: int, sort: str, request: PageRequest) -> ApiKeyPage:
    ordering = Sort.parse(sort, _sortable)
    statement = select(*_columns).where(ApiKey.user_id == user_id)
    rows, next_cursor = ordering.cut((await session.execute(ordering.apply(statement, request))).all(), request)
    total = await count(session, user_id) if request.include_total else None
    return ApiKeyPage([_record(row) for row in rows], next_cursor, total)


async def count(session: AsyncSession, user_id: int) -> int:
    return (await session.execute(select(func.count(ApiKey.id)).where(ApiKey.user_id == user_id))).scalar_one()


async def find(session: AsyncSession, user_id: int, api_key_id: int) -> ApiKeyRecord | None:
    statement = select(*_columns).where(ApiKey.id == api_key_id, ApiKey.user_id == user_id)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


async def create(
    session: AsyncSession, user_id: int, name: str, scopes: Sequence[str], expires_at: datetime | None, key: str
) -> ApiKeyRecord:
    """Stores what tells the key apart and what it is recognised by; the key itself is not stored."""
    statement = (
        insert(ApiKey)
        .values(
            user_id=user_id,
            name=name,
            prefix=shown(key),
            key_hash=digest(key),
            scopes=list(scopes),
            expires_at=expires_at,
        )
        .returning(*_columns)
    )
    return _record((await session.execute(statement)).one())


async def remove(session: AsyncSession, user_id: int, api_key_id: int) -> ApiKeyRecord | None:
    """What it was; None when the user has no such key, or has it no more."""
    statement = delete(ApiKey).where(ApiKey.id == api_key_id, ApiKey.user_id == user_id).returning(*_columns)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


async def expiries_of(session: AsyncSession, user_id: int, prefix: str) -> list[datetime | None]:
    """When the user's keys that begin so expire: none when it is revoked, and more than one by chance only."""
    statement = select(ApiKey.expires_at).where(ApiKey.user_id == user_id, ApiKey.prefix == prefix)
    return list(await session.scalars(statement))


def _record(row: Sequence[Any]) -> ApiKeyRecord:
    key_id, user_id, name, prefix, scopes, *moments = row
    return ApiKeyRecord(key_id, user_id, name, prefix, tuple(scopes), *moments)
