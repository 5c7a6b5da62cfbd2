"""Notifications by HTTP: each user's own."""

import httpx
import pytest
from fastapi import FastAPI

from app.database import Database
from app.users.notification_service import NotificationService
from tests.factories import Registry
from tests.users.acting import client_as, problem

URL = "/api/v1/notifications"


async def notify(database: Database, user_id: int, *titles: str) -> None:
    async with database.writers.begin() as session:
        for title in titles:
            await NotificationService(session).notify(
                user_id, "operation_ended", title, "It took a while.", resource_type="operation", resource_id=7
            )


async def titles(client: httpx.AsyncClient, **parameters: str | int | bool) -> list[str]:
    return [each["title"] for each in (await client.get(URL, params=parameters)).json()["items"]]


@pytest.fixture
async def other(app: FastAPI, registry: Registry, database: Database) -> httpx.AsyncClient:
    """Somebody else, who has a notification."""
    user_id = await registry.user()
    await notify(database, user_id, "somebody else's")
    return await client_as(app, user_id)


class TestList:
    async def test_has_what_one_is_told(self, client: httpx.AsyncClient, admin: int, database: Database) -> None:
        await notify(database, admin, "Import done")
        (told,) = (await client.get(URL)).json()["items"]
        assert told == {
            "id": told["id"],
            "kind": "operation_ended",
            "title": "Import done",
            "body": "It took a while.",
            "resource_type": "operation",
            "resource_id": 7,
            "created_at": told["created_at"],
            "read_at": None,
        }

    async def test_comes_in_pages_the_newest_first(
        self, client: httpx.AsyncClient, admin: int, database: Database, other: httpx.AsyncClient
    ) -> None:
        await notify(database, admin, "first", "second", "third")
        page = (await client.get(URL, params={"limit": 2, "include_total": True})).json()
        assert [each["title"] for each in page["items"]] == ["third", "second"]
        assert page["total"] == 3
        assert await titles(client, limit=2, cursor=page["next_cursor"]) == ["first"]
        assert await titles(other) == ["somebody else's"]

    async def test_of_unread_ones(self, client: httpx.AsyncClient, admin: int, database: Database) -> None:
        await notify(database, admin, "first", "second")
        (second, _) = (await client.get(URL)).json()["items"]
        await client.post(f"{URL}/{second['id']}/read")
        page = (await client.get(URL, params={"unread": True, "include_total": True})).json()
        assert ([each["title"] for each in page["items"]], page["total"]) == (["first"], 1)
        assert await titles(client) == ["second", "first"]

    async def test_with_a_cursor_of_another_list(self, client: httpx.AsyncClient) -> None:
        assert problem(await client.get(URL, params={"cursor": "rubbish"})) == (400, 25000)


class TestRead:
    async def test_keeps_when_it_was_first_read(
        self, client: httpx.AsyncClient, admin: int, database: Database
    ) -> None:
        await notify(database, admin, "Import done")
        (told,) = (await client.get(URL)).json()["items"]
        read = (await client.post(f"{URL}/{told['id']}/read")).json()
        assert read["read_at"] is not None
        assert (await client.post(f"{URL}/{told['id']}/read")).json() == read

    async def test_all_at_once(
        self, client: httpx.AsyncClient, admin: int, database: Database, other: httpx.AsyncClient
    ) -> None:
        await notify(database, admin, "first", "second")
        assert (await client.post(f"{URL}/read-all")).json() == {"marked": 2}
        assert await titles(client, unread=True) == []
        assert (await client.post(f"{URL}/read-all")).json() == {"marked": 0}
        assert await titles(other, unread=True) == ["somebody else's"]


class TestDelete:
    async def test_removes_it(self, client: httpx.AsyncClient, admin: int, database: Database) -> None:
        await notify(database, admin, "first", "second")
        (second, _) = (await client.get(URL)).json()["items"]
        assert (await client.delete(f"{URL}/{second['id']}")).status_code == 204
        assert await titles(client) == ["first"]
        assert problem(await client.delete(f"{URL}/{second['id']}")) == (404, 25013)


class TestOfSomebodyElse:
    async def test_are_not_found(self, client: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
        (told,) = (await other.get(URL)).json()["items"]
        assert problem(await client.post(f"{URL}/{told['id']}/read")) == (404, 25013)
        assert problem(await client.delete(f"{URL}/{told['id']}")) == (404, 25013)
        assert (await other.get(URL)).json()["items"] == [told]


class TestNotify:
    async def test_cuts_what_is_too_long(self, client: httpx.AsyncClient, admin: int, database: Database) -> None:
        await notify(database, admin, "x" * 300)
        (title,) = await titles(client)
        assert title == "x" * 199 + "…"

    async def test_is_undone_with_its_transaction(
        self, client: httpx.AsyncClient, admin: int, database: Database
    ) -> None:
        async with database.writers() as session:
            await NotificationService(session).notify(admin, "operation_ended", "never mind")
            await session.rollback()
        assert await titles(client) == []
