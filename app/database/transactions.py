"""Work in transactions: run again where that can help, and in steps."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database import Database
from app.database.driver_errors import is_transient

log = structlog.get_logger(__name__)

T = TypeVar("T")

TRANSIENT_ATTEMPTS = 3
# After a lost connection a batch goes on after these pauses: a restart of the database takes seconds.
RECONNECT_SECONDS = (0.5, 1.0, 2.0, 4.0)


async def run_in_transaction(
    sessions: async_sessionmaker[AsyncSession], work: Callable[[AsyncSession], Awaitable[T]]
) -> T:
    """Runs `work` in one transaction; deadlocks and serialization failures are tried three times, with jitter.

    Who is cancelled is told when it has ended: undone, or committed when the commit had begun, which is not cut off.
    """
    for attempt in range(1, TRANSIENT_ATTEMPTS + 1):
        try:
            async with sessions.begin() as session:
                return await work(session)
        except DBAPIError as error:
            if attempt == TRANSIENT_ATTEMPTS or not is_transient(error):
                raise
            log.info("transaction is run again", attempt=attempt, reason=str(error.orig))
            await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def run_beside_requests(database: Database, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """`run_in_transaction` for work that is not a request's, bounded as every batch's."""
    async with database.batch_connections:
        return await run_in_transaction(database.writers, work)


async def in_steps(
    database: Database, step: Callable[[AsyncSession], Awaitable[int]], size: int, pause_seconds: float = 0.0
) -> int:
    """Has `step` done, each time in a transaction of its own, until it does less than `size`; how much it did in all.

    For work beside the requests, which must keep nobody waiting for long: between two steps whoever waits for a
    connection, and on SQLite for the turn to write, gets it, and the pause is for those who come meanwhile.
    """
    total, count = 0, size
    while count == size:
        count = await run_beside_requests(database, step)
        total += count
        await asyncio.sleep(pause_seconds if count == size else 0)
    return total
