"""Carries out a batch's deletion orders: several connections at once, retries, connections that are lost.

What becomes of every order is noted in the batch. An exception never leaves here: it is the outcome of the instance
that it met.

A deletion that is to stop does so within a second, however large the instance is that it is at: a statement that is not
done by then is cancelled, and so rolled back. What became of it nobody is told here; its item, or the lack of it, says.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from app.background import in_background
from app.database import Database
from app.database.driver_errors import is_disconnect, is_transient
from app.database.transactions import RECONNECT_SECONDS, TRANSIENT_ATTEMPTS
from app.instances import deletion_repository as repository
from app.instances.deletion_batch import DeletionBatch, Describe
from app.instances.deletion_program import Attempted, DeletionOrder, DeletionProgram, DeletionStatus, open_program

log = structlog.get_logger(__name__)

# A connection commits one deletion in so many durably, and with it those before it, so that no more than these are in
# doubt when the database goes away for good. (The connection is still there: so the server has not crashed meanwhile.)
SETTLE_EVERY = 250
# After so long a connection is given back when all that batches may have are in use: somebody may wait for one, and a
# deletion of thousands goes on for minutes. (Not sooner: another begins with plans to make.)
TURN_SECONDS = 0.5
# What is under way when the deletion is to stop has so long to be done.
STOP_SECONDS = 0.25


class DeletionRunner:
    """Runs up to `connections` deletions at once (one on SQLite), bounded beside requests by a semaphore."""

    def __init__(self, database: Database, describe: Describe, *, connections: int) -> None:
        self._database = database
        self._describe = describe
        self._connections = 1 if database.is_sqlite else connections

    async def run(self, batch: DeletionBatch, orders: Sequence[DeletionOrder], *, durable: bool) -> None:
        queue = iter(orders)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers(orders)):
                group.create_task(self._work(batch, queue, durable=durable))

    async def run_until(self, stop: asyncio.Event, batch: DeletionBatch, orders: Sequence[DeletionOrder]) -> None:
        """The same, not durably, until it is done or `stop` is set. Then the orders that were not carried out have no
        outcome, nor have those that were under way."""
        queue = (order for order in orders if not stop.is_set())
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(self._work(batch, queue, durable=False)) for _ in range(self._workers(orders))]
            async with in_background(_cancel_after(stop, work)):
                await asyncio.gather(*work, return_exceptions=True)

    def _workers(self, orders: Sequence[DeletionOrder]) -> int:
        return min(self._connections, len(orders))

    async def _work(self, batch: DeletionBatch, queue: Iterator[DeletionOrder], *, durable: bool) -> None:
        while (order := next(queue, None)) is not None:
            if batch.gave_up:
                batch.leave(order)
                continue
            async with self._database.batch_connections:
                await self._work_on_one_connection(batch, order, queue, durable=durable)

    async def _work_on_one_connection(
        self, batch: DeletionBatch, order: DeletionOrder | None, queue: Iterator[DeletionOrder], *, durable: bool
    ) -> None:
        """Until nothing is left to do, the connection is lost, or somebody else should have a turn."""
        done: list[DeletionOrder] = []
        until = time.monotonic() + TURN_SECONDS
        try:
            async with open_program(self._database, durable=durable) as program:
                while order is not None:
                    await self._carry_out(batch, order, program, done)
                    is_over = batch.is_fenced or (
                        time.monotonic() > until and self._database.batch_connections.locked()
                    )
                    order = None if is_over else next(queue, None)
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
        batch.give_up(order, error)

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


async def _cancel_after(stop: asyncio.Event, work: Sequence[asyncio.Task[None]]) -> None:
    await stop.wait()
    await asyncio.sleep(STOP_SECONDS)
    for task in work:
        task.cancel()
