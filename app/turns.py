"""Long work on the event loop, with turns for everybody else's."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

ItemT = TypeVar("ItemT")

TURN_SECONDS: Final = 0.005


async def in_turns(items: Iterable[ItemT]) -> AsyncIterator[ItemT]:
    """The items; whenever the loop's body has been at them for long enough, others have their turn."""
    started = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - started > TURN_SECONDS:
            await asyncio.sleep(0)
            started = time.perf_counter()
