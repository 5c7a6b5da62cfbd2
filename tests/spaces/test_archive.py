"""An archived space takes nothing more: every call that writes into one is refused, and no such call is forgotten."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app.database import Database
from app.instances.batch_transactions import BatchTransactions
from app.models.base import utc_now
from app.models.space import Space
from app.spaces.service import SpaceArchived, SpaceService
from tests.factories import Registry
from tests.instances.importing import csv_of, import_csv, rows
from tests.spaces.test_routes import problem
from tests.test_openapi import operations

API = "/api/v1"


@dataclass(frozen=True)
class Shelf:
    """What is in an archived space."""

    space_id: int
    instance: int
    deleted_instance: int
    tag: int
    credential: int
    schedule: int
    classification: int

    @property
    def ids(self) -> Mapping[str, int]:
        return {
            "instance_id": self.instance,
            "tag_id": self.tag,
            "credential_id": self.credential,
            "schedule_id": self.schedule,
            "classification_id": self.classification,
        }


@pytest.fixture
async def shelf(registry: Registry, database: Database) -> Shelf:
    space_id = await registry.space()
    credential = await registry.credential(space_id=space_id)
    timing = {"cron": "0 3 * * *", "timezone": "UTC", "kinds": ["accounts"], "filter": {}}
    found = Shelf(
        space_id,
        await registry.instance(space_id=space_id, credential_id=credential),
        await registry.instance(space_id=space_id, deleted_at=datetime.now(UTC)),
        await registry.tag(space_id=space_id),
        credential,
        await registry.insert("schedules", space_id=space_id, name="nightly", **timing),
        await registry.insert("account_classifications", space_id=space_id, name="class", rule={"is_superuser": True}),
    )
    async with database.writers.begin() as session:
        await session.execute(update(Space).where(Space.id == space_id).values(archived_at=utc_now()))
    return found


Request = Callable[[Shelf], Mapping[str, Any]]
_instance = {"name": "new", "db_type": "mysql", "host": "new.example"}
_schedule = {"name": "new", "cron": "0 3 * * *"}
_classification = {"name": "new", "rule": {"is_superuser": True}}
_credential = {"name": "new", "type": "database", "username": "u", "password": "p"}

# How to write into the archived space by each call that could; its answer must be a 409.
REFUSED: Mapping[tuple[str, str], Request] = {
    ("post", "/instances"): lambda shelf: {"json": _instance | {"space_id": shelf.space_id}},
    ("patch", "/instances/{instance_id}"): lambda shelf: {"json": {"description": "changed"}},
    ("post", "/instances/{instance_id}/restore"): lambda shelf: {"instance_id": shelf.deleted_instance},
    ("post", "/instances/batch-create"): lambda shelf: {
        "data": {"space_id": shelf.space_id},
        "files": {"file": csv_of("a,pg,a")},
    },
    ("post", "/instances/batch-tags"): lambda shelf: {"json": {"instance_ids": [shelf.instance], "add": ["new"]}},
    ("post", "/tags"): lambda shelf: {"json": {"name": "new", "space_id": shelf.space_id}},
    ("patch", "/tags/{tag_id}"): lambda shelf: {"json": {"color": "#ffffff"}},
    ("post", "/credentials"): lambda shelf: {"json": _credential | {"space_id": shelf.space_id}},
    ("patch", "/credentials/{credential_id}"): lambda shelf: {"json": {"password": "new"}},
    ("post", "/instances/{instance_id}/sync"): lambda shelf: {"json": {}},
    ("post", "/syncs"): lambda shelf: {"json": {"instance_ids": [shelf.instance]}},
    ("post", "/schedules"): lambda shelf: {"json": _schedule | {"space_id": shelf.space_id}},
    ("patch", "/schedules/{schedule_id}"): lambda shelf: {"json": {"paused": True}},
    ("post", "/schedules/{schedule_id}/run"): lambda shelf: {},
    ("post", "/classifications"): lambda shelf: {"json": _classification | {"space_id": shelf.space_id}},
    ("patch", "/classifications/{classification_id}"): lambda shelf: {"json": {"priority": 7}},
}
# What an archived space still takes, and why.
ALLOWED: Mapping[tuple[str, str], str] = {
    ("delete", "/instances/{instance_id}"): "deleting goes on",
    ("post", "/instances/batch-delete"): "deleting goes on",
    ("post", "/instances/batch-delete/precheck"): "it changes nothing",
    ("post", "/operations/{operation_id}/cancel"): "stopping goes on",
    ("post", "/operations/{operation_id}/resume"): "its worker is refused, or it deletes",
    ("post", "/operations/{operation_id}/retry"): "its worker is refused, or it deletes",
    ("delete", "/operations/{operation_id}"): "deleting goes on",
    ("delete", "/tags/{tag_id}"): "deleting goes on",
    ("delete", "/credentials/{credential_id}"): "deleting goes on",
    ("delete", "/schedules/{schedule_id}"): "deleting goes on",
    ("delete", "/classifications/{classification_id}"): "deleting goes on",
    ("post", "/classifications/evaluate"): "it changes nothing",
    ("post", "/connections/test"): "it changes nothing",
    ("post", "/instances/{instance_id}/test-connection"): "whether a server is reached can still be looked at",
    ("post", "/instances/batch-test-connections"): "whether servers are reached can still be looked at",
    ("post", "/spaces"): "it makes another one",
    ("patch", "/spaces/{space_id}"): "the space itself is not in the space",
    ("delete", "/spaces/{space_id}"): "deleting goes on",
    ("post", "/spaces/{space_id}/archive"): "it is archived",
    ("post", "/spaces/{space_id}/unarchive"): "else it would be for ever",
    ("put", "/spaces/{space_id}/members/{user_id}"): "who may see it can still be decided",
    ("delete", "/spaces/{space_id}/members/{user_id}"): "who may see it can still be decided",
    ("post", "/maintenance/orphans/clean"): "it removes what belongs to nobody",
}
# Nothing below these belongs to a space.
ELSEWHERE = ("/auth", "/users", "/roles", "/api-keys", "/notifications", "/audit")


class TestEveryCallThatWrites:
    async def test_is_refused_or_allowed_for_a_reason(self, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        writing = {
            (method, path.removeprefix(API))
            for method, path, _ in operations(document)
            if method != "get" and not path.removeprefix(API).startswith(ELSEWHERE)
        }
        assert writing == REFUSED.keys() | ALLOWED.keys()

    @pytest.mark.parametrize(("method", "path"), REFUSED)
    async def test_is_refused(
        self, client: httpx.AsyncClient, registry: Registry, shelf: Shelf, method: str, path: str
    ) -> None:
        before = await registry.counts()
        request = dict(REFUSED[method, path](shelf))
        ids = {name: request.pop(name, value) for name, value in shelf.ids.items()}
        answer = await client.request(method, API + path.format(**ids), **request)
        assert problem(answer) == (409, 25016)
        assert "archived" in answer.json()["detail"]
        after = await registry.counts()
        assert after | {"audit_events": 0} == before | {"audit_events": 0}

    @pytest.mark.parametrize(("method", "path"), REFUSED)
    async def test_would_write_otherwise(self, client: httpx.AsyncClient, shelf: Shelf, method: str, path: str) -> None:
        """The test above sees something."""
        assert (await client.post(f"{API}/spaces/{shelf.space_id}/unarchive")).status_code == 200
        request = dict(REFUSED[method, path](shelf))
        ids = {name: request.pop(name, value) for name, value in shelf.ids.items()}
        answer = await client.request(method, API + path.format(**ids), **request)
        assert answer.is_success, answer.text


class TestWhatGoesOn:
    async def test_reading_exporting_and_deleting(self, client: httpx.AsyncClient, shelf: Shelf) -> None:
        space = {"space_id": shelf.space_id}
        assert len((await client.get(f"{API}/instances", params=space)).json()["items"]) == 1
        assert (await client.get(f"{API}/instances/export", params=space)).text.count("\n") == 2
        assert (await client.delete(f"{API}/instances/{shelf.instance}")).status_code == 200
        assert (await client.delete(f"{API}/instances/{shelf.instance}", params={"mode": "hard"})).status_code == 200
        assert (await client.delete(f"{API}/tags/{shelf.tag}", params={"force": True})).status_code == 204
        assert (await client.delete(f"{API}/credentials/{shelf.credential}")).status_code == 204


class TestRaces:
    async def test_archiving_waits_for_those_who_are_adding(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        """Once it is answered, nothing comes after."""
        space_id = await registry.space()
        async with database.writers.begin() as session:
            await SpaceService(session).hold_open(space_id)
            archiving = asyncio.create_task(client.post(f"{API}/spaces/{space_id}/archive"))
            done, _ = await asyncio.wait([archiving], timeout=0.3)
            assert not done
        assert (await archiving).status_code == 200
        with pytest.raises(SpaceArchived):
            async with database.writers.begin() as session:
                await SpaceService(session).hold_open(space_id)

    @pytest.mark.parametrize("path", ["archive", "delete"])
    async def test_an_import_meets_it_row_by_row(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        path: str,
    ) -> None:
        space_id = await registry.space()
        url = f"{API}/spaces/{space_id}"
        rivals: list[Callable[[], Awaitable[httpx.Response]]] = [
            lambda: client.post(f"{url}/archive") if path == "archive" else client.delete(url)
        ]
        run = BatchTransactions.run

        async def after_the_rival(self: BatchTransactions, *arguments: Any) -> Any:
            while rivals:
                assert (await rivals.pop()()).status_code == 200
            return await run(self, *arguments)

        monkeypatch.setattr(BatchTransactions, "run", after_the_rival)
        report = await import_csv(client, csv_of(*rows(2)), space_id=space_id)
        assert report.counts == {"rows": 2, "failed": 2}
        assert report.errors(2) == [(None, "conflict")]
        message = report.item(2)["errors"][0]["message"]
        assert ("archived" if path == "archive" else "no space") in message
