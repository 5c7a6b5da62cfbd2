"""`POST /instances/batch-delete/precheck`, and deletions that hold to what it showed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI

from app.config import Settings
from app.database import Database
from app.instances.deletion_look import DeletionLook
from app.main import create_app
from tests.conftest import client_of
from tests.factories import Registry
from tests.instances.fleet import (
    BELOW,
    ONE_AT_MOST,
    batch_delete,
    catalogue,
    contents,
    execute,
    fleet,
    precheck,
    running_sync,
    statuses,
)  # fmt: skip
from tests.signing_in import signed_in_as

URL = "/api/v1/instances/batch-delete"


async def refusal(client: httpx.AsyncClient, ids: list[int], **options: Any) -> dict[str, Any]:
    """The problem of a deletion whose token does not fit."""
    answer = await client.post(URL, json={"instance_ids": ids, "mode": "hard"} | options)
    assert answer.status_code == 412, answer.text
    assert answer.json()["code"] == 25017
    return dict(answer.json())


async def rename(client: httpx.AsyncClient, instance_id: int) -> None:
    answer = await client.patch(f"/api/v1/instances/{instance_id}", json={"description": "moved"})
    assert answer.status_code == 200


class TestPrecheck:
    async def test_counts_rows_by_instance_and_in_all(self, client: httpx.AsyncClient, database: Database) -> None:
        first, second = await fleet(database, [3, 1])
        found = await precheck(client, [first, second])
        ones = dict.fromkeys(BELOW, 1)
        threes = dict.fromkeys(BELOW, 3) | ONE_AT_MOST
        assert [item["rows"] for item in found["items"]] == [threes, ones]
        assert found["rows"] == {name: threes[name] + 1 for name in BELOW}

    async def test_says_what_is_missing_and_what_blocks(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        guarded = await registry.instance(name="pg-01", deletion_protection=True)
        [busy, free] = await fleet(database, [0, 0])
        await running_sync(database, busy)
        found = await precheck(client, [999, guarded, busy, free, 998, busy])
        assert found["counts"] == {"requested": 5, "deletable": 1, "blocked": 2, "missing": 2}
        assert found["missing"] == [999, 998]
        assert [[blocker["code"] for blocker in item["blockers"]] for item in found["items"]] == [
            ["deletion_protected"], ["sync_running"], [],
        ]  # fmt: skip
        assert found["items"][0]["name"] == "pg-01"
        assert found["items"][1]["blockers"][0]["count"] == 1

    async def test_soft_mode_would_remove_no_rows(self, client: httpx.AsyncClient, database: Database) -> None:
        found = await precheck(client, await fleet(database, [2]), "soft")
        assert (found["mode"], found["rows"], found["items"][0]["rows"]) == ("soft", {}, {})

    async def test_already_deleted_blocks_only_soft_mode(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(deleted_at=datetime.now(UTC))
        assert (await precheck(client, [instance_id], "soft"))["counts"]["blocked"] == 1
        assert (await precheck(client, [instance_id], "hard"))["counts"]["blocked"] == 0

    async def test_an_unplanned_table_blocks(self, client: httpx.AsyncClient, database: Database) -> None:
        await execute(database, "CREATE TABLE forgotten (instance_id bigint)")
        found = await precheck(client, await fleet(database, [1]))
        assert [each["code"] for each in found["items"][0]["blockers"]] == ["unplanned_table"]

    async def test_changes_nothing(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [1, 0])
        tables = await catalogue(database)
        before = await contents(database, tables)
        await precheck(client, ids)
        assert await contents(database, tables) == before

    async def test_tells_until_when_the_token_holds(self, client: httpx.AsyncClient, database: Database) -> None:
        found = await precheck(client, await fleet(database, [0]))
        left = datetime.fromisoformat(found["expires_at"]) - datetime.now(UTC)
        assert 890 < left.total_seconds() <= 900

    async def test_an_empty_list_is_refused(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(f"{URL}/precheck", json={"instance_ids": [], "mode": "hard"})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/body/instance_ids")

    async def test_too_many_ids_are_refused(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(f"{URL}/precheck", json={"instance_ids": list(range(1, 10_002))})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/body/instance_ids")


class TestTokenThatFits:
    async def test_lets_the_deletion_do_what_was_shown(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [2, 1])
        shown = await precheck(client, ids)
        report = await batch_delete(client, ids, plan_token=shown["plan_token"])
        assert report["outcome"] == "complete"
        assert report["rows_deleted"] == shown["rows"] | {"instances": 2}

    async def test_covers_the_ids_in_any_order(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [0, 0, 0])
        shown = await precheck(client, ids)
        report = await batch_delete(client, [*reversed(ids), ids[0]], plan_token=shown["plan_token"])
        assert report["outcome"] == "complete"

    async def test_covers_missing_and_blocked_ones(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        guarded = await registry.instance(deletion_protection=True)
        [busy, free] = await fleet(database, [0, 0])
        await running_sync(database, busy)
        ids = [guarded, busy, free, 999]
        shown = await precheck(client, ids)
        report = await batch_delete(client, ids, plan_token=shown["plan_token"], force=True)
        assert statuses(report) == {guarded: "blocked", busy: "deleted", free: "deleted", 999: "missing"}

    async def test_holds_when_rows_were_added(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [1])
        shown = await precheck(client, [instance_id])
        await registry.insert("instance_databases", instance_id=instance_id, name="found-later")
        report = await batch_delete(client, [instance_id], plan_token=shown["plan_token"])
        assert report["items"][0]["rows_deleted"]["instance_databases"] == 2

    async def test_holds_for_a_dry_run(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [0])
        shown = await precheck(client, ids)
        report = await batch_delete(client, ids, plan_token=shown["plan_token"], dry_run=True)
        assert report["outcome"] == "complete"


class TestStaleToken:
    """Then nothing is deleted."""

    async def test_after_a_change_the_instance_is_named(self, client: httpx.AsyncClient, database: Database) -> None:
        first, second = await fleet(database, [0, 0])
        token = (await precheck(client, [first, second]))["plan_token"]
        await rename(client, second)
        problem = await refusal(client, [first, second], plan_token=token)
        assert problem["changed"] == [{"instance_id": second, "revision": 2, "blockers": []}]
        assert (await client.get(f"/api/v1/instances/{first}")).status_code == 200

    async def test_after_a_blocker_appeared(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        token = (await precheck(client, [instance_id]))["plan_token"]
        await running_sync(database, instance_id)
        problem = await refusal(client, [instance_id], plan_token=token, force=True)
        assert problem["changed"] == [{"instance_id": instance_id, "revision": 1, "blockers": ["sync_running"]}]

    async def test_after_a_blocker_went(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        await running_sync(database, instance_id)
        token = (await precheck(client, [instance_id]))["plan_token"]
        await execute(database, "UPDATE sync_instance_records SET state = 'succeeded'")
        problem = await refusal(client, [instance_id], plan_token=token)
        assert problem["changed"] == [{"instance_id": instance_id, "revision": 1, "blockers": []}]

    async def test_after_an_instance_vanished(self, client: httpx.AsyncClient, database: Database) -> None:
        first, second = await fleet(database, [0, 0])
        token = (await precheck(client, [first, second]))["plan_token"]
        await batch_delete(client, [first])
        problem = await refusal(client, [first, second], plan_token=token)
        assert problem["changed"] == [{"instance_id": first, "missing": True}]

    async def test_after_a_missing_one_came(self, client: httpx.AsyncClient, registry: Registry) -> None:
        token = (await precheck(client, [4711]))["plan_token"]
        await registry.instance(id=4711)
        problem = await refusal(client, [4711], plan_token=token)
        assert problem["changed"] == [{"instance_id": 4711, "revision": 1, "blockers": []}]

    async def test_for_a_dry_run_too(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        token = (await precheck(client, [instance_id]))["plan_token"]
        await rename(client, instance_id)
        await refusal(client, [instance_id], plan_token=token, dry_run=True)


class TestTokenOfSomethingElse:
    async def test_of_fewer_ids(self, client: httpx.AsyncClient, database: Database) -> None:
        first, second = await fleet(database, [0, 0])
        token = (await precheck(client, [first]))["plan_token"]
        problem = await refusal(client, [first, second], plan_token=token)
        assert "another list" in problem["detail"]

    async def test_of_as_many_other_ids(self, client: httpx.AsyncClient, database: Database) -> None:
        first, second = await fleet(database, [0, 0])
        token = (await precheck(client, [first]))["plan_token"]
        problem = await refusal(client, [second], plan_token=token)
        assert [each["instance_id"] for each in problem["changed"]] == [second]

    async def test_of_the_other_mode(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [0])
        token = (await precheck(client, ids, "soft"))["plan_token"]
        assert "soft" in (await refusal(client, ids, plan_token=token))["detail"]

    async def test_of_the_orphan_report(self, client: httpx.AsyncClient, database: Database) -> None:
        token = (await client.get("/api/v1/maintenance/orphans")).json()["token"]
        await refusal(client, await fleet(database, [0]), plan_token=token)

    @pytest.mark.parametrize("token", ["", "x", "gAAAAA", "é", "\x00", "=" * 5000, "null", "ключ"])
    async def test_of_nobody(self, client: httpx.AsyncClient, database: Database, token: str) -> None:
        problem = await refusal(client, await fleet(database, [0]), plan_token=token)
        assert "not one of ours" in problem["detail"]

    async def test_of_another_key(self, client: httpx.AsyncClient, database: Database) -> None:
        token = Fernet(Fernet.generate_key()).encrypt(b'{"mode": "hard"}').decode()
        await refusal(client, await fleet(database, [0]), plan_token=token)

    @pytest.mark.parametrize("token", [5, [], {}, True])
    async def test_of_another_type(self, client: httpx.AsyncClient, token: object) -> None:
        answer = await client.post(URL, json={"instance_ids": [1], "plan_token": token})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/body/plan_token")


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

    async def test_an_expired_token_is_stale(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [0])
        token = (await precheck(client, ids))["plan_token"]
        await asyncio.sleep(1.1)
        assert "expired" in (await refusal(client, ids, plan_token=token))["detail"]


class TestAnotherServer:
    @pytest.fixture
    async def other(self, settings: Settings, admin: int) -> AsyncIterator[httpx.AsyncClient]:
        application = create_app(settings)
        async with (
            application.router.lifespan_context(application),
            client_of(application, await signed_in_as(application, admin)) as client,
        ):
            yield client

    async def test_with_the_same_key_accepts_the_token(
        self, client: httpx.AsyncClient, other: httpx.AsyncClient, database: Database
    ) -> None:
        ids = await fleet(database, [0])
        token = (await precheck(other, ids))["plan_token"]
        assert (await batch_delete(client, ids, plan_token=token))["outcome"] == "complete"


class TestChangeAfterTheLook:
    """Between the set-based look and an instance's lock everything can change: the lock decides."""

    @pytest.fixture
    def victims(self) -> list[int]:
        return []

    @pytest.fixture(autouse=True)
    async def change(
        self, app: FastAPI, database: Database, victims: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = DeletionLook.look

        async def look_and_change(service: Any, ids: Any, mode: Any, *, with_rows: bool) -> Any:
            seen = await look(service, ids, mode, with_rows=with_rows)
            for victim in victims:
                await execute(database, f"UPDATE instances SET revision = revision + 1 WHERE id = {victim}")
            return seen

        monkeypatch.setattr(DeletionLook, "look", look_and_change)

    async def test_fails_that_item_and_no_other(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, victims: list[int]
    ) -> None:
        first, second, third = await fleet(database, [1, 1, 1])
        token = (await precheck(client, [first, second, third]))["plan_token"]
        victims.append(second)
        report = await batch_delete(client, [first, second, third], plan_token=token)
        assert statuses(report) == {first: "deleted", second: "failed", third: "deleted"}
        failed = report["items"][1]
        assert (failed["error"]["code"], failed["retryable"]) == (25017, True)
        assert "revision 2" in failed["error"]["message"]
        assert await registry.rows_of([second]) == dict.fromkeys(BELOW, 1)

    async def test_does_not_matter_without_a_token(
        self, client: httpx.AsyncClient, database: Database, victims: list[int]
    ) -> None:
        victims.extend(await fleet(database, [1]))
        assert (await batch_delete(client, victims))["outcome"] == "complete"
