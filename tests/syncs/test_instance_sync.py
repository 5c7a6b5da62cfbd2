"""One instance's turn: what it costs where nothing changed, and what it does when others hold what it needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select, text, update

from app.database import Database
from app.models.operation import OperationState
from app.models.sync import SyncKind
from app.operations.ledger import Fenced, Ledger
from app.syncs.instance_sync import Turn
from app.syncs.outcomes import ItemStatus
from app.syncs.records import OrderedSync
from app.syncs.slots import ConnectionSlots
from tests.factories import Registry
from tests.inventory.syncing import statements_of
from tests.syncs.syncing import PASSWORD, FakeServers, Syncs, credential, rows_of, server_at, tables, until

HOST = "10.0.0.1"
SOON = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def syncs(app: FastAPI) -> Syncs:
    return Syncs(app, None)


@pytest.fixture
async def instance_id(app: FastAPI, registry: Registry) -> int:
    return await server_at(registry, HOST, credential_id=await credential(app, registry))


class Turns:
    """Without the operation around them."""

    def __init__(self, syncs: Syncs, database: Database) -> None:
        self._syncs = syncs
        self._database = database

    async def begun(self, instance_id: int, *kinds: SyncKind) -> Turn:
        """Of a new operation, which a worker has taken."""
        operation = await self._syncs.start([instance_id], kinds=kinds)
        async with self._database.writers.begin() as session:
            taken = {"state": OperationState.RUNNING, "attempt": 1}
            await session.execute(update(tables["operations"]).filter_by(id=operation.id).values(**taken))
        assert operation.space_id is not None
        ordered = OrderedSync.read(operation.request)
        return Turn(Ledger(operation.id, 1), ordered, operation.space_id, 1, instance_id, HOST)

    async def take(self, turn: Turn) -> ItemStatus:
        return await self._syncs.instance_sync().sync(turn, ConnectionSlots(1, 1).place(HOST))

    async def asking(self, turn: Turn, servers: FakeServers) -> tuple[asyncio.Task[ItemStatus], asyncio.Event]:
        """The turn, whose server is asked for accounts, and what has it answer."""
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def wait(name: str) -> None:
            if name == "accounts":
                asked.set()
                await may_answer.wait()

        servers[HOST].before = wait
        taking = asyncio.create_task(self.take(turn))
        await asked.wait()
        return taking, may_answer

    async def sync(self, instance_id: int, *kinds: SyncKind) -> ItemStatus:
        return await self.take(await self.begun(instance_id, *kinds))


@pytest.fixture
def turns(syncs: Syncs, database: Database) -> Turns:
    return Turns(syncs, database)


@asynccontextmanager
async def held(database: Database, table_name: str, key: int, **values: Any) -> AsyncIterator[None]:
    """The row gets these values at the block's end, and nobody else holds it meanwhile."""
    table = tables[table_name]
    async with database.writers.begin() as session:
        await session.execute(select(table.c.id).filter_by(id=key).with_for_update())
        await session.execute(update(table).filter_by(id=key).values(**values))
        yield


async def somebody_waits(database: Database) -> None:
    """For a row. On SQLite whoever writes waits for the one writer, which nothing tells."""
    if database.is_sqlite:
        await asyncio.sleep(0.1)
        return
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    async def is_waiting() -> bool:
        async with database.readers() as session:
            return bool(await session.scalar(waiting))

    await until(is_waiting)


