"""Engine, session factories and the few statements whose form differs between the two databases.

There are three factories. `writers` opens transactions; on SQLite these start with BEGIN IMMEDIATE behind one
in-process lock in order of arrival, because a read that later upgrades to a write fails at once busy timeout or not.
`readers` runs every statement by itself (autocommit): no BEGIN, no ROLLBACK, one round trip for one SELECT. On SQLite
readers have connections of their own that cannot write. `statements` also runs every statement by itself, but can
write: for work that is one statement, such as deleting one instance. On SQLite each needs a `writer_turn`.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, TypeVar
from weakref import WeakSet

import aiosqlite
import asyncpg
import orjson
import structlog
from fastapi import Depends, Request
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from app.config import Settings
from app.sqlite_connection import SqliteConnection

log = structlog.get_logger(__name__)

T = TypeVar("T")

SQLITE_BUSY_TIMEOUT_MILLISECONDS = 10_000
# Of a connection that writes, and of one that reads, of which there are more; each grows to this. An import and its
# progress take turns on two that write. When two did so, loading 100,000 rows into a million read and wrote the same to
# the byte with 64 MiB.
SQLITE_CACHE_KIBIBYTES = 32 * 1024
SQLITE_READER_CACHE_KIBIBYTES = 16 * 1024
# 32 MiB of log before it is copied back into the file; by default 4 MiB, which a bulk load fills with every chunk.
SQLITE_CHECKPOINT_PAGES = 8_000
# The execution option of an engine whose sessions run every statement by itself.
BEGINS_NOTHING = "begins_nothing"
# How long to wait, when the database is closed, for threads of its connections that have not ended.
THREAD_END_SECONDS = 5.0
# Values and rows of one INSERT. With a statement a row, SQLite's thread takes the interpreter lock for each, and a busy
# event loop gives it back late: 50,000 rows took from twice to a hundred times as long. With thousands of rows, making
# those of the next statement would keep the loop from requests.
SQLITE_INSERT_PARAMETERS = 8_000
SQLITE_INSERT_ROWS = 500
TRANSIENT_ATTEMPTS = 3
TURN_ROWS = 100
# After a lost connection a batch goes on after these pauses: a restart of the database takes seconds.
RECONNECT_SECONDS = (0.5, 1.0, 2.0, 4.0)
# deadlock_detected, serialization_failure, lock_not_available: the same transaction can succeed when run again.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_transient_states = {"40P01", "40001", "55P03"}


# What asyncpg raises for a connection that is gone. InternalClientError: the server has taken leave, and the driver
# still waits for the socket to close.
lost_connection_errors = (
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    OSError,
)


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
            _use_write_ahead_log(Path(make_url(url).database or ""))
            self.engine = _sqlite_engine(url, settings, self._connection_threads, writes=True)
            self.read_engine = _sqlite_engine(url, settings, self._connection_threads, writes=False)
            _serialize_writers(self.engine, self._writer_lock)
            # The driver begins nothing by itself. SQLAlchemy's own AUTOCOMMIT would be set on each connection by its
            # thread, and who is cancelled meanwhile loses the connection to the garbage collector.
            autocommit = self.engine.execution_options(**{BEGINS_NOTHING: True})
        else:
            self.engine = _postgresql_engine(url, settings)
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
            await asyncio.to_thread(_join, list(self._connection_threads))


def _postgresql_engine(url: str, settings: Settings) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=settings.pool_size,
        max_overflow=settings.pool_max_overflow,
        pool_recycle=settings.pool_recycle_seconds,
        pool_timeout=settings.pool_timeout_seconds,
        # The connection used last is the one whose caches, here and in the server, are warm.
        pool_use_lifo=True,
        json_deserializer=orjson.loads,
        connect_args={"timeout": settings.connect_timeout_seconds},
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def refuse_closed(connection: Any, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        # A server that went away has closed its socket, and asyncpg has seen it: asking costs nothing, where a
        # pre-ping would cost every request a round trip. The pool answers by opening another connection.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine


def _join(threads: Iterable[Thread]) -> None:
    """Waits for them; connections that were abandoned when they were cancelled still report to the event loop."""
    deadline = time.monotonic() + THREAD_END_SECONDS
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))


def _use_write_ahead_log(path: Path) -> None:
    """Once, before there are several connections: who changes to it while another looks is refused, without waiting.

    The file remembers it; a file that is not there yet is made by the migration.
    """
    if path.is_file():
        with closing(sqlite3.connect(path, timeout=SQLITE_BUSY_TIMEOUT_MILLISECONDS / 1000)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def _sqlite_engine(url: str, settings: Settings, threads: WeakSet[Thread], *, writes: bool) -> AsyncEngine:
    def connect(database: str, **options: Any) -> SqliteConnection:
        connection = SqliteConnection(database, **options)
        threads.add(connection.thread)
        return connection

    engine = create_async_engine(
        url,
        pool_size=settings.pool_size,
        max_overflow=settings.pool_max_overflow,
        pool_timeout=settings.pool_timeout_seconds,
        # The connection used last is the one whose caches, here and in the server, are warm.
        pool_use_lifo=True,
        # Nothing is begun on a reader, so nothing needs to be rolled back when it returns to the pool.
        pool_reset_on_return="rollback" if writes else None,
        connect_args={
            "timeout": SQLITE_BUSY_TIMEOUT_MILLISECONDS / 1000,
            "isolation_level": None,
            "async_creator_fn": connect,
        },
    )

    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "foreign_keys=ON",
            "synchronous=FULL",
            f"cache_size=-{SQLITE_CACHE_KIBIBYTES if writes else SQLITE_READER_CACHE_KIBIBYTES}",
            "temp_store=MEMORY",
            f"wal_autocheckpoint={SQLITE_CHECKPOINT_PAGES}",
            f"query_only={'OFF' if writes else 'ON'}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _serialize_writers(engine: AsyncEngine, lock: asyncio.Lock) -> None:
    """Takes the lock when a transaction begins, and gives it back when the connection returns to the pool."""
    holding = "holds_writer_lock"

    @event.listens_for(engine.sync_engine, "begin")
    def begin_immediate(connection: Connection) -> None:
        if connection.get_execution_options().get(BEGINS_NOTHING):
            return
        proxied = connection.connection.dbapi_connection
        assert proxied is not None
        proxied.run_async(lambda _: lock.acquire())
        connection.info[holding] = True
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    # Not on commit or rollback: those events come before the statement is sent.
    @event.listens_for(engine.sync_engine, "checkin")
    def release(connection: Any, entry: ConnectionPoolEntry) -> None:
        if entry.info.pop(holding, False):
            lock.release()


def is_transient(error: DBAPIError) -> bool:
    """Whether running the same transaction again can succeed: deadlock, serialization failure, SQLite busy."""
    state = getattr(error.orig, "sqlstate", None)
    return state in _transient_states or (state is None and "database is locked" in str(error.orig))


def is_unique_violation(error: IntegrityError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state == "23505" or (state is None and "UNIQUE constraint failed" in str(error.orig))


def is_disconnect(error: BaseException) -> bool:
    """Whether the connection was lost or could not be made, so that a commit under way may or may not have happened."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _is_outage(error.orig)
    if isinstance(error, asyncpg.PostgresError):
        # A server that is starting says so while the connection is made, where SQLAlchemy does not translate.
        return _is_outage(error)
    return isinstance(error, (TimeoutError, DisconnectionError, *lost_connection_errors))


