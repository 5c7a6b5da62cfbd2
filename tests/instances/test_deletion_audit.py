"""What the audit trail says of deletions."""

from typing import Any

import httpx
import pytest

from app.database import Database
from tests.factories import Registry
from tests.instances.fleet import batch_delete, events, fleet

REQUEST = {"X-Request-ID": "retire-rack-7"}


class TestInstances:
    async def test_there_is_one_entry_for_each_deleted_one(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        guarded = await registry.instance(deletion_protection=True)
        first, second = await fleet(database, [0, 0])
        await batch_delete(client, [first, guarded, second, 999])
        entries = await events(database, "instance:delete")
        assert sorted(entry["resource_id"] for entry in entries) == [first, second]

    async def test_an_entry_outlives_the_instance_by_name(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        instance_id = await registry.instance(name="pg-01")
        await batch_delete(client, [instance_id])
        [entry] = await events(database, "instance:delete")
        shown = {key: entry[key] for key in ("resource_type", "resource_id", "resource_name", "space_id", "outcome")}
        assert shown == {
            "resource_type": "instance",
            "resource_id": instance_id,
            "resource_name": "pg-01",
            "space_id": await registry.default_space(),
            "outcome": "succeeded",
        }
        assert entry["occurred_at"] is not None

    async def test_changes_hold_mode_and_rows(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [2])
        rows = await registry.rows_of([instance_id])
        await batch_delete(client, [instance_id])
        [entry] = await events(database, "instance:delete")
        assert entry["changes"] == {"mode": "hard", "rows": rows}

    async def test_changes_of_a_soft_one_hold_no_rows(self, client: httpx.AsyncClient, database: Database) -> None:
        await batch_delete(client, await fleet(database, [2]), mode="soft")
        [entry] = await events(database, "instance:delete")
        assert entry["changes"] == {"mode": "soft", "rows": {}}

    async def test_restoring_is_recorded(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        instance_id = await registry.instance(name="pg-01")
        await batch_delete(client, [instance_id], mode="soft")
        await client.post(f"/api/v1/instances/{instance_id}/restore", headers=REQUEST)
        [entry] = await events(database, "instance:restore")
        assert (entry["resource_id"], entry["resource_name"], entry["request_id"]) == (
            instance_id, "pg-01", "retire-rack-7",
        )  # fmt: skip


class TestBatch:
    async def test_shares_its_id_with_its_instances(self, client: httpx.AsyncClient, database: Database) -> None:
        await batch_delete(client, await fleet(database, [0, 0]))
        [batch] = await events(database, "instance:batch_delete")
        assert batch["batch_id"] is not None
        assert [entry["batch_id"] for entry in await events(database, "instance:delete")] == [batch["batch_id"]] * 2

    async def test_has_one_entry_with_what_the_report_says(self, client: httpx.AsyncClient, database: Database) -> None:
        report = await batch_delete(client, [*await fleet(database, [1]), 999])
        [batch] = await events(database, "instance:batch_delete")
        assert (batch["resource_type"], batch["resource_id"], batch["outcome"]) == ("batch", None, "partial")
        assert batch["changes"] == {key: report[key] for key in ("mode", "counts", "rows_deleted")}

    async def test_is_of_the_space_that_all_its_instances_are_of(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        """So that who reads only that space's entries sees it."""
        space_id = await registry.space()
        own = [await registry.instance(space_id=space_id) for _ in range(2)]
        await batch_delete(client, [*own, 999])
        [batch] = await events(database, "instance:batch_delete")
        assert batch["space_id"] == space_id

    async def test_is_of_none_when_they_are_of_several(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        ids = [await registry.instance(space_id=await registry.space()) for _ in range(2)]
        await batch_delete(client, ids)
        await batch_delete(client, [999])
        assert [batch["space_id"] for batch in await events(database, "instance:batch_delete")] == [None, None]

    async def test_one_that_deleted_nothing_is_recorded_too(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await batch_delete(client, [999])
        [batch] = await events(database, "instance:batch_delete")
        assert batch["outcome"] == "failed"

    async def test_a_dry_run_is_not_recorded(self, client: httpx.AsyncClient, database: Database) -> None:
        await batch_delete(client, await fleet(database, [1]), dry_run=True)
        assert await events(database, "instance:batch_delete") == await events(database, "instance:delete") == []

    async def test_a_single_deletion_has_no_batch_entry(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        await client.delete(f"/api/v1/instances/{instance_id}")
        assert await events(database, "instance:batch_delete") == []
        assert len(await events(database, "instance:delete")) == 1


class TestRequestId:
    @pytest.mark.parametrize("mode", ["soft", "hard"])
    async def test_stands_in_every_entry(self, client: httpx.AsyncClient, database: Database, mode: str) -> None:
        body: dict[str, Any] = {"instance_ids": await fleet(database, [0] * 8), "mode": mode}
        await client.post("/api/v1/instances/batch-delete", json=body, headers=REQUEST)
        entries = await events(database, "instance:delete") + await events(database, "instance:batch_delete")
        assert [entry["request_id"] for entry in entries] == ["retire-rack-7"] * 9
