"""The database: engine and session factories.

There are three factories. `writers` opens transactions; on SQLite these start with BEGIN IMMEDIATE behind one
in-process lock in order of arrival, because a read that later upgrades to a write fails at once busy timeout or not.
`readers` runs every statement by itself (autocommit): no BEGIN, no ROLLBACK, one round trip for one SELECT. On SQLite
readers have connections of their own that cannot write. `statements` also runs every statement by itself, but can
write: for work that is one statement, such as deleting one instance. On SQLite each needs a `writer_turn`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from threading import Thread
from weakref import WeakSet

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.config import Settings
from app.database.postgresql import postgresql_engine
from app.database.sqlite import BEGINS_NOTHING, join_threads, serialize_writers, sqlite_engine, use_write_ahead_log


class ServiceSession(Session):
    """Every session of the service, so that what holds for all of them (app.access.tenancy) has one place to be."""


def _sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, sync_session_class=ServiceSession, expire_on_commit=False)


class Database:
    """The engine and its session factories; one a process."""

    def __init__(self, settings: Settings) -> None:
        url = settings.resolved_database_url
        self.is_sqlite = url.startswith("sqlite")
        self.max_overflow = settings.pool_max_overflow
        # asyncio.Lock is fair, SQLite's own busy handler is not.
        self._writer_lock = asyncio.Lock()
        if self.is_sqlite:
            self._connection_threads: WeakSet[Thread] = WeakSet()
            use_write_ahead_log(Path(make_url(url).database or ""))
            self.engine = sqlite_engine(url, settings, self._connection_threads, writes=True)
            self.read_engine = sqlite_engine(url, settings, self._connection_threads, writes=False)
            serialize_writers(self.engine, self._writer_lock)
            # The driver begins nothing by itself. SQLAlchemy's own AUTOCOMMIT would be set on each connection by its
            # thread, and who is cancelled meanwhile loses the connection to the garbage collector.
            autocommit = self.engine.execution_options(**{BEGINS_NOTHING: True})
        else:
            self.engine = postgresql_engine(url, settings)
            autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            self.read_engine = autocommit
        self.writers = _sessions(self.engine)
        self.statements = _sessions(autocommit)
        self.readers = _sessions(self.read_engine)
        # Batches open connections beside those of requests; unbounded, they would starve requests of the pool.
        self.batch_connections = asyncio.Semaphore(settings.batch_connections)

    @asynccontextmanager
    async def writer_turn(self) -> AsyncIterator[None]:
        """SQLite: the turn to write, in order of arrival. PostgreSQL's writers need none."""
        async with self._writer_lock if self.is_sqlite else nullcontext():
            yield

    @property
    def pool(self) -> QueuePool:
        """The pool that requests read through."""
        pool = self.read_engine.sync_engine.pool
        assert isinstance(pool, QueuePool)
        return pool

    async def dispose(self) -> None:
        await self.engine.dispose()
        if self.is_sqlite:
            await self.read_engine.dispose()
            await asyncio.to_thread(join_threads, list(self._connection_threads))
