"""Several pieces of work at once, with results in the order of what they were made from."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def in_order(
    source: AsyncGenerator[T, None], work: Callable[[T], Awaitable[R]], *, at_once: int
) -> AsyncGenerator[R, None]:
    """What `work` makes of each item of the source, `at_once` under way while one more item is read ahead.

    What is not needed any more, because the reader left or an item failed, is cancelled and has ended when this does.
    """
    lanes = asyncio.Semaphore(at_once)
    running: deque[asyncio.Task[R]] = deque()

    async def in_a_lane(item: T) -> R:
        async with lanes:
            return await work(item)

    try:
        async for item in source:
            running.append(asyncio.create_task(in_a_lane(item)))
            if len(running) > at_once:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await source.aclose()
