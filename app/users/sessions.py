"""Sessions: one signing-in, and the refresh tokens that keep it going, each of which can be used once.

A token that is used again has been stolen, from its owner or by who claims to be: which of the two is calling cannot be
told, so the session ends for both. Of two calls with one token at the same time, the second uses it again.
"""

import secrets
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.api_key_format import digest
from app.access.identities import Identities
from app.access.tokens import AccessTokens
from app.audit.recorder import AuditEntry, record
from app.caller import Caller, current_call
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import Forbidden, NotAuthenticated
from app.models.audit import AuditOutcome
from app.models.base import utc_now
from app.models.user import SessionEnd
from app.users import sign_in_repository as repository
from app.users.records import IssuedTokens, TokenFamily

# 256 bits, behind a few characters by which one that has leaked can be found.
REFRESH_TOKEN_BYTES = 32
REFRESH_TOKEN_PREFIX = "msr_"  # noqa: S105 - how tokens begin


class SessionService:
    """`lifetime` is a refresh token's; a session lasts as long as its newest one."""

    def __init__(self, database: Database, identities: Identities, tokens: AccessTokens, lifetime: timedelta) -> None:
        self._database = database
        self._identities = identities
        self._tokens = tokens
        self._lifetime = lifetime

    async def begin(self, session: AsyncSession, user_id: int) -> tuple[int, IssuedTokens]:
        """A new session's id and tokens, in the caller's transaction. Nothing that a client sends has a part in it."""
        await repository.sweep_sessions(session)
        expires_at = utc_now() + self._lifetime
        session_id = await repository.add_session(session, user_id, current_call().address, expires_at)
        return session_id, await self._issue(session, user_id, session_id)

    async def refresh(self, refresh_token: str) -> IssuedTokens:
        """New tokens for a refresh token. Raises NotAuthenticated when it is worth nothing (any more)."""
        # An answer that is an error must not undo what a token's second use does.
        issued = await run_in_transaction(self._database.writers, lambda session: self._rotated(session, refresh_token))
        if issued is None:
            raise NotAuthenticated("this refresh token is not valid, has expired or was used already; sign in again")
        return issued

    async def end_current(self) -> None:
        """Signs the caller out. Raises Forbidden for an API key, which belongs to no session."""
        caller = current_call().caller
        assert caller is not None, "only who is signed in can sign out"
        session_id = caller.session_id
        if session_id is None:
            raise Forbidden("an API key has no session that could end; revoke the key instead")
        await run_in_transaction(
            self._database.writers, lambda session: self._end(session, caller, session_id, SessionEnd.LOGOUT)
        )

    async def _rotated(self, session: AsyncSession, refresh_token: str) -> IssuedTokens | None:
        family = await repository.lock_family(session, digest(refresh_token)) if refresh_token.isascii() else None
        if family is None or not family.is_alive:
            return None
        current_call().caller = Caller(family.user_id, family.username, session_id=family.session_id)
        if not await repository.use_token(session, family.token_id):
            await self._end_reused(session, family)
            return None
        await repository.prolong_session(session, family.session_id, utc_now() + self._lifetime)
        return await self._issue(session, family.user_id, family.session_id)

    async def _issue(self, session: AsyncSession, user_id: int, session_id: int) -> IssuedTokens:
        refresh_token = REFRESH_TOKEN_PREFIX + secrets.token_urlsafe(REFRESH_TOKEN_BYTES)
        expires_at = utc_now() + self._lifetime
        await repository.add_refresh_token(session, session_id, digest(refresh_token), expires_at)
        return IssuedTokens(
            access_token=self._tokens.issue(user_id, session_id),
            expires_in=self._tokens.lifetime_seconds,
            refresh_token=refresh_token,
            refresh_expires_in=round(self._lifetime.total_seconds()),
        )

    async def _end_reused(self, session: AsyncSession, family: TokenFamily) -> None:
        call = current_call()
        call.status, call.is_recorded = NotAuthenticated.status, True
        await repository.end_session(session, family.session_id, SessionEnd.REUSE)
        changes = {"reason": "reused", "session_id": family.session_id}
        await record(
            session,
            AuditEntry(
                "auth:refresh", "user", family.user_id, family.username, None, AuditOutcome.DENIED, changes=changes
            ),
        )
        await self._identities.changed(session)

    async def _end(self, session: AsyncSession, caller: Caller, session_id: int, reason: SessionEnd) -> None:
        if await repository.end_session(session, session_id, reason):
            await record(session, AuditEntry("auth:logout", "user", caller.user_id, caller.name, None))
            await self._identities.changed(session)
