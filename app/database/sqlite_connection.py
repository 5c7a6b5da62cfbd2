"""Connections to SQLite that can be closed at any moment, and then hold nothing of the file any more.

Each has a thread of its own (aiosqlite). When whoever waits for it is cancelled, SQLAlchemy closes the connection while
its thread may still be at a statement, or between a statement and the rows of its result.
"""

import asyncio
import sqlite3
from functools import partial
from typing import Any
from weakref import ref

import aiosqlite

# How long closing waits for the thread. A statement that waits for another process's lock cannot be interrupted; its
# thread closes the connection later, and does nothing in between.
CLOSE_SECONDS = 0.5
# Rows that an iteration over a cursor brings from the thread at once; aiosqlite's own default.
ITERATION_ROWS = 64


class _Connection(sqlite3.Connection):
    """Closing it closes its cursors too.

    SQLite keeps the transaction of a closed connection, and so the lock on the file, until the last statement that has
    rows left is gone (https://www.sqlite.org/c3ref/close.html). The cursor of one who was cancelled before the rows
    were fetched would hold it until the garbage collector comes by, which can take minutes.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Not a WeakSet: cursors also end in the event loop's thread, while this one's looks through them.
        self._cursors: set[ref[sqlite3.Cursor]] = set()

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        cursor = super().cursor(factory)
        self._cursors.add(ref(cursor, self._cursors.discard))
        return cursor

    def close(self) -> None:
        for reference in self._cursors.copy():
            if (cursor := reference()) is not None:
                cursor.close()
        super().close()


class SqliteConnection(aiosqlite.Connection):
    """Closing it interrupts what its thread is at, and can be cancelled and repeated."""

    def __init__(self, database: str, **options: Any) -> None:
        super().__init__(partial(sqlite3.connect, database, factory=_Connection, **options), ITERATION_ROWS)
        # As SQLAlchemy does it: a connection that nobody closed does not keep the process alive.
        self.thread = self._thread
        self.thread.daemon = True

    async def close(self) -> None:
        ended = self.stop()
        if ended is not None:
            await asyncio.wait({ended}, timeout=CLOSE_SECONDS)

    def stop(self) -> asyncio.Future[Any] | None:
        if not self._running:
            return None
        if self._connection is not None:
            self._connection.interrupt()
        return super().stop()
