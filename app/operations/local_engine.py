"""The engine of a server with an embedded database: tasks of the server itself, started from the table.

One process has the file (a lock sees to that), so whatever is unfinished when it starts was left by one that ended.
"""

import asyncio

import structlog
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.database import Database
from app.operations import repository
from app.operations.engine import Run

log = structlog.get_logger(__name__)

# After an operation could not be gone on with, because the database stayed away.
RETRY_SECONDS = 30.0


class LocalEngine:
    """Up to `at_once` operations at once, in the order in which they were asked for."""

    def __init__(self, database: Database, *, at_once: int) -> None:
        self._database = database
        self._at_once = at_once
        self._waiting: asyncio.Queue[int | None] = asyncio.Queue()
        self._is_stopping = False

    async def enqueue(self, session: AsyncSession, operation_id: int) -> None:
        enqueued = [operation_id]

        def put(committed: Session) -> None:
            # A savepoint's end is told as a commit too. (A listener cannot be removed while it is being called.)
            if enqueued and not committed.in_nested_transaction():
                self._waiting.put_nowait(enqueued.pop())

        event.listen(session.sync_session, "after_commit", put)

    async def work(self, run: Run) -> None:
        async with self._database.readers() as session:
            left = await repository.unfinished_ids(session)
        async with asyncio.TaskGroup() as group:
            for operation_id in left:
                self._waiting.put_nowait(operation_id)
            for _ in range(self._at_once):
                group.create_task(self._work_on_each(run))

    def stop(self) -> None:
        self._is_stopping = True
        for _ in range(self._at_once):
            self._waiting.put_nowait(None)

    async def _work_on_each(self, run: Run) -> None:
        while not self._is_stopping and (operation_id := await self._waiting.get()) is not None:
            try:
                await run(operation_id)
            except Exception as error:
                log.error("an operation could not be gone on with", operation_id=operation_id, exc_info=error)
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._waiting.put_nowait, operation_id)
