"""Work that the service does beside the requests."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import structlog

log = structlog.get_logger(__name__)

# The first run waits until the start's own work is done; less where runs follow each other faster.
FIRST_RUN_SECONDS = 60.0


@asynccontextmanager
async def in_background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Has it run beside the block, and ends it before what it works on is closed."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def keep_removing(remove: Callable[[], Awaitable[object]], interval_seconds: float, what: str) -> None:
    """Removes again and again until it is cancelled; a failure is logged, and the next run tries again.

    `what` is what the log calls it: `old statistics`.
    """
    # Servers that were started together should not begin together.
    await asyncio.sleep(min(interval_seconds, FIRST_RUN_SECONDS) * random.uniform(0.5, 1))
    while True:
        try:
            if removed := await remove():
                log.info(f"{what} were removed", removed=removed)
        except Exception as error:
            log.error(f"{what} could not be removed", exc_info=error)
        await asyncio.sleep(interval_seconds)
