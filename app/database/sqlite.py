"""The engines for SQLite, one that writes and one that reads, and the turn to write."""

import asyncio
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.config import Settings
from app.database.sqlite_connection import SqliteConnection

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


def use_write_ahead_log(path: Path) -> None:
    """Once, before there are several connections: who changes to it while another looks is refused, without waiting.

    The file remembers it; a file that is not there yet is made by the migration.
    """
    if path.is_file():
        with closing(sqlite3.connect(path, timeout=SQLITE_BUSY_TIMEOUT_MILLISECONDS / 1000)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def sqlite_engine(url: str, settings: Settings, threads: WeakSet[Thread], *, writes: bool) -> AsyncEngine:
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


def serialize_writers(engine: AsyncEngine, lock: asyncio.Lock) -> None:
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


def join_threads(threads: Iterable[Thread]) -> None:
    """Waits for them; connections that were abandoned when they were cancelled still report to the event loop."""
    deadline = time.monotonic() + THREAD_END_SECONDS
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
