"""Callers and their rights, by what they present: a token or a key. Kept for seconds, dropped when anything changes.

A change of users, roles, grants, keys or sessions says so by `changed(session)`: this process forgets everybody when
that transaction has committed, the others when they are notified (app.access.listener), or after the time to live.
"""

import asyncio
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass

import structlog
from cachetools import TLRUCache
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.access import repository
from app.access.api_key_format import digest
from app.access.permissions import Permission
from app.access.tokens import AccessTokens
from app.caller import NOWHERE, SERVICE_NAME, Caller, Spaces
from app.database import Database
from app.database.transactions import run_in_transaction

log = structlog.get_logger(__name__)

TIME_TO_LIVE_SECONDS = 30.0
MAX_IDENTITIES = 10_000


@dataclass(frozen=True, slots=True)
class Identity:
    """`rights`: by permission, the spaces in which it is held. `expires_at`: seconds since 1970, None for never."""

    caller: Caller
    rights: Mapping[str, Spaces]
    expires_at: float | None


def service_in(space_id: int | None) -> Identity:
    """The service itself, working in one space: it may do everything there, and nothing elsewhere."""
    spaces: Spaces = NOWHERE if space_id is None else frozenset({space_id})
    return Identity(Caller(None, SERVICE_NAME), dict.fromkeys(map(str, Permission), spaces), None)


def _use_until(_: str, identity: Identity, now: float) -> float:
    return (
        now + TIME_TO_LIVE_SECONDS
        if identity.expires_at is None
        else min(now + TIME_TO_LIVE_SECONDS, identity.expires_at)
    )


class Identities:
    def __init__(self, database: Database, tokens: AccessTokens) -> None:
        self._database = database
        self._tokens = tokens
        self._known: TLRUCache[str, Identity] = TLRUCache(MAX_IDENTITIES, _use_until, time.time)
        self._generation = 0
        self._notes: set[asyncio.Task[None]] = set()

    def known(self, presented: str) -> Identity | None:
        """Who presents this token or key, if that was looked up a moment ago."""
        return self._known.get(presented)

    async def of_token(self, token: str) -> Identity | None:
        """Who presents this access token; None when it is worth nothing."""
        claims = self._tokens.verify(token)
        if claims is None:
            return None
        generation = self._generation
        async with self._database.readers() as session:
            name = await repository.session_owner(session, claims.user_id, claims.session_id)
            if name is None:
                return None
            rights = await _rights(session, claims.user_id)
        caller = Caller(claims.user_id, name, session_id=claims.session_id)
        return self._kept(token, Identity(caller, rights, claims.expires_at), generation)

    async def of_key(self, key: str) -> Identity | None:
        """Who presents this API key; None when it is worth nothing. A key has at most the rights of its owner."""
        generation = self._generation
        async with self._database.readers() as session:
            owner = await repository.key_owner(session, digest(key))
            if owner is None:
                return None
            rights = await _rights(session, owner.user_id)
        rights = {permission: spaces for permission, spaces in rights.items() if permission in owner.scopes}
        self._note_use(owner.key_id)
        expires_at = None if owner.expires_at is None else owner.expires_at.timestamp()
        caller = Caller(owner.user_id, owner.username, api_key_prefix=owner.prefix)
        return self._kept(key, Identity(caller, rights, expires_at), generation)

    async def of_owner(self, user_id: int, permissions: Container[str]) -> Identity | None:
        """The user on whose behalf the service works, with at most these permissions; None when they may not sign in
        any more."""
        async with self._database.readers() as session:
            name = await repository.active_user_name(session, user_id)
            if name is None:
                return None
            rights = await _rights(session, user_id)
        held = {permission: spaces for permission, spaces in rights.items() if permission in permissions}
        return Identity(Caller(user_id, name), held, None)

    async def changed(self, session: AsyncSession) -> None:
        """To be called in the transaction that changes users, roles, grants, keys or sessions."""
        await repository.announce(session)
        event.listen(session.sync_session, "after_commit", self._forget_when_committed)

    def _forget_when_committed(self, session: Session) -> None:
        # The event also comes when a savepoint is released, and then nobody else sees the change yet.
        if not session.in_nested_transaction():
            self.forget()

    def forget(self) -> None:
        """Everybody is looked up anew."""
        self._generation += 1
        self._known.clear()

    async def close(self) -> None:
        await asyncio.gather(*self._notes, return_exceptions=True)

    def _kept(self, presented: str, identity: Identity, generation: int) -> Identity:
        # What was read before a change must not be kept after it.
        if generation == self._generation:
            self._known[presented] = identity
        return identity

    def _note_use(self, key_id: int) -> None:
        """Beside the request: it may have to wait for other writers, and nobody waits for it."""
        task = asyncio.create_task(self._noted(key_id))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _noted(self, key_id: int) -> None:
        try:
            await run_in_transaction(self._database.writers, lambda session: repository.note_key_use(session, key_id))
        except (OSError, SQLAlchemyError) as error:
            log.warning("the use of an API key could not be noted", error=repr(error))


async def _rights(session: AsyncSession, user_id: int) -> dict[str, Spaces]:
    rights: dict[str, Spaces] = {}
    for permission, space_id in await repository.held_permissions(session, user_id):
        held = rights.get(permission, frozenset())
        rights[permission] = None if held is None or space_id is None else held | {space_id}
    return rights
