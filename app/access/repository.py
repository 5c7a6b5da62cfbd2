"""SQL about who is calling and what they may do."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name
from app.models.base import utc_now
from app.models.role import RoleGrant, RolePermission
from app.models.user import ApiKey, User, UserSession

CHANNEL = "muster_access"
LAST_USED_STEP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class KeyOwner:
    user_id: int
    username: str
    key_id: int
    prefix: str
    scopes: frozenset[str]
    expires_at: datetime | None


async def session_owner(session: AsyncSession, user_id: int, session_id: int) -> str | None:
    """The user's name, while the session lasts and the user is active."""
    statement = (
        select(User.username)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            User.id == user_id,
            User.is_active,
            UserSession.id == session_id,
            UserSession.ended_at.is_(None),
            UserSession.expires_at > utc_now(),
        )
    )
    return await session.scalar(statement)


async def active_user_name(session: AsyncSession, user_id: int) -> str | None:
    return await session.scalar(select(User.username).where(User.id == user_id, User.is_active))


async def key_owner(session: AsyncSession, key_hash: str) -> KeyOwner | None:
    """Whose key it is, while it is valid and the user is active."""
    statement = (
        select(User.id, User.username, ApiKey.id, ApiKey.prefix, ApiKey.scopes, ApiKey.expires_at)
        .join(ApiKey, ApiKey.user_id == User.id)
        .where(
            ApiKey.key_hash == key_hash,
            User.is_active,
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > utc_now()),
        )
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    user_id, username, key_id, prefix, scopes, expires_at = row
    return KeyOwner(user_id, username, key_id, prefix, frozenset(scopes), expires_at)


async def held_permissions(session: AsyncSession, user_id: int) -> list[tuple[str, int | None]]:
    """(permission, space), the space null for everywhere."""
    statement = (
        select(RolePermission.permission, RoleGrant.space_id)
        .join(RoleGrant, RoleGrant.role_id == RolePermission.role_id)
        .where(RoleGrant.user_id == user_id)
        .distinct()
    )
    return [(permission, space_id) for permission, space_id in await session.execute(statement)]


async def note_key_use(session: AsyncSession, key_id: int) -> None:
    """Notes that the key is used, unless it was noted within the last minute."""
    now = utc_now()
    await session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - LAST_USED_STEP))
        .values(last_used_at=now)
    )


async def announce(session: AsyncSession) -> None:
    """Tells the other processes, when the transaction commits, that rights have changed; SQLite has no others."""
    if dialect_name(session) == "postgresql":
        await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
