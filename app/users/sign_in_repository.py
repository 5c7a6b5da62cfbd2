"""SQL about signing in: failures, sessions and their refresh tokens."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, delete, insert, literal, null, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name
from app.models.base import UtcDateTime, table_of, utc_now
from app.models.user import RefreshToken, SessionEnd, SignInFailure, User, UserSession
from app.users.records import Account, SignInPair, TokenFamily

# Rows that are removed beside others' work, so that it never has to wait for much.
MAX_SWEPT_ROWS = 100

_failures = table_of(SignInFailure)


async def find_account(session: AsyncSession, username: str) -> Account | None:
    # What PostgreSQL does not store (NUL, half a surrogate pair) is nobody's name, and looked up as such.
    name = username if username.isprintable() else ""
    statement = select(User.id, User.username, User.password_hash, User.is_active).where(User.username == name)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else Account(*row)


async def locked_until(session: AsyncSession, pair: SignInPair) -> datetime | None:
    """Until when it is locked; None when it is not (any more)."""
    statement = select(_failures.c.locked_until).where(_is(pair), _failures.c.locked_until > utc_now())
    return await session.scalar(statement)


async def note_failure(session: AsyncSession, pair: SignInPair, *, limit: int, period: timedelta) -> int:
    """Counts one more and returns how many there are within the period, which begins with the first of them.

    From the `limit`th on, the pair is locked for one period more.
    """
    now = utc_now()
    until = literal(now + period, UtcDateTime)
    is_over = or_(_failures.c.first_failed_at <= now - period, _failures.c.locked_until <= now)
    dialect: Any = postgresql if dialect_name(session) == "postgresql" else sqlite
    statement = dialect.insert(_failures).values(
        username=_digest(pair.username), address=pair.address, failures=1, first_failed_at=now
    )
    updated = statement.on_conflict_do_update(
        index_elements=[_failures.c.username, _failures.c.address],
        set_={
            "failures": case((is_over, 1), else_=_failures.c.failures + 1),
            "first_failed_at": case((is_over, literal(now, UtcDateTime)), else_=_failures.c.first_failed_at),
            "locked_until": case((is_over, null()), (_failures.c.failures + 1 >= limit, until), else_=null()),
        },
    )
    return int((await session.execute(updated.returning(_failures.c.failures))).scalar_one())


async def forget_failures(session: AsyncSession, pair: SignInPair) -> None:
    await session.execute(delete(_failures).where(_is(pair)))


async def forget_all_failures(session: AsyncSession, username: str) -> None:
    """From every address."""
    await session.execute(delete(_failures).where(_failures.c.username == _digest(username)))


async def sweep_failures(session: AsyncSession, period: timedelta) -> None:
    """Removes some of those that no longer count: two periods after the first of them no lock is left."""
    old = (
        select(_failures.c.username, _failures.c.address)
        .where(_failures.c.first_failed_at < utc_now() - 2 * period)
        .limit(MAX_SWEPT_ROWS)
        .with_for_update(skip_locked=True)
    )
    await session.execute(delete(_failures).where(tuple_(_failures.c.username, _failures.c.address).in_(old)))


def _is(pair: SignInPair) -> Any:
    return and_(_failures.c.username == _digest(pair.username), _failures.c.address == pair.address)


def _digest(username: str) -> str:
    """What is kept of a name that somebody typed: it may be a password by mistake."""
    return hashlib.sha256(username.encode("utf-8", "surrogatepass")).hexdigest()


async def note_sign_in(session: AsyncSession, account: Account, new_hash: str | None) -> bool:
    """Whether the account is still what the password was checked against; if so it cannot change until the transaction
    ends. A new hash of the same password takes the place of the old one."""
    statement = (
        update(User)
        .where(User.id == account.id, User.is_active, User.password_hash == account.password_hash)
        # Signing in changes nothing of the user that anybody has written.
        .values(last_login_at=utc_now(), updated_at=User.updated_at, updated_by=User.updated_by)
        .returning(User.id)
    )
    if new_hash is not None:
        statement = statement.values(password_hash=new_hash)
    return await session.scalar(statement) is not None


async def replace_password(session: AsyncSession, account: Account, password_hash: str) -> bool:
    """Whether the account still had the password that was checked; if so, it has the new one."""
    statement = (
        update(User)
        .where(User.id == account.id, User.is_active, User.password_hash == account.password_hash)
        .values(password_hash=password_hash, password_changed_at=utc_now(), revision=User.revision + 1)
        .returning(User.id)
    )
    return await session.scalar(statement) is not None


async def add_session(session: AsyncSession, user_id: int, address: str | None, expires_at: datetime) -> int:
    values = {"user_id": user_id, "address": address, "expires_at": expires_at}
    return int((await session.execute(insert(UserSession).values(values).returning(UserSession.id))).scalar_one())


async def sweep_sessions(session: AsyncSession) -> None:
    """Removes some of those that have expired, with their tokens."""
    old = (
        select(UserSession.id)
        .where(UserSession.expires_at < utc_now())
        .limit(MAX_SWEPT_ROWS)
        .with_for_update(skip_locked=True)
    )
    await session.execute(delete(UserSession).where(UserSession.id.in_(old)))


async def add_refresh_token(session: AsyncSession, session_id: int, token_hash: str, expires_at: datetime) -> None:
    values = {"session_id": session_id, "token_hash": token_hash, "expires_at": expires_at}
    await session.execute(insert(RefreshToken).values(values))


async def lock_family(session: AsyncSession, token_hash: str) -> TokenFamily | None:
    """Whose token it is. Nobody else refreshes or ends that session until the transaction ends."""
    now = utc_now()
    is_alive = and_(
        User.is_active, UserSession.ended_at.is_(None), UserSession.expires_at > now, RefreshToken.expires_at > now
    )
    statement = (
        select(RefreshToken.id, UserSession.id, UserSession.user_id, User.username, is_alive)
        .join(UserSession, UserSession.id == RefreshToken.session_id)
        .join(User, User.id == UserSession.user_id)
        .where(RefreshToken.token_hash == token_hash)
        .with_for_update(of=UserSession)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else TokenFamily(*row)


async def use_token(session: AsyncSession, token_id: int) -> bool:
    """Whether it had not been used before; of several at once, one is told so."""
    statement = (
        update(RefreshToken)
        .where(RefreshToken.id == token_id, RefreshToken.used_at.is_(None))
        .values(used_at=utc_now())
    )
    return await session.scalar(statement.returning(RefreshToken.id)) is not None


async def prolong_session(session: AsyncSession, session_id: int, expires_at: datetime) -> None:
    """Until then, and without the tokens that have expired by now."""
    await session.execute(update(UserSession).where(UserSession.id == session_id).values(expires_at=expires_at))
    expired = delete(RefreshToken).where(RefreshToken.session_id == session_id, RefreshToken.expires_at < utc_now())
    await session.execute(expired)


async def end_session(session: AsyncSession, session_id: int, reason: SessionEnd) -> bool:
    """Whether it had not ended before."""
    return await _end(session, reason, UserSession.id == session_id) > 0


async def end_sessions(
    session: AsyncSession, user_id: int, reason: SessionEnd, *, but_session_id: int | None = None
) -> int:
    """All of the user's but one; returns how many had not ended before."""
    conditions = [UserSession.user_id == user_id]
    if but_session_id is not None:
        conditions.append(UserSession.id != but_session_id)
    return await _end(session, reason, *conditions)


async def _end(session: AsyncSession, reason: SessionEnd, *conditions: Any) -> int:
    statement = (
        update(UserSession)
        .where(*conditions, UserSession.ended_at.is_(None))
        .values(ended_at=utc_now(), end_reason=reason)
        .returning(UserSession.id)
    )
    return len((await session.scalars(statement)).all())
