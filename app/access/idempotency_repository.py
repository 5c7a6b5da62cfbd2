"""SQL of the answers that are kept under an `Idempotency-Key`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name
from app.models.base import table_of
from app.models.idempotency import IdempotencyKey

_keys = table_of(IdempotencyKey)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one attempt to do what a key stands for, and to say what came of it."""

    user_id: int
    key: str
    fingerprint: str
    attempt: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """`body` is compressed, and None when it was too large to be kept."""

    status: int
    headers: dict[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """`answer` is None while the request is under way."""

    fingerprint: str
    lease_until: datetime
    created_at: datetime
    answer: StoredAnswer | None


async def claim(session: AsyncSession, claim: Claim, now: datetime, lease_until: datetime) -> bool:
    """Whether the key was not known yet, and is now this attempt's."""
    insert = postgresql.insert if dialect_name(session) == "postgresql" else sqlite.insert
    values = {"user_id": claim.user_id, "key": claim.key, **_held_by(claim, now, lease_until)}
    return _rows(await session.execute(insert(_keys).values(values).on_conflict_do_nothing())) == 1


async def locked(session: AsyncSession, user_id: int, key: str) -> KnownKey | None:
    statement: Select[Any] = select(_keys).where(_keys.c.user_id == user_id, _keys.c.key == key).with_for_update()
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    answer = None if row.status is None else StoredAnswer(row.status, row.headers or {}, row.body)
    return KnownKey(row.fingerprint, row.lease_until, row.created_at, answer)


async def take_over(session: AsyncSession, claim: Claim, now: datetime, lease_until: datetime) -> None:
    """The key, which is locked, is this attempt's from now on, as if nobody had used it before."""
    values = {**_held_by(claim, now, lease_until), "status": None, "headers": None, "body": None}
    await session.execute(
        update(_keys).where(_keys.c.user_id == claim.user_id, _keys.c.key == claim.key).values(values)
    )


async def renew(session: AsyncSession, claim: Claim, lease_until: datetime) -> None:
    await session.execute(update(_keys).where(*_is_held_by(claim)).values(lease_until=lease_until))


async def complete(session: AsyncSession, claim: Claim, answer: StoredAnswer) -> bool:
    """Whether the answer is kept; it is not when another attempt has taken over."""
    values = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    return _rows(await session.execute(update(_keys).where(*_is_held_by(claim)).values(values))) == 1


async def release(session: AsyncSession, claim: Claim) -> None:
    """The key is free again, unless an answer was kept or another attempt has taken over."""
    await session.execute(delete(_keys).where(*_is_held_by(claim)))


async def delete_older(session: AsyncSession, created: datetime, now: datetime, limit: int) -> int:
    """Deletes up to `limit` keys from before `created` that nobody holds; how many."""
    old = (
        select(_keys.c.user_id, _keys.c.key)
        .where(_keys.c.created_at < created, _keys.c.lease_until < now)
        .order_by(_keys.c.created_at)
        .limit(limit)
        # Another process removes the others meanwhile.
        .with_for_update(skip_locked=True)
    )
    return _rows(await session.execute(delete(_keys).where(tuple_(_keys.c.user_id, _keys.c.key).in_(old))))


def _held_by(claim: Claim, now: datetime, lease_until: datetime) -> dict[str, Any]:
    return {
        "fingerprint": claim.fingerprint,
        "attempt": claim.attempt,
        "lease_until": lease_until,
        "created_at": now,
    }


def _is_held_by(claim: Claim) -> tuple[Any, ...]:
    return (
        _keys.c.user_id == claim.user_id,
        _keys.c.key == claim.key,
        _keys.c.attempt == claim.attempt,
        _keys.c.status.is_(None),
    )


def _rows(result: Any) -> int:
    return int(result.rowcount)
