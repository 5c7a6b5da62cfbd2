"""`GET /audit`, `/audit/export` and `/audit/head`."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from app.access.permissions import Permission
from app.audit import export, repository
from app.audit.export import COLUMNS
from app.config import Settings
from app.csv_cells import restored
from app.database import Database
from tests.audit.trail import FULL, MOMENT, add, events, seal, sealed
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of, signed_in_as

URL = "/api/v1/audit"
EXPORT_URL = f"{URL}/export"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The server's own sealer stays out of the way."""
    return settings.model_copy(update={"audit_seal_seconds": 3600.0})


async def read(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def names(client: httpx.AsyncClient, **query: Any) -> list[str]:
    return [item["resource_name"] for item in (await read(client, **query))["items"]]


async def exported(client: httpx.AsyncClient, **query: Any) -> list[dict[str, str]]:
    answer = await client.get(EXPORT_URL, params=query)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8"), newline="")))


class TestList:
    async def test_an_entry_shows_everything(self, client: httpx.AsyncClient, database: Database) -> None:
        await add(database)
        await seal(database)
        [item] = (await read(client))["items"]
        assert set(item) == set(events.c.keys())
        expected = {
            **FULL,
            "occurred_at": "2026-11-22T19:36:03.120045Z",
            "batch_id": str(FULL["batch_id"]),
            "id": 1,
            "sequence": 1,
            "seal": item["seal"],
        }
        assert item == expected
        assert len(item["seal"]) == 64

    async def test_newest_first_unless_asked_otherwise(self, client: httpx.AsyncClient, database: Database) -> None:
        for name in "abc":
            await add(database, resource_name=name)
        assert await names(client) == ["c", "b", "a"]
        assert await names(client, sort="id") == ["a", "b", "c"]
        assert (await client.get(URL, params={"sort": "occurred_at"})).status_code == 422

    @pytest.mark.parametrize("sort", ["-id", "id"])
    async def test_pages_go_on_behind_the_last_entry(
        self, client: httpx.AsyncClient, database: Database, sort: str
    ) -> None:
        for number in range(5):
            await add(database, resource_name=str(number))
        found, cursor = [], None
        while True:
            page = await read(client, limit=2, sort=sort, **({"cursor": cursor} if cursor else {}))
            found += [item["resource_name"] for item in page["items"]]
            await add(database, resource_name="newer") if sort == "-id" else None
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found == (["4", "3", "2", "1", "0"] if sort == "-id" else ["0", "1", "2", "3", "4"])

    async def test_a_total_only_when_asked_for(self, client: httpx.AsyncClient, database: Database) -> None:
        await add(database, 3)
        await add(database, outcome="failed")
        assert "total" not in await read(client)
        assert (await read(client, include_total=True, limit=1))["total"] == 4
        assert (await read(client, include_total=True, outcome="failed"))["total"] == 1

    async def test_what_was_just_done_is_there(self, client: httpx.AsyncClient) -> None:
        await client.post("/api/v1/tags", json={"name": "core"}, headers={"X-Request-ID": "abc-123"})
        [item] = (await read(client, request_id="abc-123"))["items"]
        assert (item["action"], item["resource_name"], item["sequence"]) == ("tag:create", "core", None)
        assert item["changes"]["after"]["name"] == "core"


BATCH = UUID("7c52da63-09b4-4743-859b-c17f3f0a9c1d")
# A filter, and what only the entry that is wanted has.
FILTERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"actor": "bob"}, {"actor_name": "bob"}),
    ({"actor": "4711"}, {"actor_id": 4711}),
    ({"actor": "99999999999999999999"}, {"actor_name": "99999999999999999999"}),
    ({"api_key_prefix": "mk_other"}, {"api_key_prefix": "mk_other"}),
    ({"action": "tag:create"}, {"action": "tag:create"}),
    ({"action": "tag:"}, {"action": "tag:delete"}),
    ({"action": "api_key:"}, {"action": "api_key:create"}),
    ({"resource_type": "tag"}, {"resource_type": "tag"}),
    ({"resource_id": 18}, {"resource_id": 18}),
    ({"outcome": "denied"}, {"outcome": "denied"}),
    ({"batch_id": str(BATCH)}, {"batch_id": BATCH}),
    ({"request_id": "r-2"}, {"request_id": "r-2"}),
    ({"space_id": 99}, {"space_id": 99}),
    ({"since": "2026-11-22T19:36:03.120046Z"}, {"occurred_at": MOMENT + timedelta(microseconds=1)}),
    ({"since": "2026-11-22T20:36:03.120046+01:00"}, {"occurred_at": MOMENT + timedelta(microseconds=1)}),
    ({"since": "2026-11-22T19:36:03.120046"}, {"occurred_at": MOMENT + timedelta(days=1)}),
    ({"since": "2026-11-23"}, {"occurred_at": MOMENT + timedelta(days=1)}),
    ({"until": "2026-11-22T19:36:03.120045Z"}, {"occurred_at": MOMENT - timedelta(microseconds=1)}),
    ({"since": "2026-11-01Z"[:-1], "until": "2026-11-02"}, {"occurred_at": MOMENT - timedelta(days=21)}),
    ({"action": "tag:", "outcome": "failed", "actor": "bob"},
     {"action": "tag:x", "outcome": "failed", "actor_name": "bob"}),
]  # fmt: skip