def _is_outage(error: BaseException | None) -> bool:
    return (getattr(error, "sqlstate", None) or "").startswith(("08", "57P"))


async def run_in_transaction(
    sessions: async_sessionmaker[AsyncSession], work: Callable[[AsyncSession], Awaitable[T]]
) -> T:
    """Runs `work` in one transaction; deadlocks and serialization failures are tried three times, with jitter.

    Who is cancelled is told when it has ended: undone, or committed when the commit had begun, which is not cut off.
    """
    for attempt in range(1, TRANSIENT_ATTEMPTS + 1):
        try:
            async with sessions.begin() as session:
                return await work(session)
        except DBAPIError as error:
            if attempt == TRANSIENT_ATTEMPTS or not is_transient(error):
                raise
            log.info("transaction is run again", attempt=attempt, reason=str(error.orig))
            await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def run_beside_requests(database: Database, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """`run_in_transaction` for work that is not a request's, bounded as every batch's."""
    async with database.batch_connections:
        return await run_in_transaction(database.writers, work)


async def in_steps(
    database: Database, step: Callable[[AsyncSession], Awaitable[int]], size: int, pause_seconds: float = 0.0
) -> int:
    """Has `step` done, each time in a transaction of its own, until it does less than `size`; how much it did in all.

    For work beside the requests, which must keep nobody waiting for long: between two steps whoever waits for a
    connection, and on SQLite for the turn to write, gets it, and the pause is for those who come meanwhile.
    """
    total, count = 0, size
    while count == size:
        count = await run_beside_requests(database, step)
        total += count
        await asyncio.sleep(pause_seconds if count == size else 0)
    return total


def dialect_name(session: AsyncSession) -> str:
    return session.get_bind().dialect.name


def listed(session: AsyncSession, values: Sequence[int] | Sequence[str]) -> Select[Any]:
    """The values, at least one, as a one-column SELECT (`value`): one parameter, whatever their number."""
    if dialect_name(session) == "postgresql":
        item_type = Text() if isinstance(values[0], str) else BigInteger()
        return select(func.unnest(bindparam(None, list(values), type_=ARRAY(item_type))).label("value"))
    return select(func.json_each(orjson.dumps(list(values)).decode()).table_valued("value").c.value)


def is_listed(
    session: AsyncSession,
    column: ColumnElement[Any] | InstrumentedAttribute[Any],
    values: Sequence[int] | Sequence[str],
) -> ColumnElement[bool]:
    """That the column is one of the values.

    On PostgreSQL not by a subquery: where statistics are old it would be joined row by row, which took minutes for
    what takes milliseconds.
    """
    if dialect_name(session) == "postgresql":
        return column == any_(bindparam(None, list(values), type_=ARRAY(column.type)))
    return column.in_(listed(session, values))


def stored_timestamp(session: AsyncSession, moment: datetime) -> datetime | str:
    """A UTC moment as `insert_rows` must be given it: SQLite has no type for it and keeps SQLAlchemy's text form."""
    if dialect_name(session) == "postgresql":
        return moment
    return sqlite_timestamp(moment)


def sqlite_timestamp(moment: datetime) -> str:
    """SQLAlchemy's text form of a moment."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


async def reserve_ids(session: AsyncSession, table: Table, count: int) -> list[int]:
    """`count` ids that no other row of the table has or will get.

    Knowing the ids before the rows are written lets rows, links and audit entries go in as plain bulk loads, and
    answers after a lost connection whether the commit had happened.
    """
    if dialect_name(session) == "postgresql":
        # As one array: five thousand rows would cost more to receive than to draw.
        drawn = text("SELECT array_agg(nextval(CAST(:sequence AS regclass))) FROM generate_series(1, :count)")
        return list(await session.scalar(drawn, {"sequence": f"{table.name}_id_seq", "count": count}) or ())
    # The writer lock is held, and AUTOINCREMENT never hands out an id below the highest it has seen.
    last = await session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table.name})
    first = (last or 0) + 1
    return list(range(first, first + count))


async def insert_rows(
    session: AsyncSession,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    shared: Mapping[str, Any] | None = None,
) -> None:
    """Loads rows in bulk inside the session's transaction: by COPY on PostgreSQL, hundreds a statement on SQLite.

    Give a generator where rows have to be made: PostgreSQL loads the first while the next are being made. `shared`
    are further columns with one value for all rows, which SQLite is then given once a statement. Values are the
    driver's: JSON as text, timestamps from `stored_timestamp`. Constraint violations surface as SQLAlchemy's
    IntegrityError on both.
    """
    shared = shared or {}
    connection = await session.connection()
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    try:
        if dialect_name(session) == "postgresql":
            if not driver.is_in_transaction():
                # SQLAlchemy begins with the first statement of its own; a COPY before that would commit by itself.
                await session.execute(text("SELECT 1"))
            values = tuple(shared.values())
            records = _yielding(row + values for row in rows)
            await driver.copy_records_to_table(table.name, columns=[*columns, *shared], records=records)
        else:
            await _insert_on_sqlite(driver, table.name, tuple(columns), rows, shared)
    except Exception as error:
        raise as_sqlalchemy(error, f"bulk load of {table.name}") from error


async def _insert_on_sqlite(
    driver: aiosqlite.Connection,
    table_name: str,
    columns: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
    shared: Mapping[str, Any],
) -> None:
    """Past SQLAlchemy, which goes three times to the connection's thread and back for each statement.

    (To make the next rows while the thread is at a statement brings nothing: it would wait for the interpreter lock.)
    """
    for piece in _pieces(rows, max(1, min(SQLITE_INSERT_ROWS, SQLITE_INSERT_PARAMETERS // len(columns)))):
        statement = _sqlite_insert(table_name, tuple(shared), columns, len(piece))
        await driver.execute_fetchall(statement, (*shared.values(), *chain.from_iterable(piece)))


@lru_cache(maxsize=100)
def _sqlite_insert(table_name: str, shared: tuple[str, ...], columns: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    values = f"VALUES {', '.join([row] * rows)}"
    if shared:
        own = (f"column{number}" for number in range(1, len(columns) + 1))
        values = f"SELECT {', '.join((*'?' * len(shared), *own))} FROM ({values})"  # noqa: S608 - names of ours
    return f"INSERT INTO {table_name} ({', '.join((*shared, *columns))}) {values}"


def _pieces(rows: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(rows)
    while piece := list(islice(rows, size)):
        yield piece


async def fetch_rows(session: AsyncSession, statement: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """The rows of a SELECT in the driver's own form, for the few reads that are busy enough to need it.

    It saves half of what SQLAlchemy spends on a page of rows; on SQLite it is one call of the connection's thread
    instead of four. Values are the driver's, as for `insert_rows`. Errors surface as SQLAlchemy's on both.
    """
    connection = await session.connection()
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    try:
        if dialect_name(session) == "postgresql":
            rows: Sequence[Sequence[Any]] = await driver.fetch(statement, *values)
        else:
            rows = await driver.execute_fetchall(statement, values)
    except Exception as error:
        raise as_sqlalchemy(error, statement) from error
    return rows


async def _yielding(rows: Iterable[tuple[Any, ...]]) -> AsyncIterator[tuple[Any, ...]]:
    """Rows for COPY, with a turn for everybody else's requests every few hundred."""
    for number, row in enumerate(rows):
        yield row
        if number % TURN_ROWS == TURN_ROWS - 1:
            await asyncio.sleep(0)


def as_sqlalchemy(error: Exception, statement: str) -> Exception:
    """What SQLAlchemy would have raised, had the statement gone through it; other errors are returned as they are."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError | sqlite3.IntegrityError):
        return IntegrityError(statement, None, error)
    if isinstance(error, asyncpg.DataError):
        return DataError(statement, None, error)
    if isinstance(error, lost_connection_errors):
        return OperationalError(statement, None, error, connection_invalidated=True)
    if isinstance(error, asyncpg.PostgresError | sqlite3.Error):
        return OperationalError(statement, None, error)
    return error


# `async`, though nothing is awaited: FastAPI hands a plain function to a thread, which costs every request of ours.
async def get_database(request: Request) -> Database:
    database = request.app.state.database
    assert isinstance(database, Database)
    return database


async def _read_session(database: Annotated[Database, Depends(get_database)]) -> AsyncIterator[AsyncSession]:
    async with database.readers() as session:
        yield session


async def _write_session(
    request: Request, database: Annotated[Database, Depends(get_database)]
) -> AsyncIterator[AsyncSession]:
    async with database.writers.begin() as session:
        request.state.write_session = session
        yield session


def open_write_session(request: Request) -> AsyncSession | None:
    """The request's transaction, when all its work is in one, from before it commits."""
    return getattr(request.state, "write_session", None)


# scope="function": by default FastAPI runs what stands after `yield` once the answer is sent, and a client would get
# its 200 before the commit, or in spite of a failed one.
ReadSession = Annotated[AsyncSession, Depends(_read_session, scope="function")]
WriteSession = Annotated[AsyncSession, Depends(_write_session, scope="function")]
