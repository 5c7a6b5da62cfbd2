"""`/maintenance/orphans`: rows whose instance does not exist, seen and removed."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from sqlalchemy import text

from app.config import Settings
from app.database import Database
from app.instances import deletion_repository
from app.instances.cascade import InstanceCascadeDeletionPlan, plan
from app.instances.orphans import OrphanService
from tests.factories import Registry
from tests.instances.fleet import BELOW, events, execute, fleet, precheck

URL = "/api/v1/maintenance/orphans"
# Children before parents, as in the plan.
PLANNED = [{"table": name, "planned": True, "rows": 1} for name in BELOW]


async def orphan(database: Database, *instance_ids: int) -> None:
    """Takes the instances away from under their rows, with foreign keys switched off."""
    ids = ", ".join(map(str, instance_ids))
    off, on = (
        ("PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys=ON")
        if database.is_sqlite
        else ("SET session_replication_role = replica", "SET session_replication_role = origin")
    )
    async with database.statements() as session, database.writer_turn():
        connection = await session.connection()
        for statement in (off, f"DELETE FROM instances WHERE id IN ({ids})", on):
            await connection.execute(text(statement))


async def reported(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(URL)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def cleaned(client: httpx.AsyncClient) -> dict[str, Any]:
    """What cleaning answers to the present report's token."""
    answer = await client.post(f"{URL}/clean", json={"token": (await reported(client))["token"]})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def refusal(client: httpx.AsyncClient, token: object) -> dict[str, Any]:
    answer = await client.post(f"{URL}/clean", json={"token": token})
    assert (answer.status_code, answer.json()["code"]) == (412, 25017), answer.text
    return dict(answer.json())


