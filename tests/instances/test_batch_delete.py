"""`POST /instances/batch-delete`: what goes, what stays, and what the report says of it."""

from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.database import Database
from app.models.instance import Instance
from tests.factories import Registry
from tests.instances.fleet import BELOW, batch_delete, catalogue, contents, fleet, running_sync, statuses

URL = "/api/v1/instances/batch-delete"
ONE_EACH = dict.fromkeys(BELOW, 1)


def refused(answer: httpx.Response) -> list[str]:
    """The pointers of a 422."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return [error["pointer"] for error in answer.json()["errors"]]


class TestHard:
    async def test_leaves_no_row_in_any_table(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        victim, neighbour = await fleet(database, [3, 1])
        await batch_delete(client, [victim])
        left = await registry.rows_of([victim])
        assert left == dict.fromkeys(BELOW, 0)
        assert await registry.rows_of([neighbour]) == ONE_EACH

    async def test_counts_what_was_there(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        first, second = await fleet(database, [3, 1])
        before, total = await registry.rows_of([first]), await registry.counts()
        report = await batch_delete(client, [first, second])
        assert report["items"] == [
            {"instance_id": first, "name": report["items"][0]["name"], "status": "deleted", "rows_deleted": before},
            {"instance_id": second, "name": report["items"][1]["name"], "status": "deleted", "rows_deleted": ONE_EACH},
        ]
        after = await registry.counts()
        gone = {
            name: total[name] - after[name] for name in total if name != "audit_events" and total[name] > after[name]
        }
        assert report["rows_deleted"] == gone
        assert gone["instances"] == 2

    async def test_touches_nothing_else(self, client: httpx.AsyncClient, database: Database) -> None:
        victim = (await fleet(database, [2, 2]))[0]
        tables = [table for table in await catalogue(database) if table.name != "audit_events"]
        before = await contents(database, tables)
        await batch_delete(client, [victim])
        after = await contents(database, tables)
        assert {name: [row for row in rows if not _is_of(victim, name, row)] for name, rows in before.items()} == after

    async def test_does_not_report_empty_tables(self, client: httpx.AsyncClient, database: Database) -> None:
        [bare] = await fleet(database, [0])
        report = await batch_delete(client, [bare])
        assert report["items"][0]["rows_deleted"] == {}
        assert report["rows_deleted"] == {"instances": 1}

    async def test_removes_what_was_deleted_softly(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        [victim] = await fleet(database, [1])
        await batch_delete(client, [victim], mode="soft")
        report = await batch_delete(client, [victim])
        assert report["outcome"] == "complete"
        assert await registry.rows_of([victim]) == dict.fromkeys(BELOW, 0)


def _is_of(instance_id: int, table: str, row: dict[str, str]) -> bool:
    return row.get("id" if table == "instances" else "instance_id") == repr(instance_id)


class TestSoft:
    async def test_is_the_default(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        answer = await client.post(URL, json={"instance_ids": [instance_id]})
        assert answer.json()["mode"] == "soft"
        assert (await client.get(f"/api/v1/instances/{instance_id}")).json()["deleted_at"] is not None

    async def test_keeps_the_rows_below(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [2])
        before = await registry.rows_of([instance_id])
        report = await batch_delete(client, [instance_id], mode="soft")
        assert (report["items"][0]["rows_deleted"], report["rows_deleted"]) == ({}, {})
        assert await registry.rows_of([instance_id]) == before

    async def test_hides_and_raises_the_revision(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        instance_id = await registry.instance(is_active=False)
        await batch_delete(client, [instance_id], mode="soft")
        async with database.readers() as session:
            found = (await session.scalars(select(Instance).where(Instance.id == instance_id))).one()
        assert found.deleted_at is not None
        assert found.updated_at == found.deleted_at
        assert (found.revision, found.is_active) == (2, False)
        listed = (await client.get("/api/v1/instances")).json()["items"]
        assert listed == []

    async def test_frees_the_name_and_the_endpoint(self, client: httpx.AsyncClient) -> None:
        body = {"name": "my-01", "db_type": "mysql", "host": "my-01.example"}
        first = (await client.post("/api/v1/instances", json=body)).json()["id"]
        await batch_delete(client, [first], mode="soft")
        assert (await client.post("/api/v1/instances", json=body)).status_code == 201


class TestIds:
    async def test_an_empty_list(self, client: httpx.AsyncClient) -> None:
        assert refused(await client.post(URL, json={"instance_ids": []})) == ["/body/instance_ids"]

    async def test_no_list(self, client: httpx.AsyncClient) -> None:
        assert refused(await client.post(URL, json={"mode": "hard"})) == ["/body/instance_ids"]

    async def test_repeated_ones_count_once(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        report = await batch_delete(client, [instance_id, 999, instance_id, 999])
        assert statuses(report) == {instance_id: "deleted", 999: "missing"}
        assert report["counts"] == {"requested": 2, "deleted": 1, "missing": 1, "blocked": 0, "failed": 0}

    async def test_more_than_the_limit(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"instance_ids": list(range(1, 10_002))})
        assert refused(answer) == ["/body/instance_ids"]
        assert "10000" in answer.json()["detail"]

    async def test_as_many_as_the_limit(self, client: httpx.AsyncClient) -> None:
        report = await batch_delete(client, range(1, 10_001), background=False)
        assert report["counts"]["missing"] == len(report["items"]) == 10_000

    @pytest.mark.parametrize("instance_id", [0, -1, 2**63, 2**64, True, None, 1.5, "one", [1], {}])
    async def test_those_that_none_can_have(self, client: httpx.AsyncClient, instance_id: object) -> None:
        answer = await client.post(URL, json={"instance_ids": [1, instance_id], "mode": "hard"})
        assert refused(answer) == ["/body/instance_ids/1"]

    async def test_a_number_as_text(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        answer = await client.post(URL, json={"instance_ids": [str(instance_id)], "mode": "hard"})
        assert statuses(answer.json()) == {instance_id: "deleted"}

    async def test_the_highest_one_is_missing(self, client: httpx.AsyncClient) -> None:
        report = await batch_delete(client, [2**63 - 1])
        assert report["items"] == [{"instance_id": 2**63 - 1, "status": "missing"}]


class TestOutcome:
    async def test_complete_when_every_id_was_deleted(self, client: httpx.AsyncClient, database: Database) -> None:
        report = await batch_delete(client, await fleet(database, [0, 0]))
        assert (report["outcome"], report["mode"], report["dry_run"]) == ("complete", "hard", False)

    async def test_partial_when_some_were(self, client: httpx.AsyncClient, registry: Registry) -> None:
        report = await batch_delete(client, [await registry.instance(), 999])
        assert report["outcome"] == "partial"

    async def test_failed_when_none_was(self, client: httpx.AsyncClient) -> None:
        report = await batch_delete(client, [998, 999])
        assert (report["outcome"], report["rows_deleted"]) == ("failed", {})

    async def test_items_stand_in_the_order_of_the_ids(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = [999, *reversed(await fleet(database, [0] * 12)), 998]
        report = await batch_delete(client, ids)
        assert [item["instance_id"] for item in report["items"]] == ids

    async def test_more_items_than_are_written_at_once(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        report = await batch_delete(client, [*range(1_000_001, 1_002_500), instance_id], background=False)
        assert (len(report["items"]), report["counts"]["deleted"]) == (2_500, 1)


class TestDryRun:
    @pytest.mark.parametrize("mode", ["soft", "hard"])
    async def test_changes_nothing(self, client: httpx.AsyncClient, database: Database, mode: str) -> None:
        ids = await fleet(database, [2, 1])
        tables = await catalogue(database)
        before = await contents(database, tables)
        report = await batch_delete(client, ids, mode=mode, dry_run=True)
        assert (report["dry_run"], report["outcome"]) == (True, "complete")
        assert await contents(database, tables) == before

    async def test_shows_what_the_deletion_does(self, client: httpx.AsyncClient, database: Database) -> None:
        free, busy = await fleet(database, [3, 1])
        await running_sync(database, busy)
        foreseen = await batch_delete(client, [free, busy, 999], dry_run=True)
        done = await batch_delete(client, [free, busy, 999])
        assert foreseen | {"dry_run": False} == done

    async def test_counts_no_rows_in_soft_mode(self, client: httpx.AsyncClient, database: Database) -> None:
        report = await batch_delete(client, await fleet(database, [2]), mode="soft", dry_run=True)
        assert (report["rows_deleted"], report["items"][0]["rows_deleted"]) == ({}, {})


class TestBackground:
    @pytest.mark.parametrize(("count", "background"), [(1, True), (501, "auto")])
    async def test_starts_an_operation(self, client: httpx.AsyncClient, count: int, background: Any) -> None:
        ids = list(range(1_000_001, 1_000_001 + count))
        answer = await client.post(URL, json={"instance_ids": ids, "background": background})
        operation = answer.json()
        assert (answer.status_code, operation["kind"], operation["total"]) == (202, "instance_deletion", count)
        assert answer.headers["Location"].endswith(f"/api/v1/operations/{operation['id']}")
        assert answer.headers["Retry-After"]

    async def test_500_are_deleted_at_once(self, client: httpx.AsyncClient) -> None:
        report = await batch_delete(client, range(1_000_001, 1_000_501))
        assert report["counts"]["missing"] == 500

    @pytest.mark.parametrize("background", [False, "auto"])
    async def test_otherwise_the_answer_is_the_report(
        self, client: httpx.AsyncClient, registry: Registry, background: Any
    ) -> None:
        report = await batch_delete(client, [await registry.instance()], background=background)
        assert report["outcome"] == "complete"


class TestBody:
    @pytest.mark.parametrize(
        ("changed", "pointer"),
        [({"mode": "gone"}, "/body/mode"), ({"force": "very"}, "/body/force"), ({"modus": "hard"}, "/body/modus")],
    )
    async def test_what_it_does_not_know(
        self, client: httpx.AsyncClient, changed: dict[str, Any], pointer: str
    ) -> None:
        assert refused(await client.post(URL, json={"instance_ids": [1]} | changed)) == [pointer]
