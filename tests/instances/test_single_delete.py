"""`DELETE /instances/{instance_id}` and restoring: the same way as a batch, answered for one."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.database import Database
from app.instances.deletion_look import DeletionLook
from tests.factories import Registry
from tests.instances.fleet import BELOW, execute, fleet, running_sync

URL = "/api/v1/instances"


async def delete(client: httpx.AsyncClient, instance_id: int, **options: Any) -> dict[str, Any]:
    answer = await client.delete(f"{URL}/{instance_id}", params=options)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response, status: int, code: int) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return dict(answer.json())


class TestDelete:
    async def test_is_soft_by_default(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(name="pg-01")
        item = await delete(client, instance_id)
        assert item == {"instance_id": instance_id, "name": "pg-01", "status": "deleted", "rows_deleted": {}}
        assert (await client.get(f"{URL}/{instance_id}")).json()["deleted_at"] is not None

    async def test_hard_leaves_no_row(self, client: httpx.AsyncClient, database: Database, registry: Registry) -> None:
        [instance_id] = await fleet(database, [2])
        rows = await registry.rows_of([instance_id])
        assert (await delete(client, instance_id, mode="hard"))["rows_deleted"] == rows
        assert await registry.rows_of([instance_id]) == dict.fromkeys(BELOW, 0)
        assert (await client.get(f"{URL}/{instance_id}")).status_code == 404

    @pytest.mark.parametrize("mode", ["soft", "hard"])
    async def test_a_missing_one(self, client: httpx.AsyncClient, mode: str) -> None:
        answer = await client.delete(f"{URL}/999", params={"mode": mode})
        assert "999" in problem(answer, 404, 25013)["detail"]

    @pytest.mark.parametrize("instance_id", ["0", "-1", str(2**63), "one", "1.5"])
    async def test_an_id_that_none_can_have(self, client: httpx.AsyncClient, instance_id: str) -> None:
        problem(await client.delete(f"{URL}/{instance_id}"), 422, 25000)

    async def test_an_unknown_mode(self, client: httpx.AsyncClient) -> None:
        found = problem(await client.delete(f"{URL}/1", params={"mode": "gone"}), 422, 25000)
        assert found["errors"][0]["pointer"] == "/query/mode"


class TestBlocked:
    async def test_answers_with_the_blockers(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        await running_sync(database, instance_id)
        found = problem(await client.delete(f"{URL}/{instance_id}"), 409, 25018)
        assert found["blockers"] == [
            {"code": "sync_running", "message": "a sync of the instance is running", "count": 1}
        ]

    async def test_a_running_sync_can_be_forced(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        await running_sync(database, instance_id)
        assert (await delete(client, instance_id, force=True))["status"] == "deleted"

    async def test_protection_cannot(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(deletion_protection=True)
        answer = await client.delete(f"{URL}/{instance_id}", params={"force": True, "mode": "hard"})
        assert problem(answer, 409, 25018)["blockers"][0]["code"] == "deletion_protected"

    async def test_a_second_soft_deletion(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        await delete(client, instance_id)
        answer = await client.delete(f"{URL}/{instance_id}")
        assert problem(answer, 409, 25018)["blockers"][0]["code"] == "already_deleted"

    async def test_an_unplanned_table(self, client: httpx.AsyncClient, database: Database) -> None:
        await execute(database, "CREATE TABLE forgotten (instance_id bigint)")
        [instance_id] = await fleet(database, [0])
        answer = await client.delete(f"{URL}/{instance_id}", params={"mode": "hard", "force": True})
        assert "forgotten" in problem(answer, 409, 25018)["blockers"][0]["message"]


class TestIfMatch:
    async def test_of_the_present_revision(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        tag = (await client.get(f"{URL}/{instance_id}")).headers["ETag"]
        answer = await client.delete(f"{URL}/{instance_id}", headers={"If-Match": tag})
        assert answer.status_code == 200

    @pytest.mark.parametrize("tag", ['"2"', '"0"', 'W/"1"', "1", "nonsense"])
    async def test_of_another_one(self, client: httpx.AsyncClient, registry: Registry, tag: str) -> None:
        instance_id = await registry.instance()
        problem(await client.delete(f"{URL}/{instance_id}", headers={"If-Match": tag}), 412, 25017)
        assert (await client.get(f"{URL}/{instance_id}")).json()["deleted_at"] is None

    async def test_of_a_missing_instance(self, client: httpx.AsyncClient) -> None:
        problem(await client.delete(f"{URL}/999", headers={"If-Match": '"1"'}), 404, 25013)

    @pytest.mark.parametrize(("tag", "status"), [('"1"', 412), ("*", 200)])
    async def test_is_checked_again_under_the_lock(
        self,
        client: httpx.AsyncClient,
        database: Database,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        tag: str,
        status: int,
    ) -> None:
        look = DeletionLook.look

        async def look_and_change(*arguments: Any, **options: Any) -> Any:
            seen = await look(*arguments, **options)
            await execute(database, "UPDATE instances SET revision = revision + 1")
            return seen

        monkeypatch.setattr(DeletionLook, "look", look_and_change)
        instance_id = await registry.instance()
        answer = await client.delete(f"{URL}/{instance_id}", headers={"If-Match": tag})
        assert answer.status_code == status


class TestRestore:
    @pytest.mark.parametrize("is_active", [True, False])
    async def test_brings_it_back_as_it_was(
        self, client: httpx.AsyncClient, registry: Registry, admin: int, is_active: bool
    ) -> None:
        instance_id = await registry.instance(is_active=is_active)
        before = (await client.get(f"{URL}/{instance_id}")).json()
        await delete(client, instance_id)
        answer = await client.post(f"{URL}/{instance_id}/restore")
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"3"')
        restored = answer.json()
        assert restored["updated_at"] > before["updated_at"]
        assert restored == before | {"revision": 3, "updated_at": restored["updated_at"], "updated_by": admin}

    async def test_keeps_the_rows_below(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [1])
        await delete(client, instance_id)
        await client.post(f"{URL}/{instance_id}/restore")
        assert await registry.rows_of([instance_id]) == dict.fromkeys(BELOW, 1)

    async def test_one_that_is_not_deleted(self, client: httpx.AsyncClient, registry: Registry) -> None:
        answer = await client.post(f"{URL}/{await registry.instance()}/restore")
        assert "not deleted" in problem(answer, 409, 25016)["detail"]

    async def test_a_missing_one(self, client: httpx.AsyncClient) -> None:
        problem(await client.post(f"{URL}/999/restore"), 404, 25013)

    async def test_whose_name_was_taken(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(name="pg-01", deleted_at=datetime.now(UTC))
        await registry.instance(name="pg-01")
        found = problem(await client.post(f"{URL}/{instance_id}/restore"), 409, 25016)
        assert "name was taken" in found["detail"]

    async def test_whose_endpoint_was_taken(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(host="db.example", deleted_at=datetime.now(UTC))
        await registry.instance(host="db.example")
        found = problem(await client.post(f"{URL}/{instance_id}/restore"), 409, 25016)
        assert "endpoint was taken" in found["detail"]
        assert (await client.get(f"{URL}/{instance_id}")).json()["deleted_at"] is not None

    async def test_with_a_stale_tag(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        await delete(client, instance_id)
        url = f"{URL}/{instance_id}/restore"
        problem(await client.post(url, headers={"If-Match": '"1"'}), 412, 25017)
        assert (await client.post(url, headers={"If-Match": '"2"'})).status_code == 200
