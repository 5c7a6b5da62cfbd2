"""Carries out a batch's deletion orders: several connections at once, retries, connections that are lost.

What becomes of every order is noted in the batch. An exception never leaves here: it is the outcome of the instance
that it met.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from app.database import RECONNECT_SECONDS, TRANSIENT_ATTEMPTS, Database, is_disconnect, is_transient
from app.instances import deletion_repository as repository
from app.instances.deletion_batch import DeletionBatch, Describe
from app.instances.deletion_program import Attempted, DeletionOrder, DeletionProgram, DeletionStatus, open_program

log = structlog.get_logger(__name__)

# A connection commits one deletion in so many durably, and with it those before it, so that no more than these are in
# doubt when the database goes away for good. (The connection is still there: so the server has not crashed meanwhile.)
SETTLE_EVERY = 250


class DeletionRunner:
    """Runs up to `connections` deletions at once (one on SQLite), bounded beside requests by a semaphore."""

    def __init__(self, database: Database, describe: Describe, *, connections: int) -> None:
        self._database = database
        self._describe = describe
        self._connections = 1 if database.is_sqlite else connections

    async def run(self, batch: DeletionBatch, orders: Sequence[DeletionOrder], *, durable: bool) -> None:
        queue = iter(orders)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._connections, len(orders))):
                group.create_task(self._work(batch, queue, durable=durable))

    async def _work(self, batch: DeletionBatch, queue: Iterator[DeletionOrder], *, durable: bool) -> None:
        async with self._database.batch_connections:
            while (order := next(queue, None)) is not None:
                if batch.gave_up:
                    batch.leave(order)
                    continue
                # A lost connection leaves the inner loop; the next turn opens another.
                await self._work_on_one_connection(batch, order, queue, durable=durable)

    async def _work_on_one_connection(
        self, batch: DeletionBatch, order: DeletionOrder | None, queue: Iterator[DeletionOrder], *, durable: bool
    ) -> None:
        done: list[DeletionOrder] = []
        try:
            async with open_program(self._database, durable=durable) as program:
                while order is not None:
                    await self._carry_out(batch, order, program, done)
                    order = next(queue, None)
        except Exception as error:
            if order is None:
                log.warning("a connection could not be given back", error=repr(error))
            elif is_disconnect(error):
                await self._after_lost_connection(batch, order, error)
            else:
                batch.fail(order, error)

    async def _carry_out(
        self, batch: DeletionBatch, order: DeletionOrder, program: DeletionProgram, done: list[DeletionOrder]
    ) -> None:
        """`done` are the connection's orders that are not settled yet."""
        settles = len(done) >= SETTLE_EVERY
        attempted = await self._attempt(program, order, settles=settles)
        batch.note(order, attempted, self._describe)
        done.append(order)
        if settles and attempted.status is DeletionStatus.DELETED:
            batch.settle(done)
            done.clear()

    async def _attempt(self, program: DeletionProgram, order: DeletionOrder, *, settles: bool = False) -> Attempted:
        """One instance; deadlocks and serialization failures are tried three times, with jitter."""
        for attempt in range(1, TRANSIENT_ATTEMPTS + 1):
            try:
                return await program.delete(order, settles=settles)
            except DBAPIError as error:
                if attempt == TRANSIENT_ATTEMPTS or not is_transient(error):
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _after_lost_connection(self, batch: DeletionBatch, order: DeletionOrder, error: Exception) -> None:
        """Finds out whether the deletion had been committed, and does it if it had not.

        When the database stays away the whole batch gives up: the instances left are failed, and can be retried.
        """
        for pause in () if batch.gave_up else RECONNECT_SECONDS:
            log.warning("the connection was lost while deleting; trying again", seconds=pause)
            await asyncio.sleep(pause)
            try:
                batch.note(order, await self._found_or_done(order), self._describe)
                return
            except Exception as again:
                if not is_disconnect(again):
                    batch.fail(order, again)
                    return
        batch.gave_up = True
        batch.fail(order, error)

    async def _found_or_done(self, order: DeletionOrder) -> Attempted:
        if (found := await self._recorded(order)) is not None:
            return found
        async with open_program(self._database, durable=True) as program:
            attempted = await self._attempt(program, order)
        if attempted.status is DeletionStatus.DELETED:
            return attempted
        # A server that had only lost its client carries on: then it was this batch that was faster than itself.
        return await self._recorded(order) or attempted

    async def _recorded(self, order: DeletionOrder) -> Attempted | None:
        async with self._database.readers() as session:
            found = await repository.recorded_deletion(session, order.batch_id, order.instance_id)
        return None if found is None else Attempted(DeletionStatus.DELETED, found.name, rows=found.rows)
