"""Whose operations a caller sees, and may do something with: their own; others' where they may read all."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from app.access.permissions import Permission
from app.database import Database
from tests.conftest import client_of
from tests.factories import Registry
from tests.operations.rows import operation_of
from tests.signing_in import key_of, signed_in_as
from tests.users.acting import user_with

URL = "/api/v1/operations"
READ, READ_ALL = Permission.OPERATION_READ, Permission.OPERATION_READ_ALL
EVERY = (READ, READ_ALL, Permission.OPERATION_CANCEL, Permission.OPERATION_DELETE)
OWN = (READ, Permission.OPERATION_CANCEL, Permission.OPERATION_DELETE)
CALLS = (
    ("GET", ""),
    ("GET", "/items"),
    ("GET", "/events"),
    ("POST", "/cancel"),
    ("POST", "/resume"),
    ("POST", "/retry"),
    ("DELETE", ""),
)


@dataclass(frozen=True)
class Others:
    """Somebody's operations: in a space, in another, and in several at once."""

    space_id: int
    here: int
    elsewhere: int
    across: int

    @property
    def all(self) -> set[int]:
        return {self.here, self.elsewhere, self.across}


@pytest.fixture
async def others(registry: Registry) -> Others:
    user_id = await registry.user(role="operator")
    space_id, other = await registry.space(), await registry.space()
    ids = [
        await operation_of(registry, user_id, ("deleted", "failed"), space_id=each) for each in (space_id, other, None)
    ]
    return Others(space_id, *ids)


async def client_for(app: FastAPI, user_id: int) -> httpx.AsyncClient:
    return client_of(app, await signed_in_as(app, user_id))


async def seen_by(client: httpx.AsyncClient) -> set[int]:
    body = (await client.get(URL, params={"include_total": True})).json()
    assert body["total"] == len(body["items"])
    return {each["id"] for each in body["items"]}


async def refused_of(client: httpx.AsyncClient, operation_ids: Sequence[int]) -> list[tuple[str, str, int, int]]:
    """Every call on every operation, as it was answered."""
    return [
        (method, path, operation_id, (await client.request(method, f"{URL}/{operation_id}{path}")).status_code)
        for operation_id in operation_ids
        for method, path in CALLS
    ]


class TestOnesOwn:
    async def test_are_seen_in_whatever_space_they_work(self, app: FastAPI, registry: Registry, others: Others) -> None:
        user_id = await user_with(registry, *OWN, space_id=await registry.space())
        own = {await operation_of(registry, user_id, space_id=each) for each in (others.space_id, None)}
        async with await client_for(app, user_id) as client:
            assert await seen_by(client) == own
            for operation_id in own:
                assert (await client.get(f"{URL}/{operation_id}")).json()["created_by"] == user_id

    async def test_nobody_elses_exists(
        self, app: FastAPI, registry: Registry, database: Database, others: Others
    ) -> None:
        before = await registry.counts()
        async with await client_for(app, await user_with(registry, *OWN)) as client:
            counts_with_user = await registry.counts()
            assert await seen_by(client) == set()
            answers = await refused_of(client, sorted(others.all))
            assert {status for *_, status in answers} == {404}, answers
        after = await registry.counts()
        for name in ("operations", "operation_items"):
            assert after[name] == counts_with_user[name] == before[name]

    async def test_with_a_key_as_with_a_token(self, app: FastAPI, registry: Registry, others: Others) -> None:
        user_id = await user_with(registry, *OWN)
        own = await operation_of(registry, user_id)
        async with client_of(app, await key_of(app, user_id, OWN)) as client:
            assert await seen_by(client) == {own}


class TestReadAll:
    async def test_in_one_space(self, app: FastAPI, registry: Registry, others: Others) -> None:
        """Of what works in several spaces a part is not this one's."""
        user_id = await user_with(registry, *EVERY, space_id=others.space_id)
        own = await operation_of(registry, user_id)
        async with await client_for(app, user_id) as client:
            assert await seen_by(client) == {own, others.here}
            answers = await refused_of(client, [others.elsewhere, others.across])
            assert {status for *_, status in answers} == {404}, answers
            assert (await client.get(f"{URL}/{others.here}/items")).status_code == 200
            assert (await client.get(f"{URL}/{others.here}/events")).status_code == 200
            assert (await client.post(f"{URL}/{others.here}/retry")).status_code == 202
            assert (await client.post(f"{URL}/{others.here}/cancel")).status_code == 200
            assert (await client.delete(f"{URL}/{others.here}")).status_code == 204

    async def test_everywhere(self, client: httpx.AsyncClient, others: Others) -> None:
        assert await seen_by(client) == others.all

    async def test_not_with_a_key_that_has_it_not(
        self, app: FastAPI, admin: int, registry: Registry, others: Others
    ) -> None:
        own = await operation_of(registry, admin)
        async with client_of(app, await key_of(app, admin, OWN)) as client:
            assert await seen_by(client) == {own}
            answers = await refused_of(client, sorted(others.all))
            assert {status for *_, status in answers} == {404}, answers

    async def test_gives_no_right_to_change(self, app: FastAPI, registry: Registry, others: Others) -> None:
        """Who may see everybody's here, and cancel and delete in another space, changes nobody's here."""
        user_id = await user_with(registry, READ, READ_ALL, space_id=others.space_id)
        elsewhere = await registry.role(permissions=OWN)
        await registry.grant(user_id, elsewhere, await registry.space())
        async with await client_for(app, user_id) as client:
            for method, path in CALLS:
                answer = await client.request(method, f"{URL}/{others.here}{path}")
                assert answer.status_code == (200 if method == "GET" else 404), (method, path)


class TestWithout:
    @pytest.mark.parametrize(("method", "path"), CALLS)
    async def test_the_permission_of_the_call(self, app: FastAPI, registry: Registry, method: str, path: str) -> None:
        """One's own or not."""
        needed = READ if method == "GET" else Permission.OPERATION_DELETE if method == "DELETE" else EVERY[2]
        user_id = await user_with(registry, *(set(EVERY) - {needed}))
        operation_id = await operation_of(registry, user_id)
        async with await client_for(app, user_id) as client:
            assert (await client.request(method, f"{URL}/{operation_id}{path}")).status_code == 403
