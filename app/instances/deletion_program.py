"""Runs the plan's program for one instance: the function on PostgreSQL, the triggers on SQLite.

One statement is one transaction. A worker keeps one session for many instances: with a session for each, handling the
pool and the session took a third of the time (62 % of a stored procedure's rate against 86 %), and there is no state in
it to share, because the statement goes to the driver's own connection.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import orjson

from app.audit.context import current_context
from app.database import Database
from app.database.driver_errors import as_sqlalchemy
from app.database.statements import sqlite_timestamp
from app.instances import cascade_postgresql, cascade_sqlite
from app.instances.cascade import DeletionMode, plan
from app.models.base import utc_now
from app.planner import forget_plans


class DeletionStatus(StrEnum):
    DELETED = "deleted"
    MISSING = "missing"
    BLOCKED = "blocked"
    CHANGED = "changed"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """Where an operation's item of the deletion goes. It is written with the deletion, and neither is when the attempt
    is over (app.operations.ledger)."""

    operation_id: int
    attempt: int
    position: int


@dataclass(frozen=True, slots=True)
class DeletionOrder:
    """What to delete, and what must still hold under its lock: `revision` and `expected_blockers`, None for any."""

    instance_id: int
    mode: DeletionMode
    force: bool
    batch_id: UUID
    revision: int | None = None
    expected_blockers: Sequence[str] | None = None
    place: ItemPlace | None = None


@dataclass(frozen=True, slots=True)
class Attempted:
    """What the program found and did; counts by blocker code and by table."""

    status: DeletionStatus
    name: str | None = None
    revision: int | None = None
    blockers: Mapping[str, int] | None = None
    rows: Mapping[str, int] | None = None


class DeletionProgram(Protocol):
    async def delete(self, order: DeletionOrder, *, settles: bool = False) -> Attempted:
        """Deletes in a transaction of its own. Raises SQLAlchemy's errors, and then nothing was deleted, unless the
        connection was lost, when that is unknown. It is unknown too when the caller is cancelled; but then the
        database soon ends what it is at, however much there is to delete.

        A deletion that `settles` is committed durably, and with it all before it on this connection.
        """
        ...


@asynccontextmanager
async def open_program(database: Database, *, durable: bool) -> AsyncIterator[DeletionProgram]:
    """A program on a connection of its own. Unless `durable`, deletions survive a crash of the machine only after a
    later durable commit; they are atomic either way."""
    async with database.statements() as session:
        connection = await session.connection()
        driver: Any = (await connection.get_raw_connection()).driver_connection
        if not database.is_sqlite:
            await forget_plans(session)
            yield _PostgresqlProgram(driver, durable=durable)
            return
        async with database.writer_turn():
            await driver.executescript(_sqlite_script)
        if not durable:
            await driver.execute("PRAGMA synchronous=NORMAL")
        try:
            yield _SqliteProgram(driver, database)
        except BaseException:
            # The next user of this connection must find it as the pool made it.
            await session.invalidate()
            raise
        await driver.execute("PRAGMA synchronous=FULL")


_sqlite_script = cascade_sqlite.delete_script(plan)
_call = f"SELECT {cascade_postgresql.FUNCTION_NAME}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"


class _PostgresqlProgram:
    def __init__(self, driver: Any, *, durable: bool) -> None:
        self._driver = driver
        self._durable = durable

    async def delete(self, order: DeletionOrder, *, settles: bool = False) -> Attempted:
        expected = None if order.expected_blockers is None else sorted(order.expected_blockers)
        try:
            # SQLAlchemy has taught its connections to turn jsonb into Python values.
            found = await self._driver.fetchval(
                _call, order.instance_id, order.mode.value, order.force, order.revision, expected,
                self._durable or settles, order.batch_id, orjson.dumps(current_context()._asdict()).decode(),
                *_placed(order),
            )  # fmt: skip
        except Exception as error:
            raise as_sqlalchemy(error, cascade_postgresql.FUNCTION_NAME) from error
        return Attempted(
            DeletionStatus(found["status"]),
            found.get("name"),
            found.get("revision"),
            found.get("blockers"),
            found.get("rows"),
        )


class _SqliteProgram:
    def __init__(self, driver: Any, database: Database) -> None:
        self._driver = driver
        self._database = database

    async def delete(self, order: DeletionOrder, *, settles: bool = False) -> Attempted:
        # Nothing needs to be settled: only a power cut could undo a commit, and the answer would be lost with it.
        expected = None if order.expected_blockers is None else ",".join(sorted(order.expected_blockers))
        values = (
            order.instance_id, order.mode.value, order.force, order.revision, expected, order.batch_id.hex,
            sqlite_timestamp(utc_now()), *_placed(order), *current_context(),
        )  # fmt: skip
        try:
            async with self._database.writer_turn():
                await self._insert(values)
            found = list(await self._driver.execute_fetchall(cascade_sqlite.OUTCOME))
        except Exception as error:
            raise as_sqlalchemy(error, "deletion_request") from error
        if not found:
            return Attempted(DeletionStatus.MISSING)
        status, name, revision, blockers, rows = found[0]
        return Attempted(DeletionStatus(status), name, revision, orjson.loads(blockers), orjson.loads(rows))

    async def _insert(self, values: Sequence[Any]) -> None:
        try:
            await self._driver.execute_insert(cascade_sqlite.REQUEST, values)
        except asyncio.CancelledError:
            # The connection's thread would go on, and hold up every other writer.
            await self._driver.interrupt()
            raise


def _placed(order: DeletionOrder) -> tuple[int | None, int | None, int | None]:
    """Operation, attempt and position."""
    place = order.place
    return (None, None, None) if place is None else (place.operation_id, place.attempt, place.position)
