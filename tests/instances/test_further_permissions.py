"""Some calls do more than their route says, when they are told to: that takes the permission for it too."""

import httpx
import pytest
from fastapi import FastAPI

from app.access.permissions import Permission
from tests.factories import Registry
from tests.users.acting import client_as, client_with, problem, user_with

URL = "/api/v1/instances"


async def attempts(client: httpx.AsyncClient, instance_id: int, mode: str) -> list[httpx.Response]:
    """Every way to delete, the last of which does it."""
    body = {"instance_ids": [instance_id], "mode": mode}
    return [
        await client.post(f"{URL}/batch-delete/precheck", json=body),
        await client.post(f"{URL}/batch-delete", json={**body, "dry_run": True}),
        await client.delete(f"{URL}/{instance_id}", params={"mode": mode}),
    ]


class TestPurge:
    async def test_is_not_included_in_deletion(self, app: FastAPI, registry: Registry) -> None:
        deleter = await client_with(app, registry, Permission.INSTANCE_DELETE)
        instance_id = await registry.instance()
        refused = await attempts(deleter, instance_id, "hard")
        assert [problem(answer) for answer in refused] == [(403, 25020)] * 3
        assert "instance:purge" in refused[0].json()["detail"]
        assert [answer.status_code for answer in await attempts(deleter, instance_id, "soft")] == [200] * 3

    async def test_does_not_include_deletion(self, app: FastAPI, registry: Registry) -> None:
        purger = await client_with(app, registry, Permission.INSTANCE_PURGE)
        refused = await attempts(purger, await registry.instance(), "hard")
        assert [problem(answer) for answer in refused] == [(403, 25020)] * 3

    async def test_with_deletion_is_enough(self, app: FastAPI, registry: Registry) -> None:
        purger = await client_with(app, registry, Permission.INSTANCE_DELETE, Permission.INSTANCE_PURGE)
        answers = await attempts(purger, await registry.instance(), "hard")
        assert [answer.status_code for answer in answers] == [200] * 3

    @pytest.mark.parametrize("is_purgeable", [True, False])
    async def test_in_one_space_finds_nothing_in_another(
        self, app: FastAPI, registry: Registry, is_purgeable: bool
    ) -> None:
        """Who may delete in both spaces, and for good in one."""
        here, there = await registry.space(), await registry.space()
        user_id = await user_with(registry, Permission.INSTANCE_DELETE)
        await registry.grant(user_id, await registry.role(permissions=[Permission.INSTANCE_PURGE]), here)
        instance_id = await registry.instance(space_id=here if is_purgeable else there)
        _, batch, single = await attempts(await client_as(app, user_id), instance_id, "hard")
        assert batch.json()["counts"].get("missing", 0) == (0 if is_purgeable else 1)
        assert single.status_code == (200 if is_purgeable else 404)


class TestImport:
    async def upload(self, client: httpx.AsyncClient, on_existing: str) -> httpx.Response:
        file = b"name,db_type,host\nnew-01,mysql,new-01.example\n"
        data = {"on_existing": on_existing}
        return await client.post(f"{URL}/batch-create", files={"file": ("new.csv", file)}, data=data)

    async def test_that_changes_instances_asks_for_both(self, app: FastAPI, registry: Registry) -> None:
        creator = await client_with(app, registry, Permission.INSTANCE_CREATE)
        refused = await self.upload(creator, "update")
        assert problem(refused) == (403, 25020)
        assert "instance:update" in refused.json()["detail"]
        assert (await self.upload(creator, "skip")).status_code == 200

    async def test_with_both_is_done(self, app: FastAPI, registry: Registry) -> None:
        editor = await client_with(app, registry, Permission.INSTANCE_CREATE, Permission.INSTANCE_UPDATE)
        assert (await self.upload(editor, "update")).json()["counts"]["created"] == 1