class TestReport:
    async def test_is_empty_when_all_is_well(self, client: httpx.AsyncClient, database: Database) -> None:
        await fleet(database, [1])
        report = await reported(client)
        assert (report["tables"], report["total"]) == ([], 0)

    async def test_counts_every_planned_table(self, client: httpx.AsyncClient, database: Database) -> None:
        [lost, _] = await fleet(database, [1, 1])
        await orphan(database, lost)
        report = await reported(client)
        assert (report["tables"], report["total"]) == (PLANNED, len(BELOW))

    async def test_names_an_unplanned_table(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        await execute(
            database,
            "CREATE TABLE forgotten (instance_id bigint)",
            f"INSERT INTO forgotten VALUES ({instance_id}), (998), (999), (NULL)",
        )
        report = await reported(client)
        assert report["tables"] == [{"table": "forgotten", "planned": False, "rows": 2}]

    async def test_leaves_other_peoples_ids_alone(self, client: httpx.AsyncClient, database: Database) -> None:
        await execute(
            database,
            "CREATE TABLE machines (instance_id varchar(40))",
            "INSERT INTO machines VALUES ('i-0abcd1234'), ('17')",
        )
        assert (await reported(client))["tables"] == []

    @pytest.mark.parametrize("name", ['"Odd Name"', '"with.dot"'])
    async def test_takes_any_table_name(self, client: httpx.AsyncClient, database: Database, name: str) -> None:
        await execute(database, f"CREATE TABLE {name} (instance_id bigint)", f"INSERT INTO {name} VALUES (999)")
        assert (await cleaned(client))["total"] == 1

    @pytest.mark.parametrize("database_kind", ["postgresql"])
    async def test_takes_a_table_of_another_schema(self, client: httpx.AsyncClient, database: Database) -> None:
        await execute(
            database,
            "CREATE SCHEMA reports",
            "CREATE TABLE reports.instance_tags (instance_id bigint)",
            "INSERT INTO reports.instance_tags VALUES (999)",
        )
        report = await cleaned(client)
        assert report["tables"] == [{"table": "reports.instance_tags", "rows_deleted": 1, "error": None}]


class TestKeptTables:
    async def test_have_no_orphans(self, app: FastAPI, database: Database) -> None:
        await execute(
            database, "CREATE TABLE memories (instance_id bigint)", "INSERT INTO memories VALUES (998), (999)"
        )
        keeping = InstanceCascadeDeletionPlan(
            root=plan.root, steps=plan.steps, groups=(), blockers=(), kept=plan.kept | {"memories": "they outlive it"}
        )
        orphans: OrphanService = app.state.orphans
        service = OrphanService(database, keeping, orphans._box, orphans._lifetime)
        report = await service.report()
        assert (report.tables, report.total) == ([], 0)
        assert (await service.clean(report.token)).total == 0

    async def test_audit_entries_outlive_their_instances(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [1])
        await client.delete(f"/api/v1/instances/{instance_id}", params={"mode": "hard"})
        assert (await reported(client))["total"] == 0
        assert len(await events(database, "instance:delete")) == 1


class TestCleaning:
    async def test_removes_what_was_reported(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        lost, other, kept = await fleet(database, [2, 1, 1])
        await orphan(database, lost, other)
        before = await registry.rows_of([lost, other])
        report = await cleaned(client)
        assert {each["table"]: each["rows_deleted"] for each in report["tables"]} == before
        assert report["total"] == sum(before.values())
        assert await registry.rows_of([lost, other]) == dict.fromkeys(BELOW, 0)
        assert await registry.rows_of([kept]) == dict.fromkeys(BELOW, 1)
        assert (await reported(client))["total"] == 0

    async def test_removes_from_unplanned_tables_first(self, client: httpx.AsyncClient, database: Database) -> None:
        [lost] = await fleet(database, [{"instance_accounts": 1}])
        await execute(
            database,
            "CREATE TABLE forgotten (instance_id bigint, account_id bigint REFERENCES instance_accounts (id))",
            f"INSERT INTO forgotten SELECT {lost}, id FROM instance_accounts",
        )
        await orphan(database, lost)
        report = await cleaned(client)
        assert [(each["table"], each["rows_deleted"]) for each in report["tables"]] == [
            ("forgotten", 1), ("instance_accounts", 1),
        ]  # fmt: skip

    async def test_tells_what_stands_in_the_way(self, client: httpx.AsyncClient, database: Database) -> None:
        [lost] = await fleet(database, [{"instance_accounts": 1, "instance_databases": 1}])
        await execute(
            database,
            "CREATE TABLE forgotten (account_id bigint REFERENCES instance_accounts (id))",
            "INSERT INTO forgotten SELECT id FROM instance_accounts",
        )
        await orphan(database, lost)
        report = await cleaned(client)
        assert [(each["table"], each["rows_deleted"], bool(each["error"])) for each in report["tables"]] == [
            ("instance_accounts", 0, True), ("instance_databases", 1, False),
        ]  # fmt: skip

    async def test_goes_in_steps(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deletion_repository, "CLEAN_STEP_ROWS", 20)
        lost = await fleet(database, [{"instance_databases": 3}] * 5)
        await orphan(database, *lost)
        assert (await cleaned(client))["total"] == 15
        entries = await events(database, "orphan:clean")
        assert [entry["changes"]["rows"] for entry in entries] == [6, 6, 3]
        assert {entry["resource_name"] for entry in entries} == {"instance_databases"}
        assert len({entry["batch_id"] for entry in entries}) == 1

    async def test_of_nothing(self, client: httpx.AsyncClient) -> None:
        assert await cleaned(client) == {"tables": [], "total": 0}


class TestToken:
    async def test_is_stale_when_there_are_more(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        first, second = await fleet(database, [{"instance_databases": 1}] * 2)
        await orphan(database, first)
        token = (await reported(client))["token"]
        await orphan(database, second)
        problem = await refusal(client, token)
        assert problem["changed"] == [{"table": "instance_databases", "reported": 1, "rows": 2}]
        assert await registry.rows_of([first, second]) == dict.fromkeys(BELOW, 0) | {"instance_databases": 2}

    async def test_is_stale_when_they_are_gone(self, client: httpx.AsyncClient, database: Database) -> None:
        await orphan(database, *await fleet(database, [{"instance_databases": 1}]))
        token = (await reported(client))["token"]
        await cleaned(client)
        assert (await refusal(client, token))["changed"] == [{"table": "instance_databases", "reported": 1, "rows": 0}]

    @pytest.mark.parametrize("token", ["x", "gAAAAA", "é", "\x00", "null"])
    async def test_of_nobody(self, client: httpx.AsyncClient, token: str) -> None:
        assert "not one of ours" in (await refusal(client, token))["detail"]

    async def test_of_another_key(self, client: httpx.AsyncClient) -> None:
        await refusal(client, Fernet(Fernet.generate_key()).encrypt(b'{"orphans": {}, "expires": 1e12}').decode())

    async def test_of_a_precheck(self, client: httpx.AsyncClient, database: Database) -> None:
        await refusal(client, (await precheck(client, await fleet(database, [0])))["plan_token"])

    @pytest.mark.parametrize("token", ["", None, 5, []])
    async def test_of_another_type(self, client: httpx.AsyncClient, token: object) -> None:
        answer = await client.post(f"{URL}/clean", json={"token": token})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/body/token")


class TestExpiry:
    @pytest.fixture
    def settings(self, database_url: str, tmp_path: Path) -> Settings:
        return Settings(
            database_url=database_url,
            data_dir=tmp_path,
            judge_processes=0,
            plan_token_seconds=1,
            allowed_hosts="muster.test",
        )

    async def test_an_expired_token_is_stale(self, client: httpx.AsyncClient) -> None:
        token = (await reported(client))["token"]
        await asyncio.sleep(1.1)
        assert "expired" in (await refusal(client, token))["detail"]
