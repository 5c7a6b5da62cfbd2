"""Transactions that are not cut off in the middle: a turn that is cancelled while it writes ends what it writes first.

(It takes milliseconds. On SQLite a statement that is cut off goes on in its connection's thread, and can leave the file
locked for everybody.)
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database, run_in_transaction

T = TypeVar("T")


async def in_whole_transaction(database: Database, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Runs `work` in one transaction, beside those of requests, bounded as every batch's."""
    async with database.batch_connections:
        transaction = asyncio.ensure_future(run_in_transaction(database.writers, work))
        try:
            return await asyncio.shield(transaction)
        finally:
            await _ended(transaction)


async def _ended(transaction: asyncio.Future[T]) -> None:
    """However often whoever waits is cancelled meanwhile."""
    is_cancelled = False
    while not transaction.done():
        try:
            await asyncio.wait({transaction})
        except asyncio.CancelledError:
            is_cancelled = True
    if not transaction.cancelled():
        # What it raises was raised already, or has nobody to hear it any more.
        transaction.exception()
    if is_cancelled:
        raise asyncio.CancelledError
