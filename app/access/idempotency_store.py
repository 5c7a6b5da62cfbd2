"""Who may do what a key stands for, and what came of it; see app.access.idempotency."""

import asyncio
import random
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access import idempotency_repository as repository
from app.access.idempotency_repository import Claim, KnownKey, StoredAnswer
from app.background import in_background
from app.database import Database
from app.database.transactions import in_steps, run_in_transaction
from app.errors import Conflict, ParameterError
from app.models.base import utc_now

log = structlog.get_logger(__name__)

LEASE = timedelta(minutes=10)
RENEWAL_SECONDS = 120.0
KEPT = timedelta(hours=24)
RETRY_SECONDS = 5
CLEANING_SECONDS = 3600.0
# A transaction of the cleaning: small, so that nobody waits for it.
STEP_KEYS = 500
FAILURES = (OSError, TimeoutError, SQLAlchemyError)


class IdempotencyStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, claim: Claim) -> StoredAnswer | None:
        """None when the attempt may begin; else what was answered before.

        Raises ParameterError when the key stands for another payload, Conflict when it is being worked on.
        """
        return await run_in_transaction(self._database.writers, lambda session: self._claim(session, claim))

    async def _claim(self, session: AsyncSession, claim: Claim) -> StoredAnswer | None:
        now = utc_now()
        while not await repository.claim(session, claim, now, now + LEASE):
            known = await repository.locked(session, claim.user_id, claim.key)
            # None: released in between.
            if known is not None:
                return await self._judge(session, claim, known)
        return None

    async def _judge(self, session: AsyncSession, claim: Claim, known: KnownKey) -> StoredAnswer | None:
        now = utc_now()
        is_held = known.answer is None and known.lease_until > now
        if is_held or known.created_at > now - KEPT:
            if known.fingerprint != claim.fingerprint:
                raise ParameterError("this Idempotency-Key was used for another request; use a new one for this")
            if is_held:
                raise Conflict(
                    "a request with this Idempotency-Key is still running",
                    headers={"Retry-After": str(RETRY_SECONDS)},
                )
            if known.answer is not None:
                return known.answer
        await repository.take_over(session, claim, now, now + LEASE)
        return None

    async def complete_within(self, session: AsyncSession, claim: Claim, answer: StoredAnswer) -> bool:
        """Keeps the answer in that transaction; False when another attempt has taken over."""
        return await repository.complete(session, claim, answer)

    async def complete(self, claim: Claim, answer: StoredAnswer) -> None:
        await run_in_transaction(self._database.writers, lambda session: repository.complete(session, claim, answer))

    async def release(self, claim: Claim) -> None:
        await run_in_transaction(self._database.writers, lambda session: repository.release(session, claim))

    def renewing(self, claim: Claim) -> AbstractAsyncContextManager[None]:
        """Nobody takes over while the block runs."""
        return in_background(self._renew(claim))

    async def _renew(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            try:
                await run_in_transaction(
                    self._database.writers, lambda session: repository.renew(session, claim, utc_now() + LEASE)
                )
            except FAILURES as error:
                log.warning("the lease of an idempotent call could not be renewed", error=repr(error))

    async def remove_old(self) -> int:
        """Removes keys that are older than a day, a few at a time; how many."""
        now = utc_now()
        return await in_steps(
            self._database,
            lambda session: repository.delete_older(session, now - KEPT, now, STEP_KEYS),
            STEP_KEYS,
        )


async def keep_removing_old_keys(store: IdempotencyStore) -> None:
    """Removes them again and again until it is cancelled; a failure is logged, and the next run tries again."""
    while True:
        # Servers that were started together should not begin together.
        await asyncio.sleep(CLEANING_SECONDS * random.uniform(0.5, 1))
        try:
            await store.remove_old()
        except FAILURES as error:
            log.error("old idempotency keys could not be removed", exc_info=error)
