"""Syncs of whole fleets: of more instances than a client may list, by one filter or one schedule."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from app.config import Settings
from app.database import Database
from app.operations import repository
from app.operations.records import OperationRecord
from app.syncs.scheduler import Scheduler
from app.syncs.service import DataSyncService
from app.syncs.slice_repository import SLICE_IDS
from tests.conftest import client_of
from tests.factories import Registry
from tests.operations.conftest import IdleEngine
from tests.signing_in import signed_in_as
from tests.syncs.fleets import fleet
from tests.syncs.syncing import FakeServers, Syncs, chosen_for, credential, rows_of, server_at, tables, until

INSTANCES = 12_000
# Each so manieth has a credential and is connected to; the others are refused.
EVERY = 2_000
CONNECTIONS = 4


@pytest.fixture
def settings(settings: Settings) -> Settings:
    assert settings.max_ids < INSTANCES
    return settings.model_copy(update={"server_worker": "off", "sync_connections": CONNECTIONS})


@pytest.fixture
async def _fleet(app: FastAPI, registry: Registry, database: Database) -> None:
    await fleet(database, registry, INSTANCES, await credential(app, registry), every=EVERY)


@pytest.fixture
def syncs(app: FastAPI, admin: int) -> Syncs:
    return Syncs(app, admin)


async def recorded(database: Database, operation_id: int) -> OperationRecord:
    async with database.readers() as session:
        found = await repository.find(session, operation_id)
    assert found is not None
    return found


async def started(client: httpx.AsyncClient, database: Database, **wanted: Any) -> OperationRecord:
    answer = await client.post("/api/v1/syncs", json={"filter": wanted})
    assert answer.status_code == 202, answer.text
    assert answer.json()["request"]["instances"] == answer.json()["total"]
    return await recorded(database, answer.json()["id"])


async def count_items(database: Database, operation: OperationRecord) -> int:
    items = tables["operation_items"]
    statement = select(func.count()).select_from(items).where(items.c.operation_id == operation.id)
    async with database.readers() as session:
        return int(await session.scalar(statement) or 0)


@pytest.mark.usefixtures("_fleet")
class TestFleet:
    async def test_by_one_filter(
        self, client: httpx.AsyncClient, syncs: Syncs, servers: FakeServers, database: Database
    ) -> None:
        operation = await started(client, database)
        ended = await syncs.run(operation)
        assert (ended.state, ended.total) == ("partial", INSTANCES)
        assert ended.counts == {"succeeded": INSTANCES // EVERY, "refused": INSTANCES - INSTANCES // EVERY}
        items = await syncs.items(operation)
        assert [item["position"] for item in items] == list(range(1, INSTANCES + 1))
        ids = [instance["id"] for instance in await rows_of(database, "instances")]
        assert [item["instance_id"] for item in items] == ids
        assert len(servers.targets) == INSTANCES // EVERY
        # Whoever looks at an operation, or at a page of them, reads no list of ids.
        assert len(orjson.dumps(ended.request)) < 200

    async def test_by_one_schedule(self, syncs: Syncs, registry: Registry, database: Database) -> None:
        schedule = {"name": "nightly", "cron": "0 3 * * *", "timezone": "UTC", "kinds": ["accounts"], "filter": {}}
        await registry.insert(
            "schedules",
            space_id=await registry.default_space(),
            next_run_at=datetime(2026, 1, 1, tzinfo=UTC),
            **schedule,
        )
        assert await Scheduler(database, DataSyncService(IdleEngine())).start_due() == 1
        [found] = await rows_of(database, "operations")
        assert (found["total"], found["user_id"]) == (INSTANCES, None)
        outcomes = {(each["action"], each["outcome"]) for each in await rows_of(database, "audit_events")}
        assert outcomes == {("schedule:run", "succeeded"), ("operation:create", "succeeded")}

    async def test_stopped_and_gone_on_with(
        self, client: httpx.AsyncClient, syncs: Syncs, servers: FakeServers, database: Database
    ) -> None:
        """What nobody could connect to yet is not looked at, and what has an item is not done again."""
        hanging = asyncio.Event()

        async def hang(name: str) -> None:
            await hanging.wait()

        connected = [each for each in await rows_of(database, "instances") if each["credential_id"] is not None]
        for each in connected:
            servers[each["host"]].before = hang
        operation = await started(client, database)
        running = asyncio.create_task(syncs.run(operation))
        await until(lambda: servers.at_once == CONNECTIONS)
        await syncs.change(operation, "cancel")
        cancelled = await running
        assert cancelled.state == "cancelled"
        assert cancelled.done == CONNECTIONS * EVERY - CONNECTIONS
        assert set(cancelled.counts) == {"refused"}

        hanging.set()
        await syncs.change(operation, "resume")
        ended = await syncs.run(operation)
        assert ended.counts == {"succeeded": INSTANCES // EVERY, "refused": INSTANCES - INSTANCES // EVERY}
        assert await count_items(database, operation) == INSTANCES
        records = await syncs.records(operation)
        assert len(records) == 3 * INSTANCES
        assert {each["state"] for each in records} == {"succeeded", "failed"}


class TestOrder:
    async def test_of_ids_is_as_they_are_listed(self, syncs: Syncs, registry: Registry, database: Database) -> None:
        await fleet(database, registry, 2 * SLICE_IDS + 1)
        ids = [each["id"] for each in await rows_of(database, "instances")]
        wanted = [*ids[SLICE_IDS:], *reversed(ids[:SLICE_IDS])]
        operation = await syncs.start(wanted)
        assert await chosen_for(database, operation) == wanted
        await syncs.run(operation)
        assert [item["instance_id"] for item in await syncs.items(operation)] == wanted


class TestFilter:
    async def test_selects_none(self, client: httpx.AsyncClient, syncs: Syncs, database: Database) -> None:
        ended = await syncs.run(await started(client, database, q="nowhere"))
        assert (ended.state, ended.total, ended.counts) == ("succeeded", 0, {})

    async def test_selects_active_ones_only(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        tag_id = await registry.tag("gold")
        wanted, _, disabled, deleted = [await server_at(registry, f"10.0.0.{number}") for number in range(4)]
        for instance_id in (wanted, disabled, deleted):
            await registry.insert("instance_tags", instance_id=instance_id, tag_id=tag_id)
        await client.patch(f"/api/v1/instances/{disabled}", json={"is_active": False})
        await client.delete(f"/api/v1/instances/{deleted}")
        operation = await started(client, database, tag=["gold"], q="INSTANCE", db_type="redis")
        assert await chosen_for(database, operation) == [wanted]

    async def test_selects_nothing_of_another_space(self, app: FastAPI, registry: Registry, database: Database) -> None:
        space_id = await registry.space()
        operator = await registry.user(role="operator", space_id=space_id)
        await server_at(registry, "10.0.0.1")
        own = await server_at(registry, "10.0.0.2", space_id=space_id)
        async with client_of(app, await signed_in_as(app, operator)) as client:
            operation = await started(client, database)
        assert await chosen_for(database, operation) == [own]
