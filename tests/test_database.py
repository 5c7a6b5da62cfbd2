"""What the engine leaves behind when it is closed, and bulk loads."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database
from app.database.bulk_loads import SQLITE_INSERT_ROWS, insert_rows
from app.database.statements import stored_timestamp
from app.models.audit import AuditEvent
from app.models.base import table_of, utc_now

# Turns of the event loop until a cancellation comes: from before the connection is opened until after its statement.
CANCELLED_AFTER = range(40)


def connection_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name}


@pytest.mark.parametrize("database_kind", ["sqlite"])
class TestDispose:
    @pytest.mark.parametrize("turns", CANCELLED_AFTER)
    async def test_no_thread_of_a_cancelled_connection_outlives_it(self, settings: Settings, turns: int) -> None:
        """Such a thread would report to an event loop that is closed by then, and end with a traceback."""
        before = connection_threads()
        database = Database(settings)

        async def write() -> None:
            async with database.writers.begin() as session:
                await session.execute(text("SELECT 1"))

        task = asyncio.create_task(write())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await database.dispose()
        assert connection_threads() <= before


EVENTS = table_of(AuditEvent)
SHARED = {"action": "thing:create", "resource_type": "thing", "outcome": "succeeded"}
# On SQLite several statements, the last one shorter.
ROWS = 2 * SQLITE_INSERT_ROWS + 1


def shared_by(session: AsyncSession) -> dict[str, Any]:
    return SHARED | {"occurred_at": stored_timestamp(session, utc_now())}


class TestBulkLoads:
    async def test_each_row_is_written_with_what_all_of_them_share(self, database: Database) -> None:
        rows = ((number, f"n{number}") for number in range(ROWS))
        async with database.writers.begin() as session:
            await insert_rows(session, EVENTS, ("resource_id", "resource_name"), rows, shared_by(session))
        columns = (EVENTS.c.resource_id, EVENTS.c.resource_name, *(EVENTS.c[name] for name in SHARED))
        async with database.readers() as session:
            found = (await session.execute(select(*columns).order_by(EVENTS.c.id))).all()
        assert found == [(number, f"n{number}", *SHARED.values()) for number in range(ROWS)]

    async def test_belong_to_the_transaction_that_they_are_the_first_statement_of(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError):
            async with database.writers.begin() as session:
                await insert_rows(session, EVENTS, ("resource_id",), [(1,)], shared_by(session))
                raise ZeroDivisionError
        async with database.readers() as session:
            assert (await session.execute(select(EVENTS.c.id))).all() == []

    async def test_none(self, database: Database) -> None:
        async with database.writers.begin() as session:
            await insert_rows(session, EVENTS, ("resource_id",), (), shared_by(session))

    async def test_what_a_constraint_refuses(self, database: Database) -> None:
        with pytest.raises(IntegrityError):
            async with database.writers.begin() as session:
                await insert_rows(session, EVENTS, ("sequence",), [(1,), (1,)], shared_by(session))

    async def test_an_error_of_whoever_makes_the_rows_is_raised_as_it_is(self, database: Database) -> None:
        def rows() -> Iterator[tuple[int]]:
            yield (1,)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async with database.writers.begin() as session:
                await insert_rows(session, EVENTS, ("resource_id",), rows(), shared_by(session))
