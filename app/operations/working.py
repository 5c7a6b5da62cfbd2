"""Works on operations for as long as a process lives, and leaves none behind when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.operations.engine import OperationEngine
from app.operations.runner import OperationRunner


@asynccontextmanager
async def working(
    engine: OperationEngine, runner: OperationRunner, grace_seconds: float, hurry: asyncio.Event | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Works on operations beside the block. After it, what is under way ends its present item or chunk and is handed
    over; what has not within `grace_seconds`, or when `hurry` is set, is cut off, and another worker begins there."""
    work = asyncio.create_task(engine.work(runner.run))
    try:
        yield work
    finally:
        hand_over(engine, runner)
        await _wait(work, grace_seconds, asyncio.Event() if hurry is None else hurry)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


def hand_over(engine: OperationEngine, runner: OperationRunner) -> None:
    """Begins nothing more, and has what is under way stop after its present item or chunk."""
    engine.stop()
    runner.stop()


async def _wait(work: asyncio.Task[None], seconds: float, hurry: asyncio.Event) -> None:
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({work, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
