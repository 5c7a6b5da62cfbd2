"""Who am I, and changing one's own password."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from app.access.permissions import BUILT_IN_ROLES, VIEWER, Permission
from app.database import Database
from app.models.audit import AuditOutcome
from app.models.user import User
from tests.factories import Registry
from tests.signing_in import key_of, signed_in_as
from tests.users.accounts import (
    ME,
    OWN_PASSWORD,
    PASSWORD,
    account,
    audited,
    bearer,
    is_let_in,
    login,
    refreshed,
    tokens,
)

NEW = "nine loud lighthouses"


class TestMe:
    async def test_tells_who_and_what_is_held_where(
        self, app: FastAPI, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        space_id, other_id = await registry.space(), await registry.space()
        user_id = await registry.user("jane", role="viewer", email="jane@example.com", display_name="Jane")
        registrar = await registry.role("registrar", ["instance:create", "instance:read"])
        await registry.grant(user_id, registrar, space_id)
        await registry.grant(user_id, registrar, other_id)
        body = (await stranger.get(ME, headers=await signed_in_as(app, user_id))).json()
        everywhere = sorted(BUILT_IN_ROLES[VIEWER])
        assert body == {
            "id": user_id,
            "username": "jane",
            "email": "jane@example.com",
            "display_name": "Jane",
            "roles": [
                {"role_id": await registry.role_id("viewer"), "role": "viewer", "space_id": None},
                {"role_id": registrar, "role": "registrar", "space_id": space_id},
                {"role_id": registrar, "role": "registrar", "space_id": other_id},
            ],
            "permissions": [
                {"space_id": None, "permissions": everywhere},
                {"space_id": space_id, "permissions": ["instance:create"]},
                {"space_id": other_id, "permissions": ["instance:create"]},
            ],
            "api_key_prefix": None,
        }

    async def test_of_somebody_who_may_do_nothing(
        self, app: FastAPI, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        user_id = await registry.user()
        body = (await stranger.get(ME, headers=await signed_in_as(app, user_id))).json()
        assert (body["id"], body["roles"], body["permissions"]) == (user_id, [], [])

    async def test_with_a_key_tells_what_the_key_may_do(
        self, app: FastAPI, stranger: httpx.AsyncClient, admin: int
    ) -> None:
        key = await key_of(app, admin, (Permission.INSTANCE_READ, Permission.TAG_READ))
        body = (await stranger.get(ME, headers=key)).json()
        assert body["permissions"] == [{"space_id": None, "permissions": ["instance:read", "tag:read"]}]
        assert body["api_key_prefix"] == key["X-API-Key"][:12]

    async def test_needs_somebody(self, stranger: httpx.AsyncClient) -> None:
        assert (await stranger.get(ME)).status_code == 401


async def change(
    client: httpx.AsyncClient, headers: dict[str, str], current: str = PASSWORD, new: str = NEW
) -> httpx.Response:
    return await client.post(OWN_PASSWORD, json={"current_password": current, "new_password": new}, headers=headers)


class TestOwnPassword:
    async def test_is_changed_and_ends_the_other_sessions(
        self, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        await account(registry)
        mine, other = await tokens(stranger), await tokens(stranger)
        assert await is_let_in(stranger, other)
        assert (await change(stranger, bearer(mine))).status_code == 204
        assert await is_let_in(stranger, mine)
        assert (await refreshed(stranger, mine)).status_code == 200
        assert not await is_let_in(stranger, other)
        assert (await refreshed(stranger, other)).status_code == 401
        assert (await login(stranger)).status_code == 401
        assert (await login(stranger, password=NEW)).status_code == 200

    async def test_is_audited_without_either_password(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await account(registry)
        mine = await tokens(stranger)
        await change(stranger, bearer(mine))
        (entry,) = await audited(database, "auth:password")
        assert (entry.actor_id, entry.resource_id, entry.status) == (user_id, user_id, 204)
        assert entry.changes == {"password": "changed", "sessions_ended": 0}

    async def test_asks_for_the_current_one(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await account(registry)
        mine, other = await tokens(stranger), await tokens(stranger)
        answer = await change(stranger, bearer(mine), "eight quiet lighthouses")
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"pointer": "/body/current_password", "code": "wrong", "message": "this is not the current password"}
        ]
        assert await is_let_in(stranger, other)
        (entry,) = await audited(database, "auth:password")
        assert (entry.outcome, entry.status) == (AuditOutcome.DENIED, 422)

    async def test_cannot_be_guessed_either(self, stranger: httpx.AsyncClient, registry: Registry) -> None:
        await account(registry)
        mine = await tokens(stranger)
        answers = [(await change(stranger, bearer(mine), "wrong")).status_code for _ in range(6)]
        assert answers == [422] * 5 + [429]
        assert (await change(stranger, bearer(mine))).status_code == 429
        assert (await login(stranger)).status_code == 429

    @pytest.mark.parametrize(
        ("new", "code"),
        [
            ("short", "too_short"),
            ("x" * 129, "too_long"),
            ("password1234", "too_common"),
            ("janejanejane", "too_common"),
            (PASSWORD, "unchanged"),
            ("half a pair \ud800", "invalid_format"),
        ],
    )
    async def test_must_be_an_acceptable_other_one(
        self, stranger: httpx.AsyncClient, registry: Registry, new: str, code: str
    ) -> None:
        await account(registry)
        mine = await tokens(stranger)
        if code == "invalid_format":
            content = b'{"current_password": "' + PASSWORD.encode() + b'", "new_password": "half a pair \\ud800"}'
            headers = bearer(mine) | {"Content-Type": "application/json"}
            answer = await stranger.post(OWN_PASSWORD, content=content, headers=headers)
        else:
            answer = await change(stranger, bearer(mine), new=new)
        assert answer.status_code == 422
        (problem,) = answer.json()["errors"]
        assert problem["pointer"] == "/body/new_password"
        assert problem["code"] == code or code in ("too_short", "too_long")
        assert "value" not in problem
        assert await is_let_in(stranger, mine)

    async def test_not_with_an_api_key(self, app: FastAPI, stranger: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await account(registry)
        answer = await change(stranger, await key_of(app, user_id))
        assert (answer.status_code, answer.json()["code"]) == (403, 25020)
        assert (await login(stranger)).status_code == 200

    async def test_of_two_at_once_one_wins(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await account(registry)
        mine, other = await tokens(stranger), await tokens(stranger)
        answers = await asyncio.gather(change(stranger, bearer(mine)), change(stranger, bearer(other), new=NEW + "!"))
        assert sorted(each.status_code for each in answers) in ([204, 401], [204, 422])
        async with database.readers() as session:
            assert (await session.get_one(User, user_id)).revision == 2

    @pytest.mark.parametrize("member", ["id", "username", "user_id", "is_active"])
    async def test_takes_nothing_else(self, stranger: httpx.AsyncClient, registry: Registry, member: str) -> None:
        await account(registry)
        mine = await tokens(stranger)
        body = {"current_password": PASSWORD, "new_password": NEW, member: 1}
        assert (await stranger.post(OWN_PASSWORD, json=body, headers=bearer(mine))).status_code == 422
        assert (await login(stranger)).status_code == 200
