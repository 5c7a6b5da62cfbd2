"""Permissions and roles by HTTP."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.access.permissions import DESCRIPTIONS, Permission
from app.database import Database
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of
from tests.users.acting import audited, client_as, client_with, problem

URL = "/api/v1/roles"


async def create(client: httpx.AsyncClient, name: str = "registrar", *permissions: str) -> dict[str, Any]:
    answer = await client.post(URL, json={"name": name, "permissions": list(permissions)})
    assert answer.status_code == 201, answer.text
    return answer.json()


class TestPermissions:
    async def test_are_listed_with_what_they_mean(self, client: httpx.AsyncClient) -> None:
        listed = (await client.get("/api/v1/permissions")).json()
        assert listed == [{"name": each.value, "description": DESCRIPTIONS[each]} for each in sorted(Permission)]

    async def test_one_in_use_cannot_be_deleted(self, database: Database) -> None:
        """By whoever works on the database by hand: no call deletes permissions."""
        with pytest.raises(IntegrityError):
            async with database.engine.begin() as connection:
                await connection.execute(text("DELETE FROM permissions WHERE name = 'instance:read'"))

    async def test_one_that_nobody_uses_can(self, database: Database) -> None:
        async with database.engine.begin() as connection:
            await connection.execute(text("DELETE FROM role_permissions WHERE permission = 'instance:read'"))
            await connection.execute(text("DELETE FROM permissions WHERE name = 'instance:read'"))


class TestCreate:
    async def test_answers_the_role_and_where_it_is(self, client: httpx.AsyncClient, admin: int) -> None:
        permissions = ["tag:read", "instance:read", "tag:read"]
        answer = await client.post(
            URL, json={"name": " registrar ", "description": " registers ", "permissions": permissions}
        )
        body = answer.json()
        assert answer.status_code == 201
        assert body == {
            "id": body["id"],
            "name": "registrar",
            "description": "registers",
            "is_builtin": False,
            "permissions": ["instance:read", "tag:read"],
            "revision": 1,
            "created_at": body["created_at"],
            "updated_at": body["updated_at"],
            "created_by": admin,
            "updated_by": admin,
        }
        assert answer.headers["ETag"] == '"1"'
        assert answer.headers["Location"] == f"{URL}/{body['id']}"
        assert (await client.get(answer.headers["Location"])).json() == body

    async def test_an_unknown_permission_is_pointed_at(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"name": "x", "permissions": ["tag:read", "tag:eat"]})
        assert problem(answer) == (422, 25000)
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/body/permissions/1"]

    @pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, None])
    async def test_a_name_that_cannot_be(self, client: httpx.AsyncClient, name: str | None) -> None:
        answer = await client.post(URL, json={"name": name, "permissions": []})
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/body/name"]

    @pytest.mark.parametrize("field", ["id", "is_builtin", "created_by", "revision"])
    async def test_what_is_not_for_callers_to_set(self, client: httpx.AsyncClient, field: str) -> None:
        answer = await client.post(URL, json={"name": "x", "permissions": [], field: 1})
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/body/{field}"]

    async def test_a_name_that_is_taken(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"name": "viewer", "permissions": []})
        assert problem(answer) == (409, 25016)
        assert "'viewer'" in answer.json()["detail"]

    async def test_of_two_at_once_one_gets_the_name(self, client: httpx.AsyncClient) -> None:
        bodies = [{"name": "twin", "permissions": ["tag:read"]}] * 2
        answers = await asyncio.gather(*(client.post(URL, json=body) for body in bodies))
        assert sorted(answer.status_code for answer in answers) == [201, 409]

    async def test_is_in_the_audit_trail(self, client: httpx.AsyncClient, admin: int, database: Database) -> None:
        role = await create(client, "registrar", "tag:read")
        (entry,) = await audited(database, "role:create")
        assert (entry.resource_type, entry.resource_id, entry.resource_name) == ("role", role["id"], "registrar")
        assert (entry.actor_id, entry.status) == (admin, 201)
        assert entry.changes == {"after": {"name": "registrar", "description": None, "permissions": ["tag:read"]}}


class TestList:
    async def test_has_the_built_in_ones_and_ones_own(self, client: httpx.AsyncClient) -> None:
        await create(client, "registrar", "tag:read")
        page = (await client.get(URL, params={"include_total": True})).json()
        assert [role["name"] for role in page["items"]] == ["admin", "operator", "registrar", "viewer"]
        assert [role["is_builtin"] for role in page["items"]] == [True, True, False, True]
        assert page["items"][0]["permissions"] == sorted(Permission)
        assert page["items"][2]["permissions"] == ["tag:read"]
        assert (page["total"], page["next_cursor"]) == (4, None)

    async def test_comes_in_pages(self, client: httpx.AsyncClient) -> None:
        first = (await client.get(URL, params={"limit": 2, "sort": "-name"})).json()
        rest = (await client.get(URL, params={"limit": 2, "sort": "-name", "cursor": first["next_cursor"]})).json()
        assert [role["name"] for role in first["items"] + rest["items"]] == ["viewer", "operator", "admin"]
        assert rest["next_cursor"] is None

    async def test_by_what_it_cannot_be_sorted(self, client: httpx.AsyncClient) -> None:
        assert problem(await client.get(URL, params={"sort": "permissions"})) == (422, 25000)

    async def test_can_be_read_by_who_holds_it_in_one_space(self, app: FastAPI, registry: Registry) -> None:
        reader = await client_with(app, registry, Permission.ROLE_READ, space_id=await registry.space())
        assert (await reader.get(URL)).status_code == 200


class TestChange:
    async def test_sets_what_is_named(self, client: httpx.AsyncClient, database: Database) -> None:
        role = await create(client, "registrar", "tag:read", "tag:create")
        answer = await client.patch(f"{URL}/{role['id']}", json={"permissions": ["tag:read", "tag:delete"]})
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
        body = answer.json()
        assert (body["name"], body["permissions"]) == ("registrar", ["tag:delete", "tag:read"])
        assert body["updated_at"] > role["updated_at"]
        assert (await client.get(f"{URL}/{role['id']}")).json() == body
        (entry,) = await audited(database, "role:update")
        assert entry.changes == {
            "before": {"permissions": ["tag:create", "tag:read"]},
            "after": {"permissions": ["tag:delete", "tag:read"]},
        }

    async def test_of_nothing_leaves_the_revision(self, client: httpx.AsyncClient, database: Database) -> None:
        role = await create(client, "registrar", "tag:read")
        same = {"name": "registrar", "permissions": ["tag:read"]}
        assert (await client.patch(f"{URL}/{role['id']}", json=same)).json()["revision"] == 1
        assert await audited(database, "role:update") == []

    async def test_to_a_name_that_is_taken(self, client: httpx.AsyncClient) -> None:
        role = await create(client)
        assert problem(await client.patch(f"{URL}/{role['id']}", json={"name": "admin"})) == (409, 25016)

    async def test_based_on_an_older_revision(self, client: httpx.AsyncClient) -> None:
        role = await create(client)
        url = f"{URL}/{role['id']}"
        await client.patch(url, json={"description": "newer"}, headers={"If-Match": '"1"'})
        assert problem(await client.patch(url, json={"name": "x"}, headers={"If-Match": '"1"'})) == (412, 25017)

    async def test_of_what_does_not_exist(self, client: httpx.AsyncClient) -> None:
        assert problem(await client.patch(f"{URL}/999", json={"name": "x"})) == (404, 25013)

    async def test_acts_at_once(self, client: httpx.AsyncClient, app: FastAPI, registry: Registry) -> None:
        role = await create(client, "registrar", "tag:read")
        user_id = await registry.user(role="registrar")
        user = await client_as(app, user_id)
        assert (await user.get("/api/v1/tags")).status_code == 200
        await client.patch(f"{URL}/{role['id']}", json={"permissions": ["instance:read"]})
        assert (await user.get("/api/v1/tags")).status_code == 403
        assert (await user.get("/api/v1/instances")).status_code == 200


class TestDelete:
    async def test_of_one_that_nobody_holds(self, client: httpx.AsyncClient, database: Database) -> None:
        role = await create(client, "registrar", "tag:read")
        assert (await client.delete(f"{URL}/{role['id']}")).status_code == 204
        assert problem(await client.get(f"{URL}/{role['id']}")) == (404, 25013)
        (entry,) = await audited(database, "role:delete")
        assert entry.changes == {"before": {"permissions": ["tag:read"]}}

    async def test_of_one_that_is_held_says_by_how_many(self, client: httpx.AsyncClient, registry: Registry) -> None:
        role = await create(client, "registrar", "tag:read")
        twice = await registry.user(role="registrar")
        await registry.grant(twice, role["id"], await registry.default_space())
        await registry.user(role="registrar")
        answer = await client.delete(f"{URL}/{role['id']}")
        assert problem(answer) == (409, 25016)
        assert "held by 2 users" in answer.json()["detail"]

    async def test_by_hand_of_one_that_is_held(self, database: Database, registry: Registry) -> None:
        role_id = await registry.role("registrar")
        await registry.user(role="registrar")
        with pytest.raises(IntegrityError):
            async with database.engine.begin() as connection:
                await connection.execute(text("DELETE FROM roles WHERE id = :id"), {"id": role_id})

    async def test_based_on_an_older_revision(self, client: httpx.AsyncClient) -> None:
        role = await create(client)
        answer = await client.delete(f"{URL}/{role['id']}", headers={"If-Match": '"7"'})
        assert problem(answer) == (412, 25017)


class TestBuiltInRoles:
    @pytest.mark.parametrize("name", ["admin", "operator", "viewer"])
    async def test_stay_as_they_are(self, client: httpx.AsyncClient, registry: Registry, name: str) -> None:
        url = f"{URL}/{await registry.role_id(name)}"
        before = (await client.get(url)).json()
        assert problem(await client.patch(url, json={"permissions": []})) == (409, 25016)
        assert problem(await client.patch(url, json={"name": "mine"})) == (409, 25016)
        assert problem(await client.delete(url)) == (409, 25016)
        assert (await client.get(url)).json() == before


class TestEscalation:
    """Who may edit roles gains nothing by it."""

    async def test_by_making_a_role(self, app: FastAPI, registry: Registry) -> None:
        maker = await client_with(app, registry, Permission.ROLE_CREATE, Permission.TAG_READ)
        answer = await maker.post(URL, json={"name": "x", "permissions": ["tag:read", "user:delete", "role:create"]})
        assert problem(answer) == (403, 25020)
        assert "user:delete" in answer.json()["detail"]
        assert "tag:read" not in answer.json()["detail"]
        await create(maker, "x", "tag:read", "role:create")

    async def test_by_changing_ones_own_role(self, app: FastAPI, registry: Registry) -> None:
        role_id = await registry.role("changer", [Permission.ROLE_UPDATE])
        changer = await client_as(app, await registry.user(role="changer"))
        answer = await changer.patch(f"{URL}/{role_id}", json={"permissions": ["role:update", "instance:purge"]})
        assert problem(answer) == (403, 25020)

    async def test_by_weakening_a_role_that_may_do_more(self, app: FastAPI, registry: Registry) -> None:
        role_id = await registry.role("stronger", [Permission.INSTANCE_PURGE])
        changer = await client_with(app, registry, Permission.ROLE_UPDATE)
        assert problem(await changer.patch(f"{URL}/{role_id}", json={"permissions": []})) == (403, 25020)

    async def test_by_what_is_held_in_one_space_only(self, app: FastAPI, registry: Registry) -> None:
        """A role can be given everywhere, so it takes what is held everywhere to make one."""
        space_id = await registry.space()
        user_id = await registry.user(role="admin", space_id=space_id)
        await registry.grant(user_id, await registry.role(permissions=[Permission.ROLE_CREATE]))
        maker = await client_as(app, user_id)
        assert problem(await maker.post(URL, json={"name": "x", "permissions": ["tag:read"]})) == (403, 25020)

    async def test_by_a_key_that_may_do_less_than_its_owner(self, app: FastAPI, admin: int) -> None:
        async with client_of(app, await key_of(app, admin, (Permission.ROLE_CREATE,))) as maker:
            answer = await maker.post(URL, json={"name": "x", "permissions": ["tag:read"]})
            assert problem(answer) == (403, 25020)
