"""The roles of a user by HTTP."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.access.permissions import BUILT_IN_ROLES, VIEWER, Permission
from app.database import Database
from tests.factories import Registry
from tests.users.acting import audited, client_as, client_with, problem


def url(user_id: int) -> str:
    return f"/api/v1/users/{user_id}/roles"


async def give(client: httpx.AsyncClient, user_id: int, *roles: dict[str, Any]) -> httpx.Response:
    return await client.put(url(user_id), json=list(roles))


class TestReplace:
    async def test_by_name_and_by_id_in_a_space_and_everywhere(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        user_id, space_id = await registry.user(role="operator"), await registry.space()
        viewer, operator = await registry.role_id("viewer"), await registry.role_id("operator")
        answer = await give(client, user_id, {"role": "operator", "space_id": space_id}, {"role_id": viewer})
        assert answer.status_code == 200, answer.text
        assert answer.json() == [
            {"role_id": viewer, "role": "viewer", "space_id": None},
            {"role_id": operator, "role": "operator", "space_id": space_id},
        ]
        assert (await client.get(url(user_id))).json() == answer.json()

    async def test_by_nothing_takes_them_all(self, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user(role="operator")
        assert (await give(client, user_id)).json() == []
        assert (await client.get(url(user_id))).json() == []

    async def test_twice_the_same_counts_once(self, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user()
        same = {"role_id": await registry.role_id("viewer"), "space_id": None}
        assert len((await give(client, user_id, {"role": "viewer"}, same)).json()) == 1

    async def test_acts_at_once(self, client: httpx.AsyncClient, app: FastAPI, registry: Registry) -> None:
        user_id = await registry.user(role="operator")
        user = await client_as(app, user_id)
        assert (await user.get("/api/v1/credentials")).status_code == 200
        await give(client, user_id, {"role": "viewer"})
        assert (await user.get("/api/v1/credentials")).status_code == 403
        assert (await user.get("/api/v1/instances")).status_code == 200

    async def test_records_each_role_where_it_was_given_or_taken(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id, space_id = await registry.user("carol", role="operator"), await registry.space()
        await registry.grant(user_id, await registry.role_id("viewer"))
        await give(client, user_id, {"role": "operator", "space_id": space_id}, {"role": "viewer"})
        (taken,) = await audited(database, "role:revoke")
        (given,) = await audited(database, "role:grant")
        assert (given.resource_type, given.resource_id, given.resource_name) == ("user", user_id, "carol")
        assert (taken.space_id, taken.changes) == (None, {"before": {"role": "operator", "space_id": None}})
        assert (given.space_id, given.changes) == (space_id, {"after": {"role": "operator", "space_id": space_id}})

    async def test_by_what_is_held_already_records_nothing(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await registry.user(role="viewer")
        assert (await give(client, user_id, {"role": "viewer"})).status_code == 200
        assert await audited(database, "role:grant") + await audited(database, "role:revoke") == []


class TestRefusals:
    async def test_a_user_who_does_not_exist(self, client: httpx.AsyncClient) -> None:
        assert problem(await client.get(url(999))) == (404, 25013)
        assert problem(await give(client, 999, {"role": "viewer"})) == (404, 25013)

    async def test_roles_that_do_not_exist_are_pointed_at(self, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user(role="viewer")
        answer = await give(client, user_id, {"role": "operator"}, {"role": "king"}, {"role_id": 999})
        assert problem(answer) == (422, 25000)
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/body/1/role", "/body/2/role_id"]
        assert [held["role"] for held in (await client.get(url(user_id))).json()] == ["viewer"]

    async def test_a_space_that_does_not_exist(self, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user(role="viewer")
        assert problem(await give(client, user_id, {"role": "viewer", "space_id": 999})) == (404, 25015)
        assert [held["role"] for held in (await client.get(url(user_id))).json()] == ["viewer"]

    @pytest.mark.parametrize("body", [{}, {"role": "viewer", "role_id": 1}, {"role": "viewer", "user_id": 3}])
    async def test_not_one_role(self, client: httpx.AsyncClient, registry: Registry, body: dict[str, Any]) -> None:
        assert problem(await give(client, await registry.user(), body)) == (422, 25000)


class TestEscalation:
    """Who may give roles gives no more than they have."""

    async def test_by_giving_oneself_more(self, app: FastAPI, registry: Registry) -> None:
        user_id = await registry.user()
        await registry.grant(user_id, await registry.role("manager", [Permission.USER_UPDATE]))
        manager = await client_as(app, user_id)
        answer = await give(manager, user_id, {"role": "manager"}, {"role": "admin"})
        assert problem(answer) == (403, 25020)
        assert "'admin'" in answer.json()["detail"]

    async def test_by_taking_what_one_does_not_have(self, app: FastAPI, registry: Registry) -> None:
        admin, manager = await registry.user(role="admin"), await client_with(app, registry, Permission.USER_UPDATE)
        assert problem(await give(manager, admin)) == (403, 25020)

    async def test_by_giving_everywhere_what_one_has_in_a_space(self, app: FastAPI, registry: Registry) -> None:
        space_id, user_id = await registry.space(), await registry.user()
        giver_id = await registry.user(role="viewer", space_id=space_id)
        await registry.grant(giver_id, await registry.role(permissions=[Permission.USER_UPDATE]))
        giver = await client_as(app, giver_id)
        elsewhere = await registry.default_space()
        assert problem(await give(giver, user_id, {"role": "viewer"})) == (403, 25020)
        assert problem(await give(giver, user_id, {"role": "viewer", "space_id": elsewhere})) == (403, 25020)
        assert (await give(giver, user_id, {"role": "viewer", "space_id": space_id})).status_code == 200

    async def test_what_stays_needs_not_be_held(self, app: FastAPI, registry: Registry) -> None:
        space_id, user_id = await registry.space(), await registry.user(role="admin")
        giver = await client_with(app, registry, Permission.USER_UPDATE, *_of_a_viewer)
        answer = await give(giver, user_id, {"role": "admin"}, {"role": "viewer", "space_id": space_id})
        assert answer.status_code == 200


_of_a_viewer = tuple(BUILT_IN_ROLES[VIEWER])


class TestLastAdmin:
    async def test_stays(self, client: httpx.AsyncClient, admin: int, registry: Registry) -> None:
        await registry.user(role="admin", is_active=False)
        await registry.user(role="admin", space_id=await registry.default_space())
        assert problem(await give(client, admin, {"role": "viewer"})) == (409, 25016)
        assert [held["role"] for held in (await client.get(url(admin))).json()] == ["admin"]

    async def test_may_be_given_more(self, client: httpx.AsyncClient, admin: int) -> None:
        assert len((await give(client, admin, {"role": "admin"}, {"role": "viewer"})).json()) == 2

    async def test_may_go_when_there_is_another(
        self, client: httpx.AsyncClient, admin: int, registry: Registry
    ) -> None:
        await registry.user(role="admin")
        assert (await give(client, admin)).status_code == 200

    async def test_of_two_who_demote_each_other_one_stays(
        self, client: httpx.AsyncClient, admin: int, app: FastAPI, registry: Registry
    ) -> None:
        other_id = await registry.user(role="admin")
        other = await client_as(app, other_id)
        answers = await asyncio.gather(give(client, other_id), give(other, admin))
        # Who comes second is the last one; or has by then nothing to do so with.
        assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 409])