class TestFilters:
    @pytest.mark.parametrize(("query", "values"), FILTERS, ids=lambda each: str(each)[:40])
    async def test_find_what_is_wanted_in_list_and_export(
        self, client: httpx.AsyncClient, database: Database, query: dict[str, Any], values: dict[str, Any]
    ) -> None:
        await add(database, 3, resource_name="other")
        await add(database, action="apixkey:create", resource_name="other")
        await add(database, **values | {"resource_name": "wanted"})
        assert await names(client, **query) == ["wanted"]
        assert [row["resource_name"] for row in await exported(client, **query)] == ["wanted"]

    @pytest.mark.parametrize(
        "query",
        [{"action": "nonsense"}, {"action": "%:"}, {"outcome": "nice"}, {"batch_id": "x"}, {"resource_id": 0},
         {"resource_id": "x"}, {"since": "yesterday"}, {"since": "0001-01-01T00:00:00+14:00"},
         {"until": "9999-12-31T23:59:59-14:00"}, {"actor": "a\x00b"}, {"request_id": "x" * 65}, {"space_id": 2**63}],
        ids=str,
    )  # fmt: skip
    @pytest.mark.parametrize("url", [URL, EXPORT_URL])
    async def test_that_make_no_sense_are_refused(
        self, client: httpx.AsyncClient, query: dict[str, Any], url: str
    ) -> None:
        answer = await client.get(url, params=query)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("moment", ["0001-01-01", "9999-12-31T23:59:59.999999Z", "0", "0099-01-01T00:00:00Z"])
    async def test_moments_at_the_edge(self, client: httpx.AsyncClient, database: Database, moment: str) -> None:
        await add(database)
        since = await names(client, since=moment)
        until = await names(client, until=moment)
        assert len(since) + len(until) == 1
        assert len(until) == moment.startswith("9999")


