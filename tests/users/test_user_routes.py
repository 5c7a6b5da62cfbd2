"""The user calls: making and finding users, and who may."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.database import Database
from app.models.user import User
from app.users.passwords import verify_password
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as
from tests.users.accounts import ME, PASSWORD, account, audited, bearer, tokens

URL = "/api/v1/users"
NEW = "nine loud lighthouses"


async def create(client: httpx.AsyncClient, username: str = "jane", **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"username": username, "password": PASSWORD, **values})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def stored(database: Database, user_id: int) -> User:
    async with database.readers() as session:
        return await session.get_one(User, user_id)


class TestCreate:
    async def test_answers_the_user_and_where_they_are(self, client: httpx.AsyncClient, admin: int) -> None:
        values = {"username": " Jane.Doe ", "password": PASSWORD, "email": " jane@example.com ", "display_name": "Jane"}
        answer = await client.post(URL, json=values)
        body = answer.json()
        assert answer.status_code == 201
        assert body == {
            "id": body["id"],
            "username": "jane.doe",
            "email": "jane@example.com",
            "display_name": "Jane",
            "is_active": True,
            "last_login_at": None,
            "revision": 1,
            "created_at": body["created_at"],
            "updated_at": body["updated_at"],
            "created_by": admin,
            "updated_by": admin,
        }
        assert answer.headers["ETag"] == '"1"'
        assert answer.headers["Location"] == f"{URL}/{body['id']}"
        assert (await client.get(answer.headers["Location"])).json() == body

    async def test_makes_somebody_who_can_sign_in_and_may_do_nothing(
        self, client: httpx.AsyncClient, stranger: httpx.AsyncClient
    ) -> None:
        await create(client)
        headers = bearer(await tokens(stranger))
        assert (await stranger.get(ME, headers=headers)).json()["permissions"] == []
        assert (await stranger.get("/api/v1/instances", headers=headers)).status_code == 403

    async def test_keeps_no_password(self, client: httpx.AsyncClient, database: Database) -> None:
        body = await create(client)
        user = await stored(database, body["id"])
        assert user.password_hash.startswith("$argon2id$")
        assert await verify_password(PASSWORD, user.password_hash)
        assert PASSWORD not in str([each.changes for each in await audited(database)])

    async def test_is_audited(self, client: httpx.AsyncClient, database: Database, admin: int) -> None:
        body = await create(client, email="jane@example.com")
        (entry,) = await audited(database, "user:create")
        assert (entry.actor_id, entry.resource_id, entry.resource_name) == (admin, body["id"], "jane")
        assert entry.changes is not None
        assert entry.changes["after"]["email"] == "jane@example.com"

    @pytest.mark.parametrize("username", ["jane", "JANE", "ｊane"])
    async def test_a_taken_name_is_a_conflict(self, client: httpx.AsyncClient, username: str) -> None:
        await create(client)
        answer = await client.post(URL, json={"username": username, "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)

    async def test_of_several_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        body = {"username": "jane", "password": PASSWORD}
        answers = await asyncio.gather(*(client.post(URL, json=body) for _ in range(4)))
        assert sorted(each.status_code for each in answers) == [201, 409, 409, 409]

    @pytest.mark.parametrize(
        ("values", "pointer"),
        [
            ({"username": ""}, "/body/username"),
            ({"username": None}, "/body/username"),
            ({"username": "jane doe"}, "/body/username"),
            ({"username": "a" * 101}, "/body/username"),
            ({"username": "jane\x00"}, "/body/username"),
            ({"password": "short"}, "/body/password"),
            ({"password": "x" * 129}, "/body/password"),
            ({"password": "password1234"}, "/body/password"),
            ({"password": "jane123jane12"}, "/body/password"),
            ({"password": "seven \x00 lighthouses"}, "/body/password"),
            ({"password": None}, "/body/password"),
            ({"email": "jane"}, "/body/email"),
            ({"email": "ja ne@example.com"}, "/body/email"),
            ({"email": "j" * 250 + "@x.yz"}, "/body/email"),
            ({"display_name": "x" * 101}, "/body/display_name"),
            ({"display_name": "Ja\nne"}, "/body/display_name"),
            ({"is_active": None}, "/body/is_active"),
        ],
    )
    async def test_refuses_what_is_not_acceptable(
        self, client: httpx.AsyncClient, values: dict[str, Any], pointer: str
    ) -> None:
        answer = await client.post(URL, json={"username": "jane", "password": PASSWORD} | values)
        assert (answer.status_code, answer.json()["code"]) == (422, 25000)
        assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
        if "password" in values:
            assert "value" not in answer.json()["errors"][0]

    @pytest.mark.parametrize(
        "member",
        [
            "id",
            "password_hash",
            "created_by",
            "updated_by",
            "revision",
            "last_login_at",
            "roles",
            "space_id",
            "is_admin",
        ],
    )
    async def test_takes_nothing_that_is_not_to_be_set(self, client: httpx.AsyncClient, member: str) -> None:
        answer = await client.post(URL, json={"username": "jane", "password": PASSWORD, member: 1})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/body/{member}"


class TestList:
    async def test_pages_in_order_of_name(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        for name in ("zoe", "anna", "ben"):
            await registry.user(name)
        first = (await client.get(URL, params={"limit": 2, "include_total": True})).json()
        assert [each["username"] for each in first["items"]] == ["anna", "ben"]
        assert first["total"] == 4
        second = (await client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [each["username"] for each in second["items"]][-1] == "zoe"
        assert second["next_cursor"] is None

    @pytest.mark.parametrize(("sort", "names"), [("-username", ["zoe", "anna"]), ("id", ["zoe", "anna"])])
    async def test_sorts(self, client: httpx.AsyncClient, registry: Registry, sort: str, names: list[str]) -> None:
        await registry.user("zoe", email="z@found.example")
        await registry.user("anna", email="a@found.example")
        found = (await client.get(URL, params={"q": "FOUND", "sort": sort})).json()
        assert [each["username"] for each in found["items"]] == names

    async def test_sorts_by_nothing_else(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(URL, params={"sort": "password_hash"})).status_code == 422

    @pytest.mark.parametrize("q", ["ane.d", "Doe", "EXAMPLE.COM"])
    async def test_finds_in_names_and_addresses(self, client: httpx.AsyncClient, registry: Registry, q: str) -> None:
        await registry.user("jane.d", display_name="Jane Doe", email="jd@example.com")
        await registry.user("other")
        found = (await client.get(URL, params={"q": q})).json()
        assert [each["username"] for each in found["items"]] == ["jane.d"]

    async def test_finds_wildcards_as_they_are(self, client: httpx.AsyncClient, registry: Registry) -> None:
        await registry.user("a_b")
        await registry.user("axb")
        assert len((await client.get(URL, params={"q": "a_b"})).json()["items"]) == 1
        assert len((await client.get(URL, params={"q": "%"})).json()["items"]) == 0

    async def test_of_those_who_cannot_sign_in(self, client: httpx.AsyncClient, registry: Registry) -> None:
        await registry.user("off", is_active=False)
        found = (await client.get(URL, params={"is_active": False})).json()
        assert [each["username"] for each in found["items"]] == ["off"]

    async def test_shows_no_secret(self, client: httpx.AsyncClient, registry: Registry) -> None:
        await account(registry)
        assert "argon2" not in (await client.get(URL)).text
        assert "password" not in (await client.get(URL)).text


class TestPermissions:
    @pytest.mark.parametrize(
        ("method", "path", "permission"),
        [
            ("GET", URL, "user:read"),
            ("POST", URL, "user:create"),
            ("GET", URL + "/{}", "user:read"),
            ("PATCH", URL + "/{}", "user:update"),
            ("DELETE", URL + "/{}", "user:delete"),
        ],
    )
    async def test_must_be_held_everywhere(
        self, app: FastAPI, registry: Registry, method: str, path: str, permission: str
    ) -> None:
        target, caller = await registry.user(), await registry.user()
        role_id = await registry.role(permissions=[permission])
        body = {"username": "jane", "password": PASSWORD} if method == "POST" else {}

        async def status() -> int:
            async with client_of(app, await signed_in_as(app, caller)) as client:
                answer = await client.request(
                    method, path.format(target), json=body if method in ("POST", "PATCH") else None
                )
                return answer.status_code

        assert await status() == 403
        await registry.grant(caller, role_id, await registry.default_space())
        assert await status() == 403
        await registry.grant(caller, role_id)
        assert await status() in (200, 201)

    async def test_a_stranger_may_nothing(self, stranger: httpx.AsyncClient) -> None:
        assert (await stranger.get(URL)).status_code == 401
        assert (await stranger.post(URL, json={})).status_code == 401
