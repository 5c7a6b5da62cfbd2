"""Whoever is cancelled in the middle of a transaction leaves no connection, no lock and no half of it behind."""

import asyncio
import gc
import random
import sqlite3
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import func, insert, make_url, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import QueuePool

from app.config import Settings
from app.database import Database
from app.database.bulk_loads import insert_rows
from app.database.statements import stored_timestamp
from app.database.transactions import run_in_transaction
from app.models.audit import AuditEvent
from app.models.base import table_of, utc_now

EVENTS = table_of(AuditEvent)
ROUNDS = 8
AT_ONCE = 12
# Turns of the event loop until a cancellation comes: from before the transaction until after it, on either database.
LONGEST_TURNS = 400
# After it, others must be able to write again; SQLite itself waits ten times as long for a lock.
PROMPT_SECONDS = 1.0
BULK_ROWS = 700

Write = Callable[[Database, int], Awaitable[None]]


def entry(number: int) -> AuditEvent:
    return AuditEvent(
        occurred_at=utc_now(), action="thing:make", resource_type="thing", outcome="succeeded", resource_id=number
    )


async def with_rows_to_fetch(database: Database, number: int) -> None:
    async def work(session: AsyncSession) -> None:
        for _ in range(2):
            values = {"action": "thing:make", "resource_type": "thing", "outcome": "succeeded", "resource_id": number}
            await session.execute(insert(EVENTS).values(occurred_at=utc_now(), **values).returning(EVENTS.c.id))
            await session.execute(select(EVENTS.c.id).limit(50))

    await run_in_transaction(database.writers, work)


async def with_objects(database: Database, number: int) -> None:
    async with database.writers.begin() as session:
        for _ in range(2):
            session.add(entry(number))
            await session.flush()


async def in_bulk(database: Database, number: int) -> None:
    async with database.writers.begin() as session:
        shared = {"action": "thing:make", "resource_type": "thing", "outcome": "succeeded"}
        shared |= {"occurred_at": stored_timestamp(session, utc_now())}  # type: ignore[dict-item]
        await insert_rows(session, EVENTS, ("resource_id",), ((number,) for _ in range(BULK_ROWS)), shared)


async def by_one_statement(database: Database, number: int) -> None:
    async with database.writer_turn(), database.statements() as session:
        await session.execute(update(EVENTS).values(resource_name="x").where(EVENTS.c.resource_id == number))


async def reading(database: Database, number: int) -> None:
    async with database.readers() as session:
        await session.execute(select(EVENTS.c.id).where(EVENTS.c.resource_id != number).limit(200))


# How each writes, and of how many rows a transaction consists.
WRITES: dict[Write, int] = {with_rows_to_fetch: 2, with_objects: 2, in_bulk: BULK_ROWS, by_one_statement: 0, reading: 0}


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings)
    yield database
    await database.dispose()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is left to the garbage collector stays, as it does for minutes in a server (app.garbage)."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def rows_by_number(database: Database) -> dict[int, int]:
    count = select(EVENTS.c.resource_id, func.count()).group_by(EVENTS.c.resource_id)
    async with database.readers() as session:
        return {number: rows for number, rows in await session.execute(count) if number is not None}


async def check_others_can_write(database: Database) -> None:
    async with asyncio.timeout(PROMPT_SECONDS), database.writers.begin() as session:
        await session.execute(update(EVENTS).values(resource_name="x").where(EVENTS.c.id < 0))


def check_pools(database: Database) -> None:
    for engine in (database.engine, database.read_engine):
        pool = engine.sync_engine.pool
        assert isinstance(pool, QueuePool)
        assert (pool.checkedout(), pool.overflow() + pool.size()) == (0, pool.checkedin())


async def cancelled_after(task: asyncio.Task[None], turns: int, again_after: int | None) -> None:
    """Once, or twice."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    if again_after is not None:
        for _ in range(again_after):
            await asyncio.sleep(0)
        task.cancel()


@pytest.mark.holds_the_loop("its many tasks take turns on it")
@pytest.mark.usefixtures("no_collector")
class TestCancelledAtAnyMoment:
    @pytest.mark.parametrize("is_repeated", [False, True], ids=["once", "again"])
    @pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
    async def test_leaves_nothing(self, opened: Database, write: Write, *, is_repeated: bool) -> None:
        chosen = random.Random(1)
        found: dict[int, int] = {}
        for round_number in range(ROUNDS):
            numbers = range(AT_ONCE * round_number, AT_ONCE * (round_number + 1))
            tasks = [asyncio.ensure_future(write(opened, number)) for number in numbers]
            longest = chosen.choice((LONGEST_TURNS // 10, LONGEST_TURNS))
            await asyncio.gather(
                *(
                    cancelled_after(task, chosen.randrange(longest), chosen.randrange(10) if is_repeated else None)
                    for task in tasks
                )
            )
            await asyncio.wait(tasks)
            assert [task.exception() for task in tasks if not task.cancelled() and task.exception()] == []
            found = await rows_by_number(opened)
            await check_others_can_write(opened)
            check_pools(opened)
        assert set(found.values()) <= {WRITES[write]}
        # Nothing was still under way when its caller was told that it had ended.
        assert await rows_by_number(opened) == found

    async def test_leaves_no_connection_to_the_garbage_collector(self, opened: Database) -> None:
        chosen = random.Random(2)
        tasks = [asyncio.ensure_future(write(opened, number)) for number in range(20) for write in WRITES]
        await asyncio.gather(*(cancelled_after(task, chosen.randrange(LONGEST_TURNS), None) for task in tasks))
        await asyncio.wait(tasks)
        del tasks
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            gc.collect()
        assert [str(warning.message) for warning in warned] == []


@pytest.mark.parametrize("database_kind", ["sqlite"])
class TestPrompt:
    """A connection's thread cannot be cancelled; what is cancelled does not wait for it."""

    async def test_at_a_long_statement(self, opened: Database) -> None:
        long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

        async def write() -> None:
            async with opened.writers.begin() as session:
                await session.execute(text(long))

        assert await self._seconds_to_cancel(write()) < PROMPT_SECONDS
        await check_others_can_write(opened)

    async def test_while_another_process_is_writing(self, opened: Database, database_url: str) -> None:
        with closing(sqlite3.connect(str(make_url(database_url).database), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await self._seconds_to_cancel(with_objects(opened, 1)) < PROMPT_SECONDS
        await check_others_can_write(opened)
        check_pools(opened)

    async def _seconds_to_cancel(self, work: Awaitable[None]) -> float:
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return time.monotonic() - began
