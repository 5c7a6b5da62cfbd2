"""Deleting a space: with everything in it, by the way of every deletion, and nothing of it is left in any table."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from app.database import Database
from app.instances import space_deletion
from app.instances.deletion_runner import DeletionRunner
from app.models import Base
from app.models.audit import AuditEvent
from app.spaces.removal import INSTANCES, KEPT, REMOVED
from tests.catalogue import counts_of, listed_tables
from tests.factories import Registry
from tests.spaces.test_routes import problem

URL = "/api/v1/spaces"


async def furnished(registry: Registry, instances: int = 2, **values: Any) -> int:
    """A space with rows in every table that can have some of a space."""
    space_id = await registry.space()
    credential = await registry.credential(space_id=space_id)
    tag = await registry.tag(space_id=space_id)
    await registry.user(role="operator", space_id=space_id)
    classification = await registry.insert("account_classifications", space_id=space_id, name="class", rule={"all": []})
    version = {"classification_id": classification, "rule_version": 1, "rule": {"all": []}}
    await registry.insert("account_classification_versions", space_id=space_id, **version)
    schedule = {"name": "nightly", "cron": "0 3 * * *", "timezone": "UTC", "kinds": ["accounts"], "filter": {}}
    await registry.insert("schedules", space_id=space_id, **schedule)
    session = {"space_id": space_id, "kinds": ["accounts"], "trigger": "manual", "state": "succeeded"}
    session_id = await registry.insert("sync_sessions", **session)
    for number in range(instances):
        deleted_at = datetime.now(UTC) if number == 1 else None
        instance = await registry.instance(space_id=space_id, credential_id=credential, deleted_at=deleted_at, **values)
        await registry.insert("instance_tags", instance_id=instance, tag_id=tag)
        await registry.insert("instance_accounts", instance_id=instance, username="root")
        record = {"session_id": session_id, "instance_id": instance, "kind": "accounts", "state": "succeeded"}
        await registry.insert("sync_instance_records", **record)
    return int(space_id)


ALL = {
    "instances": 2,
    "instance_tags": 2,
    "instance_accounts": 2,
    "sync_instance_records": 2,
    "tags": 1,
    "credentials": 1,
    "account_classification_versions": 1,
    "account_classifications": 1,
    "schedules": 1,
    "sync_sessions": 1,
    "role_grants": 1,
}


async def rows_of(database: Database, space_id: int) -> dict[str, int]:
    """By the database's own catalogue: every table with a `space_id` that has rows of the space."""
    async with database.read_engine.connect() as connection:
        names = [name for name, table in (await listed_tables(connection)).items() if "space_id" in table.c]
        counts = await counts_of(connection, names, f"space_id = {space_id}")
    return {name: count for name, count in counts.items() if count}


async def events(database: Database, space_id: int) -> list[tuple[str, Any]]:
    statement = select(AuditEvent.action, AuditEvent.changes).where(AuditEvent.space_id == space_id)
    async with database.readers() as session:
        return [tuple(row) for row in await session.execute(statement.order_by(AuditEvent.id))]


async def delete(client: httpx.AsyncClient, space_id: int, **query: Any) -> httpx.Response:
    return await client.delete(f"{URL}/{space_id}", params=query)


