"""Operations to queue, whose work is to count, and what the tables tell of them afterwards."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.access.tokens import AccessTokens
from app.audit.recorder import AuditEntry
from app.config import Settings
from app.database import Database
from app.models.audit import AuditOutcome
from app.models.operation import OperationKind, OperationState
from app.operations.queue_engine import QueueEngine
from app.operations.records import Item, OperationRecord
from app.operations.runner import OperationRunner
from app.operations.work import Work
from tests.factories import Registry

WAIT_SECONDS = 60.0
# Where there can be several processes.
on_postgresql = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)


class Counting:
    """Counts to the operation's total, an item each, which is named after the process that wrote it."""

    good = effective = frozenset({"done"})

    def __init__(self, database: Database, pause_seconds: float) -> None:
        self._database = database
        self._pause_seconds = pause_seconds

    async def work(self, work: Work) -> None:
        for position in range(1, work.operation.total + 1):
            if work.stop.is_set():
                return
            async with self._database.writers.begin() as session:
                await work.ledger.hold(session)
                if await work.ledger.has(session, position):
                    continue
                await work.ledger.note(session, [Item(position, "done", None, str(os.getpid()))])
            work.advance(["done"])
            await asyncio.sleep(self._pause_seconds)

    async def ended(self, session: AsyncSession, operation: OperationRecord, state: OperationState) -> None:
        pass

    def audit_entry(self, operation: OperationRecord, outcome: AuditOutcome) -> AuditEntry:
        return AuditEntry("operation:count", "operation", operation.id, None, None, outcome)


def runner_of(database: Database, engine: QueueEngine, pause_seconds: float) -> OperationRunner:
    async def tell_nobody(session: AsyncSession, operation: OperationRecord) -> None:
        pass

    handlers = {OperationKind.INSTANCE_DELETION: Counting(database, pause_seconds)}
    identities = Identities(database, AccessTokens(bytes(32), lifetime_seconds=60))
    return OperationRunner(database, identities, engine, handlers, tell_nobody)


async def operation(
    database: Database, *, total: int = 3, state: OperationState = OperationState.QUEUED, user_id: int | None = None
) -> int:
    """Without a job."""
    registry = Registry(database)
    origin = {
        "method": "POST",
        "path": "/",
        "address": "127.0.0.1",
        "request_id": None,
        "actor_name": None,
        "api_key_prefix": None,
        "permissions": [],
    }
    values = {"kind": OperationKind.INSTANCE_DELETION, "state": state, "request": {}, "origin": origin}
    user_id = user_id or await registry.user(role="admin")
    return int(await registry.insert("operations", **values, user_id=user_id, batch_id=uuid4(), total=total, counts={}))


async def enqueued(settings: Settings, database: Database, count: int, *, total: int = 3) -> list[int]:
    """Operations, each with its job."""
    engine = QueueEngine(settings, database)
    user_id = await Registry(database).user(role="admin")
    ids = [await operation(database, total=total, user_id=user_id) for _ in range(count)]
    async with database.writers.begin() as session:
        for operation_id in ids:
            await engine.enqueue(session, operation_id)
    return ids


@dataclass(frozen=True)
class Told:
    """What the tables tell of an operation."""

    state: str
    attempt: int
    done: int
    deaths: int
    # By position, the process that wrote the item.
    writers: Mapping[int, str]


async def told(database: Database, operation_id: int) -> Told:
    async with database.readers() as session:
        values = {"id": operation_id}
        row = (
            await session.execute(text("SELECT state, attempt, done, deaths FROM operations WHERE id = :id"), values)
        ).one()
        items = text("SELECT position, name FROM operation_items WHERE operation_id = :id ORDER BY position")
        return Told(*row, writers=dict((await session.execute(items, values)).all()))


async def audit_entries(database: Database, operation_id: int) -> int:
    statement = text("SELECT count(*) FROM audit_events WHERE action = 'operation:count' AND resource_id = :id")
    async with database.readers() as session:
        return int(await session.scalar(statement, {"id": operation_id}) or 0)


async def jobs(database: Database) -> list[tuple[int, str]]:
    """The operation's id and the status of each job, in order."""
    statement = text("SELECT convert_from(payload, 'UTF8')::int, status::text FROM muster_queue.pgqueuer ORDER BY id")
    async with database.readers() as session:
        return [(row[0], row[1]) for row in await session.execute(statement)]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what must come, for as long as a busy machine may take."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await holds():  # noqa: ASYNC110 - the database has no event to wait for
            await asyncio.sleep(0.05)


async def until_ended(database: Database, ids: list[int]) -> None:
    async def have_ended() -> bool:
        statement = text("SELECT count(*) FROM operations WHERE id = ANY(:ids) AND finished_at IS NULL")
        async with database.readers() as session:
            return await session.scalar(statement, {"ids": ids}) == 0

    await until(have_ended)
