"""Syncs from real servers whose accounts, databases and passwords change between one sync and the next."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiomysql
import httpx
import pytest
import redis.asyncio
from fastapi import FastAPI

from app.config import Settings
from tests.factories import Registry
from tests.syncs.servers import ROOT_PASSWORD, MariadbServer, RedisServer
from tests.syncs.syncing import PASSWORD, all_of, credential, items_of, records_of, server_at, synced
from tests.syncs.target_server import USERNAME, TargetServer, ident, literal

# PostgreSQL keeps 63 bytes of a name, MariaDB 80 characters of a user's.
CJK_21 = ("数据库账户管理员" * 8)[:21]
CJK_64 = "数据库账户管理员" * 8
ODD_NAMES = ['o\'brien "the boss"', "emoji 🐘 role", CJK_21, "semi;colon -- comment", "  spaces  ", "a\\b%s"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"server_worker": "on", "allow_loopback": "on", "sync_connect_seconds": 5.0})


@pytest.fixture
async def instance_id(app: FastAPI, registry: Registry, target_server: TargetServer) -> int:
    return await target_server.instance(registry, await target_server.credential(app, registry))


@pytest.fixture
async def clean(target_server: TargetServer) -> AsyncIterator[TargetServer]:
    """Databases and roles that a test makes go with it."""
    yield target_server
    databases = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')"
    for row in await target_server.fetch(databases):
        await target_server.run(f"DROP DATABASE {ident(row[0])} WITH (FORCE)")
    roles = f"SELECT rolname FROM pg_roles WHERE rolname NOT IN ('postgres', {literal(USERNAME)}) AND rolname !~ '^pg_'"
    for row in await target_server.fetch(roles):
        await target_server.run(f"DROP OWNED BY {ident(row[0])}", f"DROP ROLE {ident(row[0])}")


class Watched:
    """An instance that is synced again and again."""

    def __init__(self, client: httpx.AsyncClient, instance_id: int) -> None:
        self._client = client
        self._id = instance_id
        self._seen = 0

    async def sync(self, *kinds: str) -> dict[str, Any]:
        body = {"kinds": list(kinds)} if kinds else {}
        operation = await synced(self._client, f"/instances/{self._id}/sync", **body)
        assert operation["state"] == "succeeded", await items_of(self._client, operation)
        return operation

    async def changes(self) -> list[tuple[str, str, list[str]]]:
        """What the sync that comes now notes: account, type of change, lines of the diff."""
        await self.sync("accounts")
        entries = await all_of(self._client, f"/instances/{self._id}/change-logs")
        new = [entry for entry in reversed(entries) if entry["id"] > self._seen]
        self._seen = max([self._seen, *(entry["id"] for entry in entries)])
        return [(entry["username"], entry["change_type"], entry["diff"].splitlines()) for entry in new]

    async def account(self, username: str) -> dict[str, Any]:
        for is_present in (True, False):
            accounts = await all_of(self._client, f"/instances/{self._id}/accounts", is_present=is_present)
            for account in accounts:
                if account["username"] == username:
                    return account
        raise AssertionError(f"no account {username}")

    async def databases(self) -> set[str]:
        return {each["name"] for each in await all_of(self._client, f"/instances/{self._id}/databases")}


@pytest.fixture
def watched(client: httpx.AsyncClient, instance_id: int) -> Watched:
    return Watched(client, instance_id)


class TestAccountsOfPostgresql:
    async def test_each_change_is_noted(self, clean: TargetServer, watched: Watched) -> None:
        await clean.run("CREATE DATABASE shop")
        await clean.run("CREATE TABLE orders (id int)", "CREATE TABLE customers (id int)", database="shop")
        await watched.sync()
        assert await watched.changes() == []

        await clean.run("CREATE ROLE anna LOGIN PASSWORD 'x'", "CREATE ROLE readers")
        assert [(name, kind) for name, kind, _ in await watched.changes()] == [("anna", "added"), ("readers", "added")]

        await clean.run("GRANT SELECT, INSERT ON orders TO anna", database="shop")
        [(name, kind, diff)] = await watched.changes()
        assert (name, kind) == ("anna", "privileges_changed")
        assert diff == ["+ INSERT on shop.public.orders", "+ SELECT on shop.public.orders"]

        await clean.run("REVOKE INSERT ON orders FROM anna", "GRANT SELECT ON customers TO anna", database="shop")
        await clean.run("GRANT readers TO anna", "GRANT CREATE ON DATABASE shop TO anna")
        [(name, kind, diff)] = await watched.changes()
        assert (name, kind) == ("anna", "privileges_changed")
        assert "- INSERT on shop.public.orders" in diff
        assert "+ SELECT on shop.public.customers" in diff
        assert "+ role readers" in diff
        assert "+ CREATE on database shop" in diff

        await clean.run("ALTER ROLE anna SUPERUSER", "ALTER ROLE anna CONNECTION LIMIT 3")
        changes = await watched.changes()
        assert {(name, kind) for name, kind, _ in changes} <= {
            ("anna", "attributes_changed"), ("anna", "privileges_changed"),
        }  # fmt: skip
        lines = [line for _, _, diff in changes for line in diff]
        assert "is_superuser: no -> yes" in lines
        assert any(line.startswith("connection_limit:") for line in lines)

        await clean.run("DROP OWNED BY anna", "REVOKE readers FROM anna")
        await clean.run("DROP OWNED BY anna", database="shop")
        await clean.run("DROP ROLE anna")
        assert [(name, kind) for name, kind, _ in await watched.changes()] == [("anna", "removed")]
        assert (await watched.account("anna"))["is_present"] is False

        await clean.run("CREATE ROLE anna LOGIN")
        assert [(name, kind) for name, kind, _ in await watched.changes()] == [("anna", "added")]
        assert (await watched.account("anna"))["is_present"] is True
        assert await watched.changes() == []

    async def test_names_are_as_they_are(self, clean: TargetServer, watched: Watched) -> None:
        await watched.sync()
        await clean.run(*(f"CREATE ROLE {ident(name)} LOGIN" for name in ODD_NAMES))
        assert {name for name, kind, _ in await watched.changes() if kind == "added"} == set(ODD_NAMES)
        await clean.run(*(f"DROP ROLE {ident(name)}" for name in ODD_NAMES))
        assert {name for name, kind, _ in await watched.changes() if kind == "removed"} == set(ODD_NAMES)


class TestDatabasesOfPostgresql:
    async def test_come_and_go(
        self, clean: TargetServer, watched: Watched, client: httpx.AsyncClient, instance_id: int
    ) -> None:
        names = {"shop", CJK_21, 'with "quotes"', "emoji 🐘"}
        await clean.run(*(f"CREATE DATABASE {ident(name)}" for name in names))
        first = await watched.sync("capacity")
        assert names <= await watched.databases()
        [record] = await records_of(client, first)
        assert (record["created"], record["removed"]) == (record["found"], 0)
        await clean.run("DROP DATABASE shop", "CREATE DATABASE stock")
        [record] = await records_of(client, await watched.sync("capacity"))
        assert (record["created"], record["removed"]) == (1, 1)
        assert "stock" in await watched.databases()
        assert "shop" not in await watched.databases()
        capacity = (await client.get(f"/api/v1/instances/{instance_id}/capacity")).json()
        assert len(capacity["items"]) == 1
        assert capacity["items"][0]["average_bytes"] > 1_000_000


class TestSettingsOfPostgresql:
    async def test_are_read(self, watched: Watched, client: httpx.AsyncClient, instance_id: int) -> None:
        await watched.sync("settings")
        settings = {each["name"]: each["value"] for each in await all_of(client, f"/instances/{instance_id}/settings")}
        assert settings["max_connections"] == "300"
        [member] = await all_of(client, f"/instances/{instance_id}/members")
        assert (member["db_type"], member["place"]["role"]) == ("postgresql", "primary")


class TestPassword:
    async def test_changed_between_two_syncs(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, clean: TargetServer
    ) -> None:
        await clean.run(f"CREATE ROLE rotating LOGIN PASSWORD {literal(PASSWORD)}", "GRANT pg_monitor TO rotating")
        key = await credential(app, registry, username="rotating")
        instance_id = await clean.instance(registry, key)
        assert (await synced(client, f"/instances/{instance_id}/sync"))["state"] == "succeeded"
        await clean.run("ALTER ROLE rotating PASSWORD 'another-one'")
        refused = await synced(client, f"/instances/{instance_id}/sync")
        assert refused["state"] == "failed"
        [item] = await items_of(client, refused)
        assert (item["error"]["kind"], item["error"]["server_code"]) == ("sign_in_refused", "28P01")
        assert "unreachable_since" not in item
        assert (await client.patch(f"/api/v1/credentials/{key}", json={"password": "another-one"})).status_code == 200
        assert (await synced(client, f"/instances/{instance_id}/sync"))["state"] == "succeeded"


class TestManyEndpoints:
    async def test_two_hundred_in_one_batch(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, clean: TargetServer
    ) -> None:
        key = await clean.credential(app, registry)
        ids = [await clean.instance(registry, key, f"127.0.0.{number}") for number in range(1, 201)]
        operation = await synced(client, "/syncs", instance_ids=ids)
        assert (operation["state"], operation["counts"]) == ("succeeded", {"succeeded": 200})
        records = await records_of(client, operation)
        assert len(records) == 600
        assert {record["state"] for record in records} == {"succeeded"}
        listed = await all_of(client, "/instances")
        assert {instance["version"] is None for instance in listed} == {False}


class TestMariadb:
    async def test_each_change_is_noted(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, mariadb: MariadbServer
    ) -> None:
        key = await credential(app, registry, ROOT_PASSWORD, username="root")
        watched = Watched(
            client, await server_at(registry, "127.0.0.1", mariadb.port, db_type="mariadb", credential_id=key)
        )
        connection = await aiomysql.connect("127.0.0.1", "root", ROOT_PASSWORD, port=mariadb.port, autocommit=True)
        try:
            cursor = await connection.cursor()
            await watched.sync()
            await cursor.execute("CREATE DATABASE stock_of_syncs")
            await cursor.execute("CREATE USER anna@'10.%' IDENTIFIED BY 'x'")
            await cursor.execute(f"CREATE USER `{CJK_64}`@'%' IDENTIFIED BY 'x'")
            added = await watched.changes()
            assert [(name, kind) for name, kind, _ in added] == [("anna", "added"), (CJK_64, "added")]
            await cursor.execute("GRANT SELECT ON stock_of_syncs.* TO anna@'10.%'")
            [(name, kind, diff)] = await watched.changes()
            assert (name, kind) == ("anna", "privileges_changed")
            assert diff == ["+ SELECT on database stock_of_syncs"]
            await watched.sync("capacity")
            assert "stock_of_syncs" in await watched.databases()
        finally:
            await cursor.execute(f"DROP USER IF EXISTS anna@'10.%', `{CJK_64}`@'%'")
            await cursor.execute("DROP DATABASE IF EXISTS stock_of_syncs")
            connection.close()
        assert {kind for _, kind, _ in await watched.changes()} == {"removed"}


class TestRedis:
    async def test_each_change_is_noted(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, redis_server: RedisServer
    ) -> None:
        key = await credential(app, registry, ROOT_PASSWORD, username="default")
        watched = Watched(client, await server_at(registry, "127.0.0.1", redis_server.port, credential_id=key))
        async with redis.asyncio.Redis(port=redis_server.port, password=ROOT_PASSWORD) as connection:
            await watched.sync()
            await connection.execute_command("ACL", "SETUSER", "anna", "on", ">x", "~orders:*", "+get")
            assert [(name, kind) for name, kind, _ in await watched.changes()] == [("anna", "added")]
            await connection.execute_command("ACL", "SETUSER", "anna", "+set")
            changes = await watched.changes()
            assert {name for name, _, _ in changes} == {"anna"}
            assert ["+ +set" in line or "+ set" in line.lower() for _, _, diff in changes for line in diff].count(True)
            await connection.execute_command("ACL", "DELUSER", "anna")
            assert [(name, kind) for name, kind, _ in await watched.changes()] == [("anna", "removed")]


class TestConcurrentSyncs:
    async def test_of_one_instance(
        self, client: httpx.AsyncClient, clean: TargetServer, watched: Watched, instance_id: int
    ) -> None:
        await watched.sync()
        await clean.run("CREATE ROLE anna LOGIN")
        both = await asyncio.gather(*(synced(client, f"/instances/{instance_id}/sync") for _ in range(3)))
        assert [operation["state"] for operation in both] == ["succeeded"] * 3
        entries = await all_of(client, f"/instances/{instance_id}/change-logs")
        assert [(entry["username"], entry["change_type"]) for entry in entries] == [("anna", "added")]
