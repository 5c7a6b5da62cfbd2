"""Who holds which role in a space, and who may give it."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as
from tests.spaces.test_routes import problem


def url(space_id: int, user_id: int | None = None) -> str:
    base = f"/api/v1/spaces/{space_id}/members"
    return base if user_id is None else f"{base}/{user_id}"


async def members(client: httpx.AsyncClient, space_id: int) -> dict[str, list[str]]:
    answer = await client.get(url(space_id))
    assert answer.status_code == 200, answer.text
    return {each["username"]: [role["name"] for role in each["roles"]] for each in answer.json()["items"]}


class TestMembers:
    async def test_lists_who_holds_a_role_here(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        await registry.user("ann", role="viewer", space_id=space_id)
        await registry.user("bob", role="viewer", space_id=await registry.space())
        assert await members(client, space_id) == {"ann": ["viewer"]}

    @pytest.mark.parametrize("body", [{"role": "operator"}, {"roles": ["operator"]}])
    async def test_gives_roles_in_place_of_others(
        self, client: httpx.AsyncClient, registry: Registry, body: Any
    ) -> None:
        space_id, elsewhere = await registry.space(), await registry.space()
        user = await registry.user("ann", role="viewer", space_id=space_id)
        await registry.grant(user, await registry.role_id("viewer"), elsewhere)
        answer = await client.put(url(space_id, user), json=body)
        assert answer.status_code == 200, answer.text
        assert [role["name"] for role in answer.json()["roles"]] == ["operator"]
        assert await members(client, space_id) == {"ann": ["operator"]}
        assert await members(client, elsewhere) == {"ann": ["viewer"]}

    async def test_gives_several_by_name_and_id(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id, user = await registry.space(), await registry.user("ann")
        roles = ["viewer", await registry.role_id("operator"), "viewer"]
        assert (await client.put(url(space_id, user), json={"roles": roles})).status_code == 200
        assert await members(client, space_id) == {"ann": ["operator", "viewer"]}

    async def test_takes_them(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        user = await registry.user(role="viewer", space_id=space_id)
        assert (await client.delete(url(space_id, user))).status_code == 204
        assert await members(client, space_id) == {}
        assert problem(await client.delete(url(space_id, user))) == (404, 25013)

    async def test_what_does_not_exist(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id, user = await registry.space(), await registry.user()
        assert problem(await client.get(url(99))) == (404, 25015)
        assert problem(await client.put(url(99, user), json={"role": "viewer"})) == (404, 25015)
        assert problem(await client.delete(url(99, user))) == (404, 25015)
        assert problem(await client.put(url(space_id, 99), json={"role": "viewer"})) == (404, 25013)
        assert problem(await client.put(url(space_id, user), json={"role": "king"})) == (404, 25013)
        assert problem(await client.put(url(space_id, user), json={"role": 99})) == (404, 25013)

    @pytest.mark.parametrize(
        "body", [{}, {"role": "viewer", "roles": ["viewer"]}, {"roles": []}, {"role": True}, {"role": ""}, {"role": 0}]
    )
    async def test_bad_input(self, client: httpx.AsyncClient, registry: Registry, body: Any) -> None:
        answer = await client.put(url(await registry.space(), await registry.user()), json=body)
        assert problem(answer) == (422, 25000)

    async def test_take_effect_at_once(self, client: httpx.AsyncClient, app: FastAPI, registry: Registry) -> None:
        space_id, user = await registry.space(), await registry.user()
        async with client_of(app, await signed_in_as(app, user)) as member:
            assert (await member.get(f"/api/v1/spaces/{space_id}")).status_code == 403
            await client.put(url(space_id, user), json={"role": "viewer"})
            assert (await member.get(f"/api/v1/spaces/{space_id}")).status_code == 200
            await client.delete(url(space_id, user))
            assert (await member.get(f"/api/v1/spaces/{space_id}")).status_code == 403


class TestWhoMayGive:
    async def test_an_administrator_of_the_space_there_only(self, app: FastAPI, registry: Registry) -> None:
        own, other, user = await registry.space(), await registry.space(), await registry.user()
        caller = await registry.user(role="admin", space_id=own)
        async with client_of(app, await signed_in_as(app, caller)) as client:
            assert (await client.put(url(own, user), json={"role": "admin"})).status_code == 200
            for answer in (
                await client.put(url(other, user), json={"role": "viewer"}),
                await client.delete(url(other, user)),
                await client.get(url(other)),
            ):
                assert problem(answer) == (404, 25015)

    async def test_nobody_more_than_they_have(self, app: FastAPI, registry: Registry) -> None:
        space_id, user = await registry.space(), await registry.user()
        await registry.role("doorkeeper", ["member:read", "member:update", "instance:read"])
        caller = await registry.user(role="doorkeeper", space_id=space_id)
        async with client_of(app, await signed_in_as(app, caller)) as client:
            assert problem(await client.put(url(space_id, user), json={"role": "viewer"})) == (403, 25020)
            assert problem(await client.put(url(space_id, caller), json={"role": "admin"})) == (403, 25020)
            assert (await client.put(url(space_id, user), json={"role": "doorkeeper"})).status_code == 200
