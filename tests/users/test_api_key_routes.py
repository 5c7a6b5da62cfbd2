"""API keys by HTTP: one's own, and those of others for who may revoke them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text, update

from app.access.permissions import BUILT_IN_ROLES, VIEWER, Permission
from app.database import Database
from app.models.user import ApiKey
from app.users import api_key_service
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of
from tests.users.acting import audited, client_as, client_with, problem, user_with

URL = "/api/v1/api-keys"
DEADLINE_SECONDS = 5.0


async def create(client: httpx.AsyncClient, name: str = "nightly", **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"name": name, **values})
    assert answer.status_code == 201, answer.text
    return answer.json()


def using(app: FastAPI, key: str) -> httpx.AsyncClient:
    return client_of(app, {"X-API-Key": key})


async def texts_of_everything(database: Database) -> str:
    """All that the tables hold which a key could be in."""
    async with database.readers() as session:
        rows = [
            str(tuple(row))
            for table in ("api_keys", "audit_events", "notifications", "idempotency_keys")
            for row in await session.execute(text(f"SELECT * FROM {table}"))
        ]
    return "\n".join(rows)


class TestCreate:
    async def test_shows_the_key_once(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"name": "nightly", "scopes": ["tag:read"], "expires_in_days": 90})
        made = answer.json()
        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"
        key, expires_at = made.pop("key"), datetime.fromisoformat(made["expires_at"])
        assert key.startswith(made["prefix"])
        assert made == {
            "id": made["id"],
            "name": "nightly",
            "prefix": key[:12],
            "scopes": ["tag:read"],
            "expires_at": made["expires_at"],
            "is_expired": False,
            "last_used_at": None,
            "created_at": made["created_at"],
        }
        assert abs(expires_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
        assert answer.headers["Location"] == f"{URL}/{made['id']}"
        assert (await client.get(answer.headers["Location"])).json() == made
        assert (await client.get(URL)).json() == {"items": [made], "next_cursor": None}
        async with using(app, key) as script:
            assert (await script.get("/api/v1/tags")).status_code == 200
            assert (await script.get("/api/v1/instances")).status_code == 403

    async def test_stores_the_key_nowhere(
        self, client: httpx.AsyncClient, database: Database, capfd: pytest.CaptureFixture[str]
    ) -> None:
        made = await create(client)
        secret = made["key"].removeprefix(made["prefix"])
        stored = await texts_of_everything(database)
        assert made["prefix"] in stored
        assert secret not in stored
        assert secret not in "".join(capfd.readouterr())

    async def test_by_default_has_all_that_its_owner_may_do(self, app: FastAPI, registry: Registry) -> None:
        user_id = await user_with(registry, Permission.TAG_READ)
        await registry.grant(user_id, await registry.role_id("viewer"), await registry.space())
        client = await client_as(app, user_id)
        expected = sorted(BUILT_IN_ROLES[VIEWER])
        assert (await create(client))["scopes"] == expected

    async def test_with_no_scopes_can_still_say_whose_it_is(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        made = await create(client, scopes=[])
        async with using(app, made["key"]) as script:
            assert (await script.get("/api/v1/notifications")).status_code == 200
            assert (await script.get("/api/v1/tags")).status_code == 403

    async def test_is_in_the_audit_trail(self, client: httpx.AsyncClient, admin: int, database: Database) -> None:
        made = await create(client, scopes=["tag:read"])
        (entry,) = await audited(database, "api_key:create")
        assert (entry.resource_type, entry.resource_id, entry.resource_name) == ("api_key", made["id"], "nightly")
        assert entry.actor_id == admin
        assert entry.changes is not None
        assert entry.changes["after"]["prefix"] == made["prefix"]
        assert entry.changes["after"]["scopes"] == ["tag:read"]


class TestRefusals:
    async def test_scopes_that_one_does_not_hold(self, app: FastAPI, registry: Registry) -> None:
        client = await client_with(app, registry, Permission.TAG_READ)
        answer = await client.post(URL, json={"name": "x", "scopes": ["tag:read", "tag:create"]})
        assert problem(answer) == (403, 25020)
        assert "tag:create" in answer.json()["detail"]

    async def test_scopes_that_do_not_exist_are_pointed_at(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"name": "x", "scopes": ["tag:eat"]})
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/body/scopes/0"]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"expires_at": "2020-01-01T00:00:00Z"}, "/body/expires_at"),
            ({"expires_at": "2999-01-01T00:00:00Z"}, "/body/expires_at"),
            ({"expires_at": "9999-12-31T23:59:59-14:00"}, "/body/expires_at"),
            ({"expires_at": "0001-01-01T00:00:00+14:00"}, "/body/expires_at"),
            ({"expires_at": "2030-01-01T00:00:00"}, "/body/expires_at"),
            ({"expires_in_days": 0}, "/body/expires_in_days"),
            ({"expires_in_days": 3651}, "/body/expires_in_days"),
            ({"expires_in_days": 1, "expires_at": "2027-01-01T00:00:00Z"}, "/body"),
            ({"user_id": 1}, "/body/user_id"),
            ({"key": "mst_mine"}, "/body/key"),
            ({"name": "\n"}, "/body/name"),
        ],
    )
    async def test_what_is_not_accepted(self, client: httpx.AsyncClient, body: dict[str, Any], pointer: str) -> None:
        answer = await client.post(URL, json={"name": "x", **body})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_a_name_that_is_taken(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        await create(client, "nightly")
        assert problem(await client.post(URL, json={"name": "nightly"})) == (409, 25016)
        await create(await client_with(app, registry), "nightly")

    async def test_one_key_too_many(self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api_key_service, "MAX_KEYS", 3)
        answers = await asyncio.gather(*(client.post(URL, json={"name": f"key {number}"}) for number in range(6)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 201, 409, 409, 409]


class TestKeysMadeWithAKey:
    async def test_have_at_most_its_scopes(self, app: FastAPI, admin: int) -> None:
        async with client_of(app, await key_of(app, admin, (Permission.TAG_READ, Permission.TAG_CREATE))) as script:
            assert (await create(script))["scopes"] == ["tag:create", "tag:read"]
            answer = await script.post(URL, json={"name": "x", "scopes": ["tag:delete"]})
            assert problem(answer) == (403, 25020)

    async def test_last_at_most_as_long(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        made = await create(client, expires_in_days=10)
        async with using(app, made["key"]) as script:
            assert (await create(script, "same"))["expires_at"] == made["expires_at"]
            assert (await create(script, "less", expires_in_days=9))["expires_at"] < made["expires_at"]
            assert problem(await script.post(URL, json={"name": "x", "expires_in_days": 11})) == (403, 25020)


class TestList:
    async def test_comes_in_pages_of_ones_own(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        await create(await client_with(app, registry), "of somebody else")
        for number in range(3):
            await create(client, f"key {number}")
        first = (await client.get(URL, params={"limit": 2, "include_total": True})).json()
        rest = (await client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [key["name"] for key in first["items"] + rest["items"]] == ["key 2", "key 1", "key 0"]
        assert first["total"] == 3

    async def test_tells_expired_ones(self, client: httpx.AsyncClient, database: Database) -> None:
        made = await create(client, expires_in_days=1)
        await _expire(database, made["id"], datetime.now(UTC) - timedelta(seconds=1))
        (listed,) = (await client.get(URL)).json()["items"]
        assert listed["is_expired"] is True


class TestRevoke:
    async def test_acts_at_once(self, app: FastAPI, client: httpx.AsyncClient, database: Database) -> None:
        made = await create(client, scopes=["tag:read"])
        async with using(app, made["key"]) as script:
            assert (await script.get("/api/v1/tags")).status_code == 200
            assert (await client.delete(f"{URL}/{made['id']}")).status_code == 204
            assert problem(await script.get("/api/v1/tags")) == (401, 25020)
        (entry,) = await audited(database, "api_key:revoke")
        assert entry.changes is not None
        assert entry.changes["before"]["prefix"] == made["prefix"]
        assert (await client.get("/api/v1/notifications")).json()["items"] == []

    async def test_of_somebody_elses_is_not_found(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        other = await client_with(app, registry)
        url = f"{URL}/{(await create(other))['id']}"
        assert problem(await client.get(url)) == (404, 25013)
        assert problem(await client.delete(url)) == (404, 25013)
        assert (await other.get(url)).status_code == 200


class TestOfOthers:
    """For who may change users: a key that has leaked must be stopped by somebody."""

    async def test_are_listed_and_revoked(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user(role="viewer")
        user = await client_as(app, user_id)
        made = await create(user)
        url = f"/api/v1/users/{user_id}/api-keys"
        assert [key["prefix"] for key in (await client.get(url)).json()["items"]] == [made["prefix"]]
        async with using(app, made["key"]) as script:
            assert (await script.get("/api/v1/tags")).status_code == 200
            assert (await client.delete(f"{url}/{made['id']}")).status_code == 204
            assert (await script.get("/api/v1/tags")).status_code == 401

    async def test_their_owner_is_told(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        user_id = await registry.user(role="viewer")
        user = await client_as(app, user_id)
        made = await create(user, "nightly")
        await client.delete(f"/api/v1/users/{user_id}/api-keys/{made['id']}")
        (told,) = (await user.get("/api/v1/notifications")).json()["items"]
        assert (told["kind"], told["resource_type"], told["resource_id"]) == ("api_key_revoked", "api_key", made["id"])
        assert "'nightly'" in told["title"]
        assert made["prefix"] in told["body"]

    async def test_must_be_of_that_user(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        owner_id, other_id = await registry.user(), await registry.user()
        made = await create(await client_as(app, owner_id))
        assert problem(await client.delete(f"/api/v1/users/{other_id}/api-keys/{made['id']}")) == (404, 25013)
        assert problem(await client.get("/api/v1/users/999/api-keys")) == (404, 25013)
        assert problem(await client.delete(f"/api/v1/users/999/api-keys/{made['id']}")) == (404, 25013)


class TestUse:
    async def test_is_noted_to_the_minute(self, app: FastAPI, client: httpx.AsyncClient, database: Database) -> None:
        made = await create(client, scopes=["tag:read"])
        async with using(app, made["key"]) as script:
            await script.get("/api/v1/tags")
            noted = await _noted(client, app, made["id"])
            assert abs(datetime.fromisoformat(noted) - datetime.now(UTC)) < timedelta(minutes=1)
            app.state.identities.forget()
            await script.get("/api/v1/tags")
            assert await _noted(client, app, made["id"]) == noted
            await _set(database, made["id"], last_used_at=datetime.now(UTC) - timedelta(minutes=2))
            app.state.identities.forget()
            await script.get("/api/v1/tags")
            assert await _noted(client, app, made["id"]) >= noted

    async def test_ends_when_the_key_expires(self, app: FastAPI, client: httpx.AsyncClient, database: Database) -> None:
        made = await create(client, scopes=["tag:read"], expires_in_days=1)
        expires_at = datetime.now(UTC) + timedelta(seconds=1)
        await _expire(database, made["id"], expires_at)
        async with using(app, made["key"]) as script:
            assert (await script.get("/api/v1/tags")).status_code == 200
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (await script.get("/api/v1/tags")).status_code == 200:
                    pass
            assert datetime.now(UTC) >= expires_at

    async def test_ends_when_the_owner_loses_the_permission(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        user_id = await registry.user(role="viewer")
        made = await create(await client_as(app, user_id))
        async with using(app, made["key"]) as script:
            assert (await script.get("/api/v1/tags")).status_code == 200
            await client.put(f"/api/v1/users/{user_id}/roles", json=[])
            assert (await script.get("/api/v1/tags")).status_code == 403


async def _noted(client: httpx.AsyncClient, app: FastAPI, key_id: int) -> str:
    """When the key was used last; it is noted beside the request."""
    await app.state.identities.close()
    last_used_at = (await client.get(f"{URL}/{key_id}")).json()["last_used_at"]
    assert isinstance(last_used_at, str)
    return last_used_at


async def _set(database: Database, key_id: int, **values: datetime) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(update(ApiKey).where(ApiKey.id == key_id).values(**values))


async def _expire(database: Database, key_id: int, moment: datetime) -> None:
    await _set(database, key_id, expires_at=moment)
