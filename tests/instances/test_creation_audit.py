"""What the audit trail says of an import: an entry for each instance that it made, and one for the batch."""

from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy import select

from app.audit.recorder import AuditEntry, record
from app.database import Database
from app.instances.batch_repository import is_recorded
from app.models import Base
from tests.conftest import client_of
from tests.factories import Registry
from tests.instances.importing import csv_of, rows, upload
from tests.signing_in import signed_in_as

COLUMNS = "name,db_type,host,port,database_name,environment,credential,tags"
EVENTS = Base.metadata.tables["audit_events"]


async def entries(database: Database, action: str) -> list[dict[str, Any]]:
    """In order of id."""
    async with database.read_engine.connect() as connection:
        statement = select(EVENTS).where(EVENTS.c.action == action).order_by(EVENTS.c.id)
        return [dict(row._mapping) for row in await connection.execute(statement)]


class TestInstances:
    async def test_each_has_an_entry_with_what_it_was_made_of(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        await registry.credential("ops")
        content = csv_of(
            'pg-01,pg,h1,5433,orders,testing,ops,z|a|"\u6570\u636e \\ \'x"', "redis-01,redis,H2", columns=COLUMNS
        )
        report = (await upload(client, content)).json()
        assert report["counts"]["created"] == 2
        found = await entries(database, "instance:create")
        assert [entry["resource_id"] for entry in found] == [item["instance_id"] for item in report["items"]]
        assert [entry["resource_name"] for entry in found] == ["pg-01", "redis-01"]
        first, second = (entry["changes"]["after"] for entry in found)
        assert first == {
            "db_type": "postgresql", "host": "h1", "port": 5433, "database_name": "orders", "environment": "testing",
            "credential": "ops", "tags": ['"\u6570\u636e \\ \'x"', "a", "z"],
        }  # fmt: skip
        assert second == {
            "db_type": "redis", "host": "h2", "port": 6379, "database_name": None, "environment": "production",
            "credential": None, "tags": [],
        }  # fmt: skip

    async def test_it_tells_who_from_where_and_in_which_batch(
        self, client: httpx.AsyncClient, admin: int, database: Database, registry: Registry
    ) -> None:
        await upload(client, csv_of(*rows(3)))
        [batch] = await entries(database, "instance:batch_create")
        for entry in await entries(database, "instance:create"):
            assert (entry["actor_id"], entry["client_address"]) == (admin, "127.0.0.1")
            assert (entry["method"], entry["path"]) == ("POST", "/api/v1/instances/batch-create")
            assert (entry["batch_id"], entry["request_id"]) == (batch["batch_id"], batch["request_id"])
            assert entry["space_id"] == await registry.default_space()
            assert (entry["resource_type"], entry["outcome"], entry["status"]) == ("instance", "succeeded", 200)
            assert entry["occurred_at"] <= batch["occurred_at"]

    async def test_also_of_somebody_who_may_reach_one_space_only(
        self, app: FastAPI, database: Database, registry: Registry
    ) -> None:
        space_id = await registry.space()
        operator = await registry.user(role="operator", space_id=space_id)
        async with client_of(app, await signed_in_as(app, operator)) as client:
            report = (await upload(client, csv_of(*rows(3)))).json()
        assert report["counts"]["created"] == 3
        found = await entries(database, "instance:create")
        assert [(entry["space_id"], entry["actor_id"]) for entry in found] == [(space_id, operator)] * 3

    async def test_what_was_there_has_none(self, client: httpx.AsyncClient, database: Database) -> None:
        for _ in range(2):
            await upload(client, csv_of(*rows(3)))
        assert len(await entries(database, "instance:create")) == 3

    async def test_after_many_imports_too(self, client: httpx.AsyncClient, database: Database) -> None:
        """PostgreSQL changes its plan after the fifth time."""
        for number in range(8):
            await upload(client, csv_of(f"m{number},pg,m{number}", f"k{number},pg,k{number}"))
        found = await entries(database, "instance:create")
        assert [entry["resource_name"] for entry in found] == [f"{x}{number}" for number in range(8) for x in "mk"]


class TestEvidence:
    async def test_of_an_instance_is_its_id_with_its_name(self, database: Database) -> None:
        """A server that crashed can draw an id again, for another row of the same batch."""
        batch_id = uuid4()
        async with database.writers.begin() as session:
            await record(session, AuditEntry("instance:create", "instance", 17, "n6", 1, batch_id=batch_id))
        async with database.readers() as session:
            assert await is_recorded(session, batch_id, "instance", 17, "n6")
            assert not await is_recorded(session, batch_id, "instance", 17, "n0")
            assert not await is_recorded(session, uuid4(), "instance", 17, "n6")
