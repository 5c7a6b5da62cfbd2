"""When a row was made and last changed, and by whom: on every path that writes rows."""

import ast
import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.caller import Call, Caller, calling
from app.database import Database
from app.models import Base
from app.models.sync import SyncKind, SyncState
from app.syncs import record_repository
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as

APP = Path(__file__).parent.parent.parent / "app"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
tables = Base.metadata.tables
model_of = {mapper.local_table.name: mapper.class_ for mapper in Base.registry.mappers}
TRACED = sorted(name for name, table in tables.items() if "updated_by" in table.c)
TIMED = sorted(name for name, table in tables.items() if "updated_at" in table.c)
# A column of each traced table that anybody may change.
FREE_COLUMN = {
    "credentials": "description",
    "instances": "description",
    "roles": "description",
    "spaces": "description",
    "tags": "description",
    "users": "display_name",
}


def by(user_id: int) -> Call:
    return Call(caller=Caller(user_id, "somebody"), spaces=None)


async def made(registry: Registry, table_name: str) -> int:
    """A row that was made and changed long ago, by nobody."""
    make: dict[str, Callable[[], Awaitable[int]]] = {
        "credentials": registry.credential,
        "instances": registry.instance,
        "roles": registry.role,
        "spaces": registry.space,
        "tags": registry.tag,
        "users": registry.user,
    }
    return await make[table_name]()


async def aged(database: Database, table_name: str, row_id: int) -> None:
    table = tables[table_name]
    values = {"created_at": LONG_AGO, "updated_at": LONG_AGO, "created_by": None, "updated_by": None}
    values = {name: value for name, value in values.items() if name in table.c}
    async with database.engine.begin() as connection:
        await connection.execute(update(table).where(table.c.id == row_id).values(values))


async def trace(database: Database, table_name: str, row_id: int) -> dict[str, Any]:
    table = tables[table_name]
    columns = [table.c[name] for name in ("created_at", "updated_at", "created_by", "updated_by") if name in table.c]
    async with database.read_engine.connect() as connection:
        return dict((await connection.execute(select(*columns).where(table.c.id == row_id))).one()._mapping)


async def change_by_orm(database: Database, table_name: str, row_id: int) -> None:
    async with database.writers.begin() as session:
        setattr(await session.get_one(model_of[table_name], row_id), FREE_COLUMN[table_name], "new")


async def change_by_core(database: Database, table_name: str, row_id: int) -> None:
    table = tables[table_name]
    async with database.writers.begin() as session:
        await session.execute(update(table).where(table.c.id == row_id).values({FREE_COLUMN[table_name]: "new"}))


async def change_by_orm_statement(database: Database, table_name: str, row_id: int) -> None:
    model = model_of[table_name]
    async with database.writers.begin() as session:
        await session.execute(update(model).where(model.id == row_id).values({FREE_COLUMN[table_name]: "new"}))


async def change_in_bulk(database: Database, table_name: str, row_id: int) -> None:
    async with database.writers.begin() as session:
        await session.execute(update(model_of[table_name]), [{"id": row_id, FREE_COLUMN[table_name]: "new"}])


class TestEveryTable:
    def test_tells_its_author_wherever_it_tells_a_time_that_people_write(self) -> None:
        assert set(FREE_COLUMN) == set(TRACED)
        assert set(TRACED) <= set(TIMED)

    def test_has_defaults_for_both(self) -> None:
        for name in TIMED:
            column = tables[name].c.updated_at
            assert column.onupdate is not None, name
            assert column.server_default is not None, name
        for name in TRACED:
            assert tables[name].c.updated_by.onupdate is not None, name
            assert tables[name].c.created_by.default is not None, name

    @pytest.mark.parametrize("table_name", TRACED)
    async def test_is_made_by_the_caller(self, database: Database, registry: Registry, table_name: str) -> None:
        user_id = await registry.user()
        with calling(by(user_id)):
            row_id = await made(registry, table_name)
        found = await trace(database, table_name, row_id)
        assert (found["created_by"], found["updated_by"]) == (user_id, user_id)
        assert (datetime.now(UTC) - found["created_at"]).total_seconds() < 60

    @pytest.mark.parametrize("table_name", TRACED)
    async def test_is_made_by_nobody_outside_of_calls(
        self, database: Database, registry: Registry, table_name: str
    ) -> None:
        found = await trace(database, table_name, await made(registry, table_name))
        assert (found["created_by"], found["updated_by"]) == (None, None)

    @pytest.mark.parametrize("table_name", TRACED)
    @pytest.mark.parametrize("change", [change_by_orm, change_by_core, change_by_orm_statement, change_in_bulk])
    async def test_tells_every_change(
        self,
        database: Database,
        registry: Registry,
        table_name: str,
        change: Callable[[Database, str, int], Awaitable[None]],
    ) -> None:
        user_id = await registry.user()
        row_id = await made(registry, table_name)
        await aged(database, table_name, row_id)
        with calling(by(user_id)):
            await change(database, table_name, row_id)
        found = await trace(database, table_name, row_id)
        assert (datetime.now(UTC) - found["updated_at"]).total_seconds() < 60
        assert (found["created_at"], found["created_by"], found["updated_by"]) == (LONG_AGO, None, user_id)


