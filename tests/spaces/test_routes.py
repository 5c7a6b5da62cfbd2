"""The space calls: making, reading, changing, archiving."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.database import Database
from app.models.audit import AuditEvent
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as

URL = "/api/v1/spaces"


async def create(client: httpx.AsyncClient, name: str = "payments", **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"name": name, **values})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def problem(answer: httpx.Response) -> tuple[int, int]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


async def audited(database: Database, space_id: int) -> list[tuple[str, str | None, Any]]:
    statement = select(AuditEvent.action, AuditEvent.resource_name, AuditEvent.changes)
    own = (AuditEvent.resource_type == "space", AuditEvent.resource_id == space_id, AuditEvent.space_id == space_id)
    async with database.readers() as session:
        return [tuple(row) for row in await session.execute(statement.where(*own).order_by(AuditEvent.id))]


async def names(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return [space["name"] for space in answer.json()["items"]]


class TestCreate:
    async def test_answers_the_space_and_where_it_is(self, client: httpx.AsyncClient, admin: int) -> None:
        answer = await client.post(URL, json={"name": " payments ", "description": " teams ", "quota_instances": 5})
        body = answer.json()
        assert answer.status_code == 201
        assert body == {
            "id": body["id"],
            "name": "payments",
            "description": "teams",
            "quota_instances": 5,
            "quota_rows": None,
            "archived_at": None,
            "revision": 1,
            "created_at": body["created_at"],
            "updated_at": body["updated_at"],
            "created_by": admin,
            "updated_by": admin,
        }
        assert (answer.headers["ETag"], answer.headers["Location"]) == ('"1"', f"{URL}/{body['id']}")
        counts = {"instances": 0, "deleted_instances": 0, "tags": 0, "credentials": 0, "members": 0}
        assert (await client.get(answer.headers["Location"])).json() == body | {"counts": counts}

    async def test_of_two_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.post(URL, json={"name": "one"}) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]

    async def test_is_audited(self, client: httpx.AsyncClient, database: Database) -> None:
        space = await create(client, quota_rows=7)
        values = {"name": "payments", "description": None, "quota_instances": None, "quota_rows": 7}
        assert await audited(database, space["id"]) == [("space:create", "payments", {"after": values})]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "/body/name"),
            ({"name": " "}, "/body/name"),
            ({"name": "a" * 101}, "/body/name"),
            ({"name": "a\nb"}, "/body/name"),
            ({"name": "a", "description": "d" * 501}, "/body/description"),
            ({"name": "a", "quota_instances": -1}, "/body/quota_instances"),
            ({"name": "a", "quota_instances": 2**31}, "/body/quota_instances"),
            ({"name": "a", "quota_rows": 1.5}, "/body/quota_rows"),
            ({"name": "a", "archived_at": "2026-01-01T00:00:00Z"}, "/body/archived_at"),
            ({"name": "a", "id": 7}, "/body/id"),
            ({"name": "a", "created_by": 7}, "/body/created_by"),
        ],
    )
    async def test_bad_input_is_pointed_at(self, client: httpx.AsyncClient, body: Any, pointer: str) -> None:
        answer = await client.post(URL, json=body)
        assert problem(answer) == (422, 25000)
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


class TestRead:
    async def test_one_with_how_much_is_in_it(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        for deleted_at in (None, None, datetime.now(UTC)):
            await registry.instance(space_id=space_id, deleted_at=deleted_at)
        await registry.tag(space_id=space_id)
        await registry.credential(space_id=space_id)
        member = await registry.user(role="viewer", space_id=space_id)
        await registry.grant(member, await registry.role_id("operator"), space_id)
        for other in (await registry.default_space(), await registry.space()):
            await registry.instance(space_id=other)
            await registry.tag(space_id=other)
        answer = (await client.get(f"{URL}/{space_id}")).json()
        assert answer["counts"] == {
            "instances": 2,
            "deleted_instances": 1,
            "tags": 1,
            "credentials": 1,
            "members": 1,
        }

    async def test_one_that_does_not_exist(self, client: httpx.AsyncClient) -> None:
        assert problem(await client.get(f"{URL}/99")) == (404, 25015)

    async def test_pages(self, client: httpx.AsyncClient, registry: Registry) -> None:
        for name in ("c", "a", "b"):
            await registry.space(name)
        first = (await client.get(URL, params={"limit": 2, "include_total": True})).json()
        rest = (await client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [space["name"] for space in first["items"] + rest["items"]] == ["a", "b", "c", "default"]
        assert (first["total"], rest["next_cursor"]) == (4, None)
        assert await names(client, sort="-id") == ["b", "a", "c", "default"]

    async def test_filters(self, client: httpx.AsyncClient, registry: Registry) -> None:
        shelved = await registry.space("Shelved")
        await registry.space("shop")
        assert (await client.post(f"{URL}/{shelved}/archive")).status_code == 200
        assert await names(client, q="SH") == ["Shelved", "shop"]
        assert await names(client, archived=True) == ["Shelved"]
        assert await names(client, archived=False) == ["default", "shop"]

    async def test_only_what_the_caller_may_reach(self, app: FastAPI, registry: Registry) -> None:
        own, other = await registry.space("own"), await registry.space("other")
        viewer = await registry.user(role="viewer", space_id=own)
        async with client_of(app, await signed_in_as(app, viewer)) as member:
            assert await names(member) == ["own"]
            assert (await member.get(URL, params={"include_total": True})).json()["total"] == 1
            assert (await member.get(f"{URL}/{own}")).status_code == 200
            assert problem(await member.get(f"{URL}/{other}")) == (404, 25015)


class TestChange:
    async def test_changes_what_is_sent(self, client: httpx.AsyncClient, database: Database) -> None:
        space = await create(client, description="old", quota_rows=9)
        answer = await client.patch(f"{URL}/{space['id']}", json={"description": None, "quota_instances": 3})
        assert answer.status_code == 200, answer.text
        wanted = {"description": None, "quota_instances": 3, "quota_rows": 9, "revision": 2}
        assert answer.json() | wanted == answer.json()
        assert answer.headers["ETag"] == '"2"'
        assert (await audited(database, space["id"]))[1:] == [
            (
                "space:update",
                "payments",
                {
                    "before": {"description": "old", "quota_instances": None},
                    "after": {"description": None, "quota_instances": 3},
                },
            )
        ]

    async def test_nothing_new_writes_nothing(self, client: httpx.AsyncClient, database: Database) -> None:
        space = await create(client)
        answer = await client.patch(f"{URL}/{space['id']}", json={"name": "payments"})
        assert answer.json() == space
        assert len(await audited(database, space["id"])) == 1

    async def test_a_taken_name(self, client: httpx.AsyncClient) -> None:
        space = await create(client)
        answer = await client.patch(f"{URL}/{space['id']}", json={"name": "default"})
        assert problem(answer) == (409, 25016)
        assert "'default'" in answer.json()["detail"]

    async def test_the_default_space_keeps_its_name(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.default_space()
        assert problem(await client.patch(f"{URL}/{space_id}", json={"name": "other"})) == (409, 25016)
        assert (await client.patch(f"{URL}/{space_id}", json={"description": "first"})).status_code == 200

    async def test_honours_if_match(self, client: httpx.AsyncClient) -> None:
        space = await create(client)
        url = f"{URL}/{space['id']}"
        stale = {"If-Match": '"7"'}
        for answer in (
            await client.patch(url, json={"name": "x"}, headers=stale),
            await client.post(f"{url}/archive", headers=stale),
            await client.delete(url, headers=stale),
        ):
            assert problem(answer) == (412, 25017)
        assert (await client.patch(url, json={"name": "x"}, headers={"If-Match": '"1"'})).status_code == 200

    @pytest.mark.parametrize("body", [{"name": None}, {"revision": 5}, {"archived_at": "2026-01-01T00:00:00"}])
    async def test_bad_input(self, client: httpx.AsyncClient, body: Any) -> None:
        space = await create(client)
        assert problem(await client.patch(f"{URL}/{space['id']}", json=body)) == (422, 25000)


class TestArchive:
    async def test_there_and_back(self, client: httpx.AsyncClient, database: Database) -> None:
        space = await create(client)
        url = f"{URL}/{space['id']}"
        archived = (await client.post(f"{url}/archive")).json()
        assert datetime.fromisoformat(archived["archived_at"]) <= datetime.now(UTC)
        assert (await client.post(f"{url}/archive")).json() == archived
        assert (await client.post(f"{url}/unarchive")).json()["archived_at"] is None
        moment = archived["archived_at"].replace("Z", "+00:00")
        [archiving, unarchiving] = (await audited(database, space["id"]))[1:]
        assert archiving[0] == "space:archive"
        assert archiving[2]["before"] == {"archived_at": None}
        assert datetime.fromisoformat(archiving[2]["after"]["archived_at"]) == datetime.fromisoformat(moment)
        assert unarchiving[0] == "space:unarchive"

    async def test_by_changing_the_field(self, client: httpx.AsyncClient) -> None:
        space = await create(client)
        url = f"{URL}/{space['id']}"
        before = datetime.now(UTC)
        archived = (await client.patch(url, json={"archived_at": "1999-01-01T00:00:00Z"})).json()["archived_at"]
        assert datetime.fromisoformat(archived) >= before, "the moment is ours"
        assert (await client.patch(url, json={"archived_at": None})).json()["archived_at"] is None


# Who may call what: a caller's role in the space, and everywhere.
ALLOWED: Sequence[tuple[str, str, str | None, str | None, int]] = [
    ("GET", "", "viewer", None, 200),
    ("GET", "/{id}", "viewer", None, 200),
    ("PATCH", "/{id}", "viewer", None, 403),
    ("PATCH", "/{id}", "operator", None, 403),
    ("PATCH", "/{id}", "admin", None, 200),
    ("POST", "/{id}/archive", "operator", None, 403),
    ("POST", "/{id}/archive", "admin", None, 200),
    ("POST", "/{id}/unarchive", "viewer", None, 403),
    ("POST", "/{id}/unarchive", "admin", None, 200),
    ("POST", "", "admin", None, 403),
    ("POST", "", None, "operator", 403),
    ("POST", "", None, "admin", 201),
    ("DELETE", "/{id}", "admin", None, 403),
    ("DELETE", "/{id}", None, "operator", 403),
    ("DELETE", "/{id}", None, "admin", 200),
    ("GET", "/{id}/members", "viewer", None, 403),
    ("GET", "/{id}/members", "operator", None, 200),
    ("PUT", "/{id}/members/{user}", "operator", None, 403),
    ("PUT", "/{id}/members/{user}", "admin", None, 200),
    ("DELETE", "/{id}/members/{user}", "operator", None, 403),
    ("DELETE", "/{id}/members/{user}", None, "admin", 204),
]


class TestPermissions:
    @pytest.mark.parametrize(("method", "path", "here", "everywhere", "status"), ALLOWED)
    async def test_each_call(
        self, app: FastAPI, registry: Registry, method: str, path: str, here: str, everywhere: str, status: int
    ) -> None:
        space_id = await registry.space()
        user = await registry.user(role="viewer", space_id=space_id)
        caller = await registry.user(role=here or everywhere, space_id=space_id if here else None)
        body = {"PATCH": {"quota_rows": 1}, "PUT": {"role": "viewer"}, "POST": {"name": "new"}}.get(method)
        async with client_of(app, await signed_in_as(app, caller)) as client:
            url = URL + path.format(id=space_id, user=user)
            answer = await client.request(method, url, json=None if "archive" in path else body)
        assert answer.status_code == status, answer.text
