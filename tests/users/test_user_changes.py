"""Changing users, setting their passwords, and disabling them."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.access.permissions import Permission
from app.database import Database
from app.models.user import SessionEnd, User, UserSession
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of, signed_in_as
from tests.users.accounts import ME, account, audited, is_let_in, login, refreshed, tokens

URL = "/api/v1/users"
NEW = "nine loud lighthouses"


async def stored(database: Database, user_id: int) -> User:
    async with database.readers() as session:
        return await session.get_one(User, user_id)


class TestChange:
    async def test_sets_what_is_named(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        user_id = await registry.user("jane", email="old@example.com", display_name="Jane")
        answer = await client.patch(f"{URL}/{user_id}", json={"email": "new@example.com"})
        body = answer.json()
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
        assert (body["email"], body["display_name"], body["revision"]) == ("new@example.com", "Jane", 2)
        assert body["updated_by"] == admin
        assert body["updated_at"] > body["created_at"]

    async def test_null_and_blank_clear(self, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user("jane", email="old@example.com", display_name="Jane")
        body = (await client.patch(f"{URL}/{user_id}", json={"email": None, "display_name": " "})).json()
        assert (body["email"], body["display_name"]) == (None, None)

    async def test_of_nothing_writes_nothing(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await registry.user("jane", display_name="Jane")
        for body in ({}, {"display_name": "Jane"}):
            assert (await client.patch(f"{URL}/{user_id}", json=body)).json()["revision"] == 1
        assert await audited(database) == []

    async def test_is_audited_as_a_difference(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await registry.user("jane", display_name="Jane")
        await client.patch(f"{URL}/{user_id}", json={"display_name": "Jane Doe", "password": NEW})
        (entry,) = await audited(database, "user:update")
        assert entry.changes == {
            "before": {"display_name": "Jane"},
            "after": {"display_name": "Jane Doe"},
            "password": "changed",
        }

    async def test_honours_if_match(self, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user("jane")
        stale = await client.patch(f"{URL}/{user_id}", json={"display_name": "x"}, headers={"If-Match": '"7"'})
        assert (stale.status_code, stale.json()["code"]) == (412, 25017)
        good = await client.patch(f"{URL}/{user_id}", json={"display_name": "x"}, headers={"If-Match": '"1"'})
        assert good.status_code == 200

    @pytest.mark.parametrize(
        "member", ["id", "username", "password_hash", "created_by", "updated_by", "revision", "last_login_at", "roles"]
    )
    async def test_takes_nothing_that_is_not_to_be_set(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, member: str
    ) -> None:
        user_id = await registry.user("jane")
        answer = await client.patch(f"{URL}/{user_id}", json={"display_name": "x", member: 1})
        assert answer.status_code == 422
        assert (await stored(database, user_id)).display_name is None

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    async def test_somebody_who_does_not_exist(self, client: httpx.AsyncClient, method: str) -> None:
        answer = await client.request(method, f"{URL}/999", json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, 25013)


class TestPasswordReset:
    async def test_ends_all_sessions_and_lets_the_new_one_in(
        self, client: httpx.AsyncClient, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        user_id = await account(registry)
        issued = await tokens(stranger)
        assert await is_let_in(stranger, issued)
        assert (await client.patch(f"{URL}/{user_id}", json={"password": NEW})).status_code == 200
        assert not await is_let_in(stranger, issued)
        assert (await refreshed(stranger, issued)).status_code == 401
        assert (await login(stranger)).status_code == 401
        assert (await login(stranger, password=NEW)).status_code == 200

    async def test_to_one_like_the_name_is_refused(self, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user("jane.doe")
        answer = await client.patch(f"{URL}/{user_id}", json={"password": "jane.doe2026"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/body/password"

    async def test_of_oneself_asks_for_the_current_one(self, client: httpx.AsyncClient, admin: int) -> None:
        answer = await client.patch(f"{URL}/{admin}", json={"password": NEW})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        assert "/auth/password" in answer.json()["detail"]

    async def test_of_somebody_who_may_do_more_is_refused(
        self, app: FastAPI, registry: Registry, admin: int, database: Database
    ) -> None:
        """Or whoever may change users could sign in as an administrator."""
        manager = await registry.user()
        await registry.grant(manager, await registry.role(permissions=["user:read", "user:update"]))
        async with client_of(app, await signed_in_as(app, manager)) as client:
            answer = await client.patch(f"{URL}/{admin}", json={"password": NEW})
            assert (answer.status_code, answer.json()["code"]) == (403, 25020)
            assert (await stored(database, admin)).password_hash == "!"
            powerless = await registry.user()
            assert (await client.patch(f"{URL}/{powerless}", json={"password": NEW})).status_code == 200

    async def test_by_a_key_is_held_to_the_keys_scopes(self, app: FastAPI, registry: Registry, admin: int) -> None:
        other = await registry.user(role="viewer")
        async with client_of(app, await key_of(app, admin, (Permission.USER_UPDATE,))) as client:
            assert (await client.patch(f"{URL}/{other}", json={"password": NEW})).status_code == 403
            assert (await client.patch(f"{URL}/{other}", json={"display_name": "x"})).status_code == 200


class TestDisable:
    async def test_ends_sessions_and_keys_at_once(
        self,
        app: FastAPI,
        client: httpx.AsyncClient,
        stranger: httpx.AsyncClient,
        registry: Registry,
        database: Database,
    ) -> None:
        user_id = await account(registry)
        issued, key = await tokens(stranger), await key_of(app, user_id)
        assert await is_let_in(stranger, issued)
        assert (await stranger.get(ME, headers=key)).status_code == 200
        assert (await client.patch(f"{URL}/{user_id}", json={"is_active": False})).status_code == 200
        assert not await is_let_in(stranger, issued)
        assert (await refreshed(stranger, issued)).status_code == 401
        assert (await stranger.get(ME, headers=key)).status_code == 401
        async with database.readers() as session:
            reasons = select(UserSession.end_reason).where(UserSession.user_id == user_id)
            assert list(await session.scalars(reasons)) == [SessionEnd.DISABLED]

    async def test_not_oneself(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        await registry.user(role="admin")
        answer = await client.patch(f"{URL}/{admin}", json={"is_active": False})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)

    async def test_not_the_last_administrator(self, app: FastAPI, registry: Registry, admin: int) -> None:
        await registry.user(role="admin", is_active=False)
        await registry.user(role="admin", space_id=await registry.default_space())
        manager = await registry.user()
        await registry.grant(manager, await registry.role(permissions=["user:read", "user:update", "user:delete"]))
        async with client_of(app, await signed_in_as(app, manager)) as client:
            answer = await client.patch(f"{URL}/{admin}", json={"is_active": False})
            assert (answer.status_code, answer.json()["code"]) == (409, 25016)
            assert (await client.delete(f"{URL}/{admin}")).status_code == 409
            assert (await client.delete(f"{URL}/{admin}", params={"dry_run": True})).status_code == 409
            await registry.user(role="admin")
            assert (await client.patch(f"{URL}/{admin}", json={"is_active": False})).status_code == 200

    async def test_of_two_who_disable_each_other_one_stays(
        self, app: FastAPI, registry: Registry, admin: int, database: Database
    ) -> None:
        other = await registry.user(role="admin")
        async with (
            client_of(app, await signed_in_as(app, admin)) as one,
            client_of(app, await signed_in_as(app, other)) as two,
        ):
            await asyncio.gather(
                one.patch(f"{URL}/{other}", json={"is_active": False}),
                two.patch(f"{URL}/{admin}", json={"is_active": False}),
            )
        assert (await stored(database, admin)).is_active or (await stored(database, other)).is_active