class TestStatements:
    """Where nothing changed, which is as a rule; beside them the item, which goes straight to the driver."""

    @pytest.mark.parametrize(
        ("kinds", "expected"),
        [
            # Begun, two times its records, locked; accounts read, seen again, and the rules they are judged by.
            ((SyncKind.ACCOUNTS,), 7),
            # Databases read and seen again, the day's sizes read, and the total written.
            ((SyncKind.CAPACITY,), 8),
            # The last snapshot, and known places.
            ((SyncKind.SETTINGS,), 6),
            (tuple(SyncKind), 13),
        ],
    )
    async def test_of_a_turn(
        self,
        turns: Turns,
        servers: FakeServers,
        instance_id: int,
        database: Database,
        kinds: tuple[SyncKind, ...],
        expected: int,
    ) -> None:
        assert await turns.sync(instance_id, *kinds) == ItemStatus.SUCCEEDED
        turn = await turns.begun(instance_id, *kinds)
        with statements_of(database) as sent:
            assert await turns.take(turn) == ItemStatus.SUCCEEDED
        assert servers[HOST].connected == 0
        sent = [statement for statement in sent if not statement.startswith("BEGIN")]
        assert len(sent) == expected, sent


class TestCredential:
    async def test_given_while_the_turn_waits_for_the_instance(
        self, app: FastAPI, turns: Turns, servers: FakeServers, registry: Registry, instance_id: int, database: Database
    ) -> None:
        other = await credential(app, registry, password="another", name="other")
        turn = await turns.begun(instance_id, SyncKind.ACCOUNTS)
        async with held(database, "instances", instance_id, credential_id=other):
            taking = asyncio.create_task(turns.take(turn))
            await somebody_waits(database)
        assert await taking == ItemStatus.SUCCEEDED
        assert [target.password.get_secret_value() for target in servers.targets] == ["another"]

    async def test_as_it_is(self, turns: Turns, servers: FakeServers, instance_id: int) -> None:
        await turns.sync(instance_id, SyncKind.ACCOUNTS)
        assert [target.password.get_secret_value() for target in servers.targets] == [PASSWORD]


class TestInstance:
    @pytest.mark.parametrize(
        ("values", "status"),
        [({"description": "moved"}, ItemStatus.SUCCEEDED), ({"deleted_at": SOON}, ItemStatus.MISSING)],
    )
    async def test_changed_while_a_turn_ends(
        self,
        turns: Turns,
        servers: FakeServers,
        instance_id: int,
        database: Database,
        values: dict[str, Any],
        status: ItemStatus,
    ) -> None:
        turn = await turns.begun(instance_id, SyncKind.ACCOUNTS)
        taking, may_answer = await turns.asking(turn, servers)
        async with held(database, "instances", instance_id, **values):
            may_answer.set()
            await somebody_waits(database)
        assert await taking == status
        [instance] = await rows_of(database, "instances", id=instance_id)
        assert values.items() <= instance.items()
        assert (instance["version"] is not None) == (status is ItemStatus.SUCCEEDED)


class TestTakeover:
    """That is under way while the turn begins or ends: the turn waits for it, and then writes nothing."""

    @pytest.mark.usefixtures("servers")
    async def test_while_a_turn_begins(self, turns: Turns, instance_id: int, database: Database) -> None:
        turn = await turns.begun(instance_id, SyncKind.ACCOUNTS)
        async with held(database, "operations", turn.ledger.operation_id, attempt=2):
            taking = asyncio.create_task(turns.take(turn))
            await somebody_waits(database)
        with pytest.raises(Fenced):
            await taking
        assert await rows_of(database, "sync_instance_records") == []

    async def test_while_a_turn_ends(
        self, turns: Turns, servers: FakeServers, instance_id: int, database: Database
    ) -> None:
        turn = await turns.begun(instance_id, SyncKind.ACCOUNTS)
        taking, may_answer = await turns.asking(turn, servers)
        async with held(database, "operations", turn.ledger.operation_id, attempt=2):
            may_answer.set()
            await somebody_waits(database)
        with pytest.raises(Fenced):
            await taking
        [instance] = await rows_of(database, "instances", id=instance_id)
        assert (instance["version"], instance["last_connected_at"]) == (None, None)
        assert await rows_of(database, "instance_accounts") == []
        assert {record["state"] for record in await rows_of(database, "sync_instance_records")} == {"running"}
