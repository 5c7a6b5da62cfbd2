"""Follows an operation for whoever watches it, as a stream of events that ends with the operation.

A watcher looks at the row twice a second, each time by a session of its own: between two looks it holds no connection,
so that any number of watchers leaves the pool to others. With each look its caller is admitted anew; a token that has
expired, a right that was lost or an operation that is gone ends the stream. So do the server's stop, and fifteen
minutes: the client comes back, says which event it saw last, and is sent what is newer.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database
from app.errors import AppError, TooManyRequests
from app.operations.records import OperationRecord
from app.operations.service import visible_operation

LOOK_SECONDS = 0.5
LIFE_SECONDS = 15 * 60.0
# In this process; a page that watches each of a list's operations opens many.
MAX_STREAMS_OF_USER = 20
RETRY_AFTER_SECONDS = 5

# Completes the present call anew. Raises AppError when its caller may not go on.
Readmit = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OperationEvent:
    """`done` is the last one of an operation that has ended."""

    name: Literal["progress", "done"]
    operation: OperationRecord

    @property
    def id(self) -> str:
        return str(self.operation.revision)


class OperationStreams:
    """Everybody's open ones; one a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: Counter[int] = Counter()
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Ends every stream at once; one that is opened afterwards ends with its first event."""
        self._closed.set()

    @contextmanager
    def place(self, user_id: int) -> Iterator[None]:
        """Room for one more stream while the block lasts. Raises TooManyRequests."""
        if self._open[user_id] >= MAX_STREAMS_OF_USER:
            message = f"at most {MAX_STREAMS_OF_USER} event streams at once; close one, or ask for the operation itself"
            raise TooManyRequests(message, RETRY_AFTER_SECONDS)
        self._open[user_id] += 1
        try:
            yield
        finally:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]

    async def event(self, operation_id: int) -> OperationEvent:
        """What there is to tell now. Raises NotFound, for somebody else's too unless the caller may read all."""
        async with self._database.readers() as session:
            operation = await visible_operation(session, operation_id)
        return OperationEvent("done" if operation.state.is_end else "progress", operation)

    async def events(self, first: OperationEvent, seen: str | None, readmit: Readmit) -> AsyncIterator[OperationEvent]:
        """`first`, unless it is the one that was `seen`, and whatever changes afterwards."""
        deadline = time.monotonic() + LIFE_SECONDS
        event: OperationEvent | None = first
        while event is not None:
            if event.id != seen:
                seen = event.id
                yield event
            event = None if event.name == "done" else await self._next(event, deadline, readmit)

    async def _next(self, last: OperationEvent, deadline: float, readmit: Readmit) -> OperationEvent | None:
        """What there is to tell after a pause, maybe the same; None when the stream is to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._closed.wait()
        if self._closed.is_set() or time.monotonic() > deadline:
            return None
        try:
            await readmit()
            return await self.event(last.operation.id)
        except AppError:
            return None
        except (SQLAlchemyError, OSError):
            # The database is away, as every other call tells. Who came back would be refused now, and not try again.
            return last
