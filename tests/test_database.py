"""What the engine leaves behind when it is closed."""

import asyncio
import threading

import pytest
from sqlalchemy import text

from app.config import Settings
from app.database import Database

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