class TestEmpty:
    async def test_needs_no_force(self, client: httpx.AsyncClient, registry: Registry, database: Database) -> None:
        space_id = await registry.space("short-lived")
        answer = await delete(client, space_id)
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "space_id": space_id,
                "name": "short-lived",
                "dry_run": False,
                "deleted": {},
                "kept": ["audit_events", "operations"],
                "blockers": [],
            },
        )
        assert problem(await client.get(f"{URL}/{space_id}")) == (404, 25015)
        assert problem(await delete(client, space_id)) == (404, 25015)
        assert [action for action, _ in await events(database, space_id)] == ["space:archive", "space:delete"]

    async def test_members_do_not_make_it_less_so(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        await registry.user(role="viewer", space_id=space_id)
        assert (await delete(client, space_id)).json()["deleted"] == {"role_grants": 1}


class TestNotEmpty:
    async def test_is_refused_with_what_is_in_it(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id = await furnished(registry)
        before = await rows_of(database, space_id)
        answer = await delete(client, space_id)
        assert problem(answer) == (409, 25018)
        blockers = {each["table"]: each["count"] for each in answer.json()["blockers"]}
        tables = (
            "instances",
            "account_classification_versions",
            "account_classifications",
            "schedules",
            "sync_sessions",
            "tags",
            "credentials",
        )
        assert blockers == {name: ALL[name] for name in tables}
        assert {each["code"] for each in answer.json()["blockers"]} == {"not_empty"}
        assert await rows_of(database, space_id) == before
        assert (await client.get(f"{URL}/{space_id}")).json()["archived_at"] is None

    async def test_goes_with_force_and_leaves_no_row(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id, other = await furnished(registry), await furnished(registry)
        before, others = await registry.counts(), await rows_of(database, other)
        assert set(await rows_of(database, space_id)) >= {INSTANCES, *REMOVED}, "this test is about every table"
        answer = await delete(client, space_id, force=True)
        assert (answer.status_code, answer.json()["deleted"]) == (200, ALL)
        assert (await rows_of(database, space_id)).keys() == {"audit_events"}
        assert await rows_of(database, other) == others
        gone = ALL | {"spaces": 1}
        after = await registry.counts()
        assert {name: before[name] - after[name] for name in gone} == gone

    async def test_is_audited(self, client: httpx.AsyncClient, registry: Registry, database: Database) -> None:
        space_id = await furnished(registry)
        await delete(client, space_id, force=True)
        found = await events(database, space_id)
        deletions = [*["instance:delete"] * 2, "instance:batch_delete"]
        assert [action for action, _ in found] == ["space:archive", *deletions, "space:delete"]
        assert found[1][1]["mode"] == "hard"
        assert found[-1][1]["rows"] == ALL
        assert found[-1][1]["before"].keys() == {"name", "description", "quota_instances", "quota_rows"}

    async def test_in_batches(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(space_deletion, "BATCH_INSTANCES", 2)
        space_id = await furnished(registry, instances=5)
        assert (await delete(client, space_id, dry_run=True)).json()["deleted"]["instance_accounts"] == 5
        assert (await delete(client, space_id, force=True)).json()["deleted"]["instances"] == 5
        assert (await rows_of(database, space_id)).keys() == {"audit_events"}

    async def test_a_dry_run_tells_and_does_nothing(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id = await furnished(registry)
        before = await registry.counts()
        answer = (await delete(client, space_id, dry_run=True)).json()
        assert (answer["deleted"], answer["blockers"], answer["dry_run"]) == (ALL, [], True)
        assert await registry.counts() == before
        assert (await client.get(f"{URL}/{space_id}")).json()["archived_at"] is None

    async def test_with_an_archived_one(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await furnished(registry)
        await client.post(f"{URL}/{space_id}/archive")
        assert (await delete(client, space_id, force=True)).status_code == 200


class TestRefusals:
    async def test_the_default_space(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.default_space()
        assert problem(await delete(client, space_id, force=True)) == (409, 25016)
        assert (await client.get(f"{URL}/{space_id}")).json()["archived_at"] is None

    async def test_protected_instances_block_whoever_forces(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id = await furnished(registry)
        protected = await registry.instance(space_id=space_id, deletion_protection=True)
        before = await rows_of(database, space_id)
        answer = await delete(client, space_id, force=True)
        assert problem(answer) == (409, 25018)
        [blocker] = answer.json()["blockers"]
        assert (blocker["code"], blocker["count"], blocker["instance_ids"]) == ("deletion_protected", 1, [protected])
        assert (await delete(client, space_id, dry_run=True)).json()["blockers"] == [blocker]
        assert await rows_of(database, space_id) == before
        assert (await client.get(f"{URL}/{space_id}")).json()["archived_at"] is None

    async def test_a_table_that_somebody_added(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        """By hand, without telling the plan: its rows would be left behind."""
        async with database.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE budgets (space_id INTEGER, amount INTEGER)"))
        answer = await delete(client, await registry.space(), force=True)
        assert problem(answer) == (409, 25018)
        [blocker] = answer.json()["blockers"]
        assert blocker["code"] == "unplanned_table"
        assert "budgets" in blocker["message"]

    async def test_a_table_with_a_foreign_key_of_another_name(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        async with database.engine.begin() as connection:
            await connection.execute(text("CREATE TABLE budgets (owner BIGINT REFERENCES spaces (id))"))
        assert problem(await delete(client, await registry.space())) == (409, 25018)


class TestStopped:
    async def test_a_blocker_that_comes_meanwhile(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The space stays archived with what is left, and the next call goes on."""
        space_id = await furnished(registry)
        late = await registry.instance(space_id=space_id, deletion_protection=True)
        unseen = space_deletion.SpaceDeletionService._protected

        async def nothing(*_: object) -> list[Any]:
            return []

        monkeypatch.setattr(space_deletion.SpaceDeletionService, "_protected", nothing)
        answer = await delete(client, space_id, force=True)
        assert problem(answer) == (409, 25018)
        [blocker] = answer.json()["blockers"]
        assert (blocker["code"], blocker["instance_id"]) == ("deletion_protected", late)
        assert "archived" in answer.json()["detail"]
        assert (await rows_of(database, space_id))["instances"] == 1
        assert (await client.get(f"{URL}/{space_id}")).json()["archived_at"] is not None
        monkeypatch.setattr(space_deletion.SpaceDeletionService, "_protected", unseen)
        await client.post(f"{URL}/{space_id}/unarchive")
        await client.patch(f"/api/v1/instances/{late}", json={"deletion_protection": False})
        assert (await delete(client, space_id, force=True)).json()["deleted"]["instances"] == 1
        assert (await rows_of(database, space_id)).keys() == {"audit_events"}

    async def test_a_database_that_fails(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space_id = await furnished(registry)
        attempt = DeletionRunner._attempt

        async def fail(*_: object, **__: object) -> Any:
            raise RuntimeError("broken")

        monkeypatch.setattr(DeletionRunner, "_attempt", fail)
        assert problem(await delete(client, space_id, force=True)) == (503, 25010)
        assert (await client.get(f"{URL}/{space_id}")).json()["archived_at"] is not None
        monkeypatch.setattr(DeletionRunner, "_attempt", attempt)
        assert (await delete(client, space_id, force=True)).status_code == 200
        assert (await rows_of(database, space_id)).keys() == {"audit_events"}

    async def test_a_space_that_is_brought_back_meanwhile(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space_id = await furnished(registry)
        all_of_them = space_deletion.SpaceDeletionService._delete_instances

        async def then_another(self: Any, key: int) -> Any:
            rows = await all_of_them(self, key)
            await registry.instance(space_id=space_id)
            return rows

        monkeypatch.setattr(space_deletion.SpaceDeletionService, "_delete_instances", then_another)
        assert problem(await delete(client, space_id, force=True)) == (409, 25016)
        assert (await rows_of(database, space_id)).keys() >= {"instances", "tags", "credentials"}


class TestPlan:
    def test_knows_every_table_that_belongs_to_spaces(self) -> None:
        """A new one must be told what becomes of it."""
        holding = {table.name for table in Base.metadata.tables.values() if "space_id" in table.c}
        assert holding == {INSTANCES, *REMOVED, *KEPT}

    def test_every_foreign_key_points_forward(self) -> None:
        order = {name: number for number, name in enumerate((*REMOVED, "spaces"))}
        assert [
            (name, key.column.table.name)
            for name in REMOVED
            for key in Base.metadata.tables[name].foreign_keys
            if key.column.table.name in order and order[key.column.table.name] <= order[name]
        ] == []
