"""Requests as nobody sends them by accident: odd paths, odd methods, odd headers."""

from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.database import Database
from app.models.audit import AuditEvent
from tests.factories import Registry

BYTES_10_KIB = 10 * 1024


async def ask(
    app: FastAPI, method: str, raw_path: str, headers: list[tuple[bytes, bytes]] | None = None, path: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; the path goes in as a server hands it over, which a client would have tidied up."""
    body, start = b"", {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal body
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body += message.get("body", b"")

    raw, _, query = raw_path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(raw) if path is None else path,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"muster.test"), *(headers or ())],
        "client": ("127.0.0.1", 1),
        "server": ("muster.test", 80),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    await app(scope, receive, send)
    return start["status"], {name.decode(): value.decode("latin-1") for name, value in start["headers"]}, body


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "//api/v1/tags",
            "/api//v1/tags",
            "/api/v1//tags",
            "/api/v1/../v1/tags",
            "/api/v1/./tags",
            "/api/v1/%2e%2e/v1/tags",
            "/api/v1/tags/%2e%2e/tags",
            "/api%2fv1%2ftags/",
            "/api/v1/tags;x=1",
            "/api/v1/tags%00",
            "/api/v1/tags%20",
            "/api/v1/TAGS",
            "/API/v1/tags",
            "/api/v1/tags%0d%0aX-Injected:%201",
            "/health/live/../../api/v1/tags",
            "/static-offline-docs/../api/v1/tags",
            "/static-offline-docs/..%2f..%2fmain.py",
            "/static-offline-docs/%2e%2e/core.py",
            "/api/v1/tags/1%2f..%2f2",
            "/api/v1/tags/-1",
            "/api/v1/tags/1e3",
            "/api/v1/tags/99999999999999999999",
            "/api/v1/tags/٣",
            "/api/v1/tags/" + "1" * BYTES_10_KIB,
            "/" + "a" * BYTES_10_KIB,
        ],
    )
    async def test_lead_nobody_in(self, app: FastAPI, registry: Registry, path: str) -> None:
        """A stranger gets what a stranger gets, or nothing: never rows, a file, or a failure of ours."""
        await registry.tag("hidden-tag")
        status, headers, body = await ask(app, "GET", path)
        assert status in (307, 400, 401, 404, 422), body
        assert b"hidden-tag" not in body
        assert b"import " not in body
        assert "x-injected" not in headers

    @pytest.mark.parametrize(
        "path", ["/api/v1/../metrics", "/api/v1/tags/../../../metrics", "/api/v1/%2e%2e/%2e%2e/docs"]
    )
    async def test_are_not_tidied_up_into_others(self, app: FastAPI, path: str) -> None:
        status, _, _ = await ask(app, "GET", path)
        assert status in (401, 404)

    @pytest.mark.parametrize("path", ["/api/v1/tags/", "/api/v1/instances/", "/health/live/"])
    async def test_with_a_slash_at_the_end_lead_nowhere_else(self, app: FastAPI, path: str) -> None:
        status, headers, _ = await ask(app, "GET", path, [(b"host", b"muster.test")])
        assert status in (307, 401, 404)
        if status == 307:
            assert headers["location"] in (path.rstrip("/"), f"http://muster.test{path.rstrip('/')}")

    async def test_beginning_with_two_slashes_are_no_redirect_elsewhere(self, app: FastAPI) -> None:
        status, headers, _ = await ask(app, "GET", "//evil.example/api/v1/tags/", path="//evil.example/api/v1/tags/")
        assert status == 404
        assert "location" not in headers

    @pytest.mark.parametrize("path", ["/api/v1/tags/%00", "/api/v1/tags/1%0a2", "/%ff%fe", "/%ed%a0%80"])
    async def test_of_no_readable_text_are_not_found(self, app: FastAPI, path: str) -> None:
        status, _, _ = await ask(app, "GET", path)
        assert status in (400, 401, 404)


class TestMethods:
    @pytest.mark.parametrize(
        "header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"]
    )
    async def test_cannot_be_changed_by_a_header(
        self, client: httpx.AsyncClient, registry: Registry, header: str
    ) -> None:
        url = f"/api/v1/tags/{await registry.tag()}"
        value = url if "URL" in header else "DELETE"
        assert (await client.get(url, headers={header: value})).status_code == 200
        assert (await client.post(f"{url}?_method=DELETE", headers={header: value})).status_code == 405
        assert (await client.get(url)).status_code == 200

    @pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get", "GET /", "\x00"])
    async def test_that_there_are_not_are_refused(self, app: FastAPI, method: str) -> None:
        status, _, body = await ask(app, method, "/api/v1/tags")
        assert status == 405
        assert b'"code":25000' in body


class TestHeaders:
    @pytest.mark.parametrize(
        "value",
        [b"a\r\nX-Injected: 1", b"a b", b"<script>", b"../../etc", b"x" * 65, b"", b"\xff\xfe", b"a,b", b"a\x00"],
    )
    async def test_a_request_id_that_is_none_is_replaced(self, app: FastAPI, value: bytes) -> None:
        _, headers, body = await ask(app, "GET", "/nowhere", [(b"x-request-id", value)])
        assert "x-injected" not in headers
        assert len(headers["x-request-id"]) == 32
        assert headers["x-request-id"].encode() in body

    async def test_one_that_is_one_is_taken(self, app: FastAPI) -> None:
        _, headers, _ = await ask(app, "GET", "/nowhere", [(b"x-request-id", b"Trace.42_a-b")])
        assert headers["x-request-id"] == "Trace.42_a-b"

    @pytest.mark.parametrize(
        "name", [b"authorization", b"x-api-key", b"if-match", b"content-type", b"cookie", b"origin"]
    )
    @pytest.mark.parametrize("value", [b"\xff\xfe", b"\x00", b"a" * 100_000, b"Bearer \xf0\x9f\x98\x80", b"mst_\xff"])
    async def test_rubbish_is_no_failure_of_ours(self, app: FastAPI, name: bytes, value: bytes) -> None:
        for method, path in (("GET", "/api/v1/tags"), ("POST", "/api/v1/auth/login")):
            status, _, _ = await ask(app, method, path, [(name, value)])
            assert status in (401, 413, 422), path

    @pytest.mark.parametrize(
        "headers",
        [{"If-Match": '"\udcff"'.encode("utf-8", "surrogateescape")}, {"If-None-Match": b'W/"' + b"9" * 5_000}],
    )
    async def test_nor_is_rubbish_of_somebody_known(
        self, client: httpx.AsyncClient, registry: Registry, headers: dict[str, bytes]
    ) -> None:
        answer = await client.patch(f"/api/v1/tags/{await registry.tag()}", json={"name": "n"}, headers=headers)
        assert answer.status_code < 500

    async def test_a_path_in_the_audit_trail_is_what_was_asked(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        answer = await client.delete("/api/v1/tags/77?password=in-the-query")
        assert answer.status_code == 404
        async with database.readers() as session:
            assert (await session.execute(select(AuditEvent.path))).scalars().all() == ["/api/v1/tags/77"]


class TestQueries:
    @pytest.mark.parametrize(
        "query",
        [
            "q=%00",
            "q=%ff%fe",
            "q=%27%20OR%201=1--",
            "limit=50&limit=-1",
            "cursor=%00",
            "sort=name;drop",
            "q=" + "a" * BYTES_10_KIB,
        ],
    )
    async def test_rubbish_is_no_failure_of_ours(self, client: httpx.AsyncClient, query: str) -> None:
        assert (await client.get(f"/api/v1/tags?{query}")).status_code in (200, 400, 422)