class TestUpsert:
    """ON CONFLICT DO UPDATE runs none of the columns' `onupdate`: who writes one must set both."""

    def test_nobody_writes_one_over_a_table_that_tells_its_changes(self) -> None:
        """The import's upsert is set-based in another way; it is tested below."""
        users = [
            str(path.relative_to(APP))
            for path in APP.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and node.attr == "on_conflict_do_update"
        ]
        # Records of syncs set theirs, as the test below sees; the others write tables that tell no changes.
        assert sorted(users) == [
            "capacity/recording_repository.py",
            "inventory/member_repository.py",
            "syncs/endpoint_repository.py",
            "syncs/policy_repository.py",
            "syncs/record_repository.py",
            "users/sign_in_repository.py",
        ]
        untimed = {"sign_in_failures", "instance_sync_plans", "sync_endpoints"}
        untimed |= {name for name in tables if name.endswith(("_cluster_instances", "_size_stats", "_aggregations"))}
        assert len(untimed) == 14
        assert not untimed & set(TIMED)

    async def test_the_record_of_a_sync_tells_its_change(self, database: Database, registry: Registry) -> None:
        place = {"space_id": await registry.default_space(), "kinds": [], "trigger": "manual", "state": "running"}
        key = {"session_id": await registry.insert("sync_sessions", **place), "instance_id": await registry.instance()}
        row = {**key, "kind": SyncKind.ACCOUNTS, "state": SyncState.RUNNING}
        record_id = await registry.insert("sync_instance_records", **row)
        await aged(database, "sync_instance_records", record_id)
        async with database.writers.begin() as session:
            await record_repository.put(session, [row | {"state": SyncState.SUCCEEDED}])
        found = await trace(database, "sync_instance_records", record_id)
        assert (datetime.now(UTC) - found["updated_at"]).total_seconds() < 60

    async def test_it_would_be_missed(self, database: Database, registry: Registry) -> None:
        """Why the rule above is needed."""
        tag_id = await registry.tag("core")
        await aged(database, "tags", tag_id)
        dialect: Any = sqlite if database.is_sqlite else postgresql
        statement = dialect.insert(tables["tags"]).values(
            space_id=await registry.default_space(), name="core", description="new"
        )
        index = [tables["tags"].c.name, tables["tags"].c.space_id]
        upsert = statement.on_conflict_do_update(
            index_elements=index, set_={"description": statement.excluded.description}
        )
        async with database.writers.begin() as session:
            await session.execute(upsert)
        assert (await trace(database, "tags", tag_id))["updated_at"] == LONG_AGO


async def imported(client: httpx.AsyncClient, description: str, on_existing: str = "update") -> dict[str, Any]:
    content = f"name,db_type,host,description,tags\na,mysql,a.example,{description},core\nb,mysql,b.example,same,core\n"
    answer = await client.post(
        "/api/v1/instances/batch-create", files={"file": content.encode()}, data={"on_existing": on_existing}
    )
    body: dict[str, Any] = answer.json()
    return {each["name"]: each["instance_id"] for each in body["items"]} | body["counts"]


class TestImport:
    async def test_tells_who_made_and_who_changed_each_row(
        self, app: FastAPI, database: Database, registry: Registry
    ) -> None:
        first, second = await registry.user(role="admin"), await registry.user(role="admin")
        async with (
            client_of(app, await signed_in_as(app, first)) as of_first,
            client_of(app, await signed_in_as(app, second)) as of_second,
        ):
            ids = await imported(of_first, "old")
            before = {name: await trace(database, "instances", ids[name]) for name in "ab"}
            await asyncio.sleep(0.001)
            counts = await imported(of_second, "new")
        after = {name: await trace(database, "instances", ids[name]) for name in "ab"}
        assert (counts["updated"], counts["unchanged"]) == (1, 1)
        assert {each["created_by"] for each in (*before.values(), *after.values())} == {first}
        assert before["a"]["updated_by"] == first
        assert after["a"]["updated_by"] == second
        assert after["a"]["updated_at"] > before["a"]["updated_at"]
        assert after["a"]["created_at"] == before["a"]["created_at"]
        assert after["b"] == before["b"]

    async def test_tags_made_on_the_way_are_the_callers(
        self, app: FastAPI, database: Database, registry: Registry
    ) -> None:
        user_id = await registry.user(role="admin")
        async with client_of(app, await signed_in_as(app, user_id)) as client:
            await imported(client, "old")
        async with database.read_engine.connect() as connection:
            assert list(await connection.scalars(select(tables["tags"].c.created_by))) == [user_id]


class TestDeletion:
    @pytest.mark.parametrize("path", ["single", "batch"])
    async def test_soft_tells_who(self, app: FastAPI, database: Database, registry: Registry, path: str) -> None:
        user_id, instance_id = await registry.user(role="admin"), await registry.instance()
        await aged(database, "instances", instance_id)
        async with client_of(app, await signed_in_as(app, user_id)) as client:
            if path == "single":
                answer = await client.delete(f"/api/v1/instances/{instance_id}")
            else:
                answer = await client.post("/api/v1/instances/batch-delete", json={"instance_ids": [instance_id]})
        assert answer.status_code == 200
        found = await trace(database, "instances", instance_id)
        assert found["updated_by"] == user_id
        assert found["updated_at"] > LONG_AGO


class TestBatchTags:
    async def test_tell_who(self, app: FastAPI, database: Database, registry: Registry) -> None:
        user_id, instance_id = await registry.user(role="admin"), await registry.instance()
        await aged(database, "instances", instance_id)
        async with client_of(app, await signed_in_as(app, user_id)) as client:
            body = {"instance_ids": [instance_id], "add": ["core"]}
            assert (await client.post("/api/v1/instances/batch-tags", json=body)).status_code == 200
        found = await trace(database, "instances", instance_id)
        assert (found["updated_by"], found["updated_at"] > LONG_AGO) == (user_id, True)
