"""What keeps an instance from being deleted, and which of it `force` overrides."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.database import Database
from tests.factories import Registry
from tests.instances.fleet import batch_delete, execute, fleet, running_sync, statuses

WITH_KEY = "CREATE TABLE forgotten (id integer PRIMARY KEY, instance_id bigint NOT NULL REFERENCES instances (id))"
WITHOUT_KEY = "CREATE TABLE forgotten (id integer PRIMARY KEY, instance_id bigint)"
OTHER_TYPE = "CREATE TABLE forgotten (id integer PRIMARY KEY, instance_id varchar(40))"
OTHER_NAME = "CREATE TABLE forgotten (id integer PRIMARY KEY, owner bigint REFERENCES instances (id))"
OTHER_CASE = "CREATE TABLE forgotten (id integer PRIMARY KEY, owner bigint REFERENCES INSTANCES (ID))"
GRANDCHILD = "CREATE TABLE forgotten (id integer PRIMARY KEY, account bigint REFERENCES instance_accounts (id))"


def codes(report: Mapping[str, Any]) -> list[str]:
    """The blockers of a report's only item."""
    [item] = report["items"]
    return [blocker["code"] for blocker in item["blockers"]]


class TestProtection:
    @pytest.mark.parametrize("mode", ["soft", "hard"])
    @pytest.mark.parametrize("force", [False, True])
    async def test_is_never_overridden(
        self, client: httpx.AsyncClient, registry: Registry, mode: str, force: bool
    ) -> None:
        instance_id = await registry.instance(deletion_protection=True)
        report = await batch_delete(client, [instance_id], mode=mode, force=force)
        assert codes(report) == ["deletion_protected"]
        assert (report["outcome"], report["counts"]["blocked"]) == ("failed", 1)
        assert (await client.get(f"/api/v1/instances/{instance_id}")).json()["deleted_at"] is None

    async def test_stops_no_other_instance(self, client: httpx.AsyncClient, registry: Registry) -> None:
        guarded, free = await registry.instance(deletion_protection=True), await registry.instance()
        report = await batch_delete(client, [guarded, free])
        assert statuses(report) == {guarded: "blocked", free: "deleted"}


class TestRunningSync:
    @pytest.mark.parametrize("mode", ["soft", "hard"])
    async def test_blocks_and_counts(self, client: httpx.AsyncClient, database: Database, mode: str) -> None:
        [instance_id] = await fleet(database, [1])
        await running_sync(database, instance_id)
        await running_sync(database, instance_id)
        report = await batch_delete(client, [instance_id], mode=mode)
        [blocker] = report["items"][0]["blockers"]
        assert (blocker["code"], blocker["count"]) == ("sync_running", 2)
        assert blocker["message"]

    async def test_can_be_forced(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [1])
        await running_sync(database, instance_id)
        report = await batch_delete(client, [instance_id], force=True)
        assert report["outcome"] == "complete"

    async def test_of_another_instance_does_not_block(self, client: httpx.AsyncClient, database: Database) -> None:
        busy, free = await fleet(database, [1, 1])
        await running_sync(database, busy)
        assert statuses(await batch_delete(client, [free])) == {free: "deleted"}

    async def test_force_does_not_override_protection_beside_it(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        instance_id = await registry.instance(deletion_protection=True)
        await running_sync(database, instance_id)
        report = await batch_delete(client, [instance_id], force=True)
        assert codes(report) == ["deletion_protected", "sync_running"]


class TestAlreadyDeleted:
    async def test_blocks_in_soft_mode(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(deleted_at=datetime.now(UTC))
        assert codes(await batch_delete(client, [instance_id], mode="soft")) == ["already_deleted"]

    async def test_can_be_forced(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(deleted_at=datetime.now(UTC))
        assert (await batch_delete(client, [instance_id], mode="soft", force=True))["outcome"] == "complete"

    async def test_does_not_block_in_hard_mode(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(deleted_at=datetime.now(UTC))
        assert (await batch_delete(client, [instance_id]))["outcome"] == "complete"


class TestUnplannedTable:
    """A table that somebody added by hand would lose its parent, or keep rows of an instance that is gone."""

    @pytest.mark.parametrize("statement", [WITH_KEY, WITHOUT_KEY, OTHER_TYPE, OTHER_NAME, OTHER_CASE, GRANDCHILD])
    @pytest.mark.parametrize("force", [False, True])
    async def test_blocks_by_name(
        self, client: httpx.AsyncClient, database: Database, statement: str, force: bool
    ) -> None:
        await execute(database, statement)
        ids = await fleet(database, [1, 0])
        report = await batch_delete(client, ids, force=force)
        assert report["counts"]["blocked"] == 2
        [blocker] = report["items"][0]["blockers"]
        assert blocker["code"] == "unplanned_table"
        assert "forgotten" in blocker["message"]

    async def test_does_not_block_in_soft_mode(self, client: httpx.AsyncClient, database: Database) -> None:
        await execute(database, WITH_KEY)
        report = await batch_delete(client, await fleet(database, [1]), mode="soft")
        assert report["outcome"] == "complete"

    async def test_each_one_is_named(self, client: httpx.AsyncClient, database: Database) -> None:
        await execute(database, WITH_KEY, "CREATE TABLE lost (id integer, forgotten_id int REFERENCES forgotten (id))")
        report = await batch_delete(client, await fleet(database, [0]))
        assert [blocker["message"].split()[1] for blocker in report["items"][0]["blockers"]] == ["forgotten", "lost"]

    async def test_one_that_refers_to_something_else_does_not_block(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await execute(database, "CREATE TABLE forgotten (id integer PRIMARY KEY, tag bigint REFERENCES tags (id))")
        assert (await batch_delete(client, await fleet(database, [1])))["outcome"] == "complete"

    @pytest.mark.parametrize("database_kind", ["postgresql"])
    async def test_one_in_another_schema_blocks(self, client: httpx.AsyncClient, database: Database) -> None:
        await execute(database, "CREATE SCHEMA reports", WITH_KEY.replace("forgotten", "reports.instance_tags"))
        report = await batch_delete(client, await fleet(database, [0]))
        assert "reports.instance_tags" in report["items"][0]["blockers"][0]["message"]
