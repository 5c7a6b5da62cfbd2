"""Who, from where and by which call: filled in by itself, and nothing in it can be forged or break a line."""

from typing import Any

import httpx
import pytest
from asgi_correlation_id import correlation_id
from fastapi import FastAPI

from app.audit.context import current_context
from app.audit.recorder import AuditEntry, record, record_many
from app.caller import Call, Caller, calling
from app.database import Database
from tests.audit.trail import newest
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of

TAG = {"name": "core"}


class TestColumns:
    async def test_tell_who_from_where_and_by_which_call(
        self, client: httpx.AsyncClient, admin: int, database: Database
    ) -> None:
        answer = await client.post("/api/v1/tags?x=secret", json=TAG, headers={"X-Request-ID": "abc-123"})
        assert answer.status_code == 201
        [entry] = await newest(database, action="tag:create")
        assert entry["actor_id"] == admin
        assert entry["actor_name"].startswith("user-")
        assert entry["api_key_prefix"] is None
        assert entry["client_address"] == "127.0.0.1"
        assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/api/v1/tags", 201)
        assert 0 <= entry["duration_ms"] < 60_000
        assert entry["request_id"] == "abc-123"

    async def test_name_the_key_by_its_prefix_only(self, app: FastAPI, admin: int, database: Database) -> None:
        headers = await key_of(app, admin)
        async with client_of(app, headers) as script:
            await script.post("/api/v1/tags", json=TAG)
        [entry] = await newest(database, action="tag:create")
        assert entry["actor_id"] == admin
        assert headers["X-API-Key"].startswith(entry["api_key_prefix"])
        assert headers["X-API-Key"] not in repr(entry)

    @pytest.mark.parametrize("mode", ["soft", "hard"])
    async def test_are_filled_by_the_deletion_program_too(
        self, client: httpx.AsyncClient, admin: int, database: Database, registry: Registry, mode: str
    ) -> None:
        instance_id = await registry.instance()
        await client.delete(f"/api/v1/instances/{instance_id}?mode={mode}", headers={"X-Request-ID": "abc-123"})
        [entry] = await newest(database, action="instance:delete")
        shown = [entry[name] for name in ("actor_id", "client_address", "method", "path", "status", "request_id")]
        path = f"/api/v1/instances/{instance_id}"
        assert shown == [admin, "127.0.0.1", "DELETE", path, 200, "abc-123"]
        assert entry["duration_ms"] >= 0

    @pytest.mark.parametrize("is_bulk", [False, True])
    async def test_are_the_same_in_bulk(self, database: Database, is_bulk: bool) -> None:
        entry = AuditEntry("x:y", "x", None, None, None)
        call = Call("PUT", "/p", "192.0.2.1", Caller(3, "ada", "mk_abc"), status=204)
        token = correlation_id.set("r-1")
        with calling(call):
            async with database.writers.begin() as session:
                await (record_many(session, [entry]) if is_bulk else record(session, entry))
        correlation_id.reset(token)
        [stored] = await newest(database)
        names = ("actor_id", "actor_name", "api_key_prefix", "client_address", "method", "path", "status", "request_id")
        assert [stored[name] for name in names] == [3, "ada", "mk_abc", "192.0.2.1", "PUT", "/p", 204, "r-1"]

    def test_of_the_service_itself(self) -> None:
        context = current_context()
        assert (context.actor_id, context.actor_name, context.method) == (None, "muster", None)


class TestWhatTheClientSent:
    @pytest.mark.parametrize(
        ("path", "stored"),
        [
            ("/a\nb", "/a%0Ab"),
            ("/a\r\n127.0.0.1 GET /", "/a%0D%0A127.0.0.1 GET /"),
            ("/\x00\x1b[31m", "/%00%1B[31m"),
            ("/\u202egnp.exe", "/%E2%80%AEgnp.exe"),
            ("/\u2028x", "/%E2%80%A8x"),
            ("/\ud800", "/%ED%A0%80"),
            ("/\u6570\u636e \U0001f418", "/\u6570\u636e \U0001f418"),
            ("/%0A", "/%0A"),
            ("/" + "x" * 600, "/" + "x" * 499),
            ("/" + "\n" * 600, ("/" + "%0A" * 200)[:500]),
        ],
    )
    async def test_is_cut_and_holds_no_control_characters(self, database: Database, path: str, stored: str) -> None:
        with calling(Call("GET", path, "192.0.2.1")):
            async with database.writers.begin() as session:
                await record(session, AuditEntry("x:y", "x", None, None, None))
        [entry] = await newest(database)
        assert entry["path"] == stored

    async def test_whatever_stands_for_method_and_address(self, database: Database) -> None:
        with calling(Call("X" * 40 + "\n", "/", "evil\r\n" + "y" * 100)):
            async with database.writers.begin() as session:
                await record(session, AuditEntry("x:y", "x", None, None, None))
        [entry] = await newest(database)
        assert (entry["method"], entry["client_address"]) == ("X" * 16, ("evil%0D%0A" + "y" * 100)[:64])

    @pytest.mark.parametrize("value", ["a b", "x" * 65, "a\tb", "a;b", "\u6570", "<script>"])
    async def test_a_request_id_that_could_forge_a_line_is_not_taken(
        self, client: httpx.AsyncClient, database: Database, value: str
    ) -> None:
        headers: Any = {b"X-Request-ID": value.encode()}
        await client.post("/api/v1/tags", json=TAG, headers=headers)
        [entry] = await newest(database, action="tag:create")
        assert entry["request_id"] not in (None, value)
        assert entry["request_id"].isalnum()

    async def test_headers_cannot_fill_columns(self, client: httpx.AsyncClient, database: Database) -> None:
        forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9",
                  "X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/elsewhere", "X-User": "root"}  # fmt: skip
        await client.post("/api/v1/tags", json=TAG, headers=forged)
        [entry] = await newest(database, action="tag:create")
        assert (entry["client_address"], entry["method"], entry["path"]) == ("127.0.0.1", "POST", "/api/v1/tags")