class TestTenants:
    @pytest.fixture
    async def spaces(self, registry: Registry, database: Database) -> tuple[int, int]:
        first, second = await registry.space(), await registry.space()
        for space_id, name in ((first, "of first"), (second, "of second"), (None, "of none")):
            await add(database, space_id=space_id, resource_name=name)
        return first, second

    @pytest.fixture
    async def auditor(
        self, app: FastAPI, registry: Registry, spaces: tuple[int, int]
    ) -> AsyncIterator[httpx.AsyncClient]:
        """May read the trail of the first space."""
        role_id = await registry.role(permissions=[Permission.AUDIT_READ])
        user_id = await registry.user()
        await registry.grant(user_id, role_id, spaces[0])
        async with client_of(app, await signed_in_as(app, user_id)) as client:
            yield client

    async def test_an_auditor_of_one_space_sees_its_entries_only(self, auditor: httpx.AsyncClient) -> None:
        assert await names(auditor) == ["of first"]
        assert (await read(auditor, include_total=True))["total"] == 1
        assert [row["resource_name"] for row in await exported(auditor)] == ["of first"]

    async def test_another_space_does_not_exist_for_them(
        self, auditor: httpx.AsyncClient, spaces: tuple[int, int]
    ) -> None:
        assert await names(auditor, space_id=spaces[0]) == ["of first"]
        for url in (URL, EXPORT_URL):
            for space_id in (spaces[1], 999):
                answer = await auditor.get(url, params={"space_id": space_id})
                assert (answer.status_code, answer.json()["code"]) == (404, 25015)

    async def test_an_auditor_everywhere_sees_all(self, client: httpx.AsyncClient, spaces: tuple[int, int]) -> None:
        assert await names(client) == ["of none", "of second", "of first"]
        assert await names(client, space_id=spaces[1]) == ["of second"]

    async def test_and_what_was_done_in_a_space_that_is_gone(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await add(database, space_id=999, resource_name="of one that is gone")
        assert await names(client, space_id=999) == ["of one that is gone"]

    async def test_the_head_is_of_the_whole_trail(self, auditor: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
        assert (await auditor.get(f"{URL}/head")).status_code == 403
        assert (await client.get(f"{URL}/head")).status_code == 200

    async def test_without_the_permission_nothing_is_shown(self, app: FastAPI, admin: int, registry: Registry) -> None:
        viewer = await signed_in_as(app, await registry.user(role="operator"))
        for headers in (viewer, await key_of(app, admin, (Permission.INSTANCE_READ,))):
            async with client_of(app, headers) as client:
                for url in (URL, EXPORT_URL, f"{URL}/head"):
                    assert (await client.get(url)).status_code == 403


class TestExport:
    async def test_has_every_column(self, client: httpx.AsyncClient, database: Database) -> None:
        await sealed(database, 1)
        answer = await client.get(EXPORT_URL)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == 'attachment; filename="audit.csv"'
        [row] = csv.DictReader(io.StringIO(answer.text, newline=""))
        assert tuple(row) == COLUMNS
        assert set(COLUMNS) == set(events.c.keys())
        assert json.loads(row["changes"]) == FULL["changes"]
        assert row["occurred_at"] == "2026-11-22T19:36:03.120045Z"
        assert (row["outcome"], row["batch_id"], row["sequence"]) == ("succeeded", str(FULL["batch_id"]), "1")

    async def test_nothing_is_an_empty_cell(self, client: httpx.AsyncClient, database: Database) -> None:
        nothing = {name: None for name in FULL if events.c[name].nullable}
        await add(database, **nothing)
        [row] = await exported(client)
        assert {row[name] for name in nothing} == {""}

    @pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1", "'=x", "\tx"])
    async def test_no_cell_is_a_formula(self, client: httpx.AsyncClient, database: Database, text: str) -> None:
        await add(database, resource_name=text, actor_name=text, path=text)
        [row] = await exported(client)
        for name in ("resource_name", "actor_name", "path"):
            assert row[name][0] == "'"
            assert restored(row[name]) == text

    @pytest.mark.parametrize("entries", [0, 1, 4, 5, 6, 10, 11])
    async def test_in_pages_and_pieces(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, entries: int
    ) -> None:
        monkeypatch.setattr(export, "PAGE_ENTRIES", 5)
        monkeypatch.setattr(export, "PIECE_ENTRIES", 2)
        if entries:
            await add(database, entries)
        assert [row["id"] for row in await exported(client)] == [str(id) for id in range(entries, 0, -1)]

    async def test_a_failure_before_the_first_byte_is_a_problem(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            raise OperationalError("x", None, OSError("gone"))

        monkeypatch.setattr(repository, "page_before", fail)
        answer = await client.get(EXPORT_URL)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.status_code >= 500


class TestHead:
    async def test_is_the_newest_sealed_entry(self, client: httpx.AsyncClient, database: Database) -> None:
        await sealed(database, 3)
        await add(database, 2)
        newest = (await read(client, sort="id"))["items"][2]
        head = (await client.get(f"{URL}/head")).json()
        assert head.pop("read_at").endswith("Z")
        assert head == {"sequence": 3, "seal": newest["seal"], "entries": 3, "unsealed": 2}
