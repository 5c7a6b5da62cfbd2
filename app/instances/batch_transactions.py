"""Transactions of a batch that are applied exactly once, also when the connection is lost while they commit.

A commit whose answer never came may or may not have happened. Every transaction of a batch writes something that nobody
else writes (audit entries with the batch's id, items of its operation); once the database answers again, that tells.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database import Database
from app.database.driver_errors import is_disconnect
from app.database.transactions import RECONNECT_SECONDS, run_in_transaction

log = structlog.get_logger(__name__)

T = TypeVar("T")


# Whether what a transaction writes is there, and so whether it was committed.
Evidence = Callable[[AsyncSession], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """What a transaction is about to commit; without evidence it changes nothing, and may be run again."""

    result: T
    evidence: Evidence | None


class BatchTransactions:
    def __init__(self, database: Database) -> None:
        self._writers: async_sessionmaker[AsyncSession] = database.writers
        self._readers: async_sessionmaker[AsyncSession] = database.readers

    async def run(self, work: Callable[[AsyncSession], Awaitable[Attempt[T]]]) -> T:
        """Runs `work` in one transaction, again after a deadlock or a lost connection, and returns its result.

        Raises what the last attempt raised when the database stays away.
        """
        last: Attempt[T] | None = None

        async def attempt(session: AsyncSession) -> T:
            nonlocal last
            last = await work(session)
            return last.result

        for pause in (*RECONNECT_SECONDS, None):
            try:
                if last is not None and await self._is_there(last.evidence):
                    return last.result
                return await run_in_transaction(self._writers, attempt)
            except (DBAPIError, OSError) as error:
                if pause is None or not is_disconnect(error):
                    raise
                log.warning("the connection was lost while writing; trying again", seconds=pause)
                await asyncio.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _is_there(self, evidence: Evidence | None) -> bool:
        if evidence is None:
            return False
        async with self._readers() as session:
            return await evidence(session)
