"""What every answer tells browsers."""

import base64
import hashlib
import re

import httpx
import pytest
from fastapi import FastAPI

from app.tags.service import TagService
from tests.conftest import client_of

NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def assert_safe(answer: httpx.Response) -> None:
    headers = answer.headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("x-frame-options") == ["DENY"]
    assert headers.get_list("referrer-policy") == ["no-referrer"]
    assert headers.get_list("cross-origin-opener-policy") == ["same-origin"]
    assert len(headers.get_list("content-security-policy")) == 1
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert len(headers.get_list("x-request-id")) == 1
    assert "server" not in headers


class TestEveryAnswer:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/api/v1/tags", 200),
            ("GET", "/api/v1/tags?limit=0", 422),
            ("GET", "/api/v1/tags/999", 404),
            ("GET", "/nowhere", 404),
            ("PUT", "/api/v1/tags", 405),
            ("GET", "/health/live", 200),
            ("GET", "/metrics", 200),
            ("GET", "/openapi.json", 200),
            ("GET", "/docs", 200),
            ("GET", "/redoc", 200),
            ("GET", "/docs/oauth2-redirect", 200),
            ("HEAD", "/docs", 405),
            ("GET", "/static-offline-docs/swagger-ui.css", 200),
            ("GET", "/static-offline-docs/nothing", 404),
            ("OPTIONS", "/api/v1/tags", 405),
        ],
    )
    async def test_is_safe(self, client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert_safe(answer)

    async def test_also_one_without_a_body(self, client: httpx.AsyncClient) -> None:
        created = await client.post("/api/v1/tags", json={"name": "core"})
        answer = await client.delete(created.headers["location"])
        assert answer.status_code == 204
        assert_safe(answer)

    async def test_also_a_refused_one(self, stranger: httpx.AsyncClient) -> None:
        for headers in ({}, {"Host": "elsewhere.example"}, {"Content-Length": str(2**40)}):
            answer = await stranger.get("/api/v1/tags", headers=headers)
            assert answer.status_code in (400, 401, 413)
            assert_safe(answer)

    async def test_also_one_that_nobody_has_foreseen(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(TagService, "get", fail)
        answer = await client.get("/api/v1/tags/1")
        assert (answer.status_code, answer.json()["code"]) == (500, 25500)
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert_safe(answer)


class TestPolicy:
    @pytest.mark.parametrize(
        "path", ["/api/v1/tags", "/nowhere", "/openapi.json", "/static-offline-docs/swagger-ui.css"]
    )
    async def test_nothing_may_be_loaded_from_an_answer(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.get(path)).headers["content-security-policy"] == NOTHING

    @pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
    async def test_the_pages_run_the_scripts_that_they_have(self, client: httpx.AsyncClient, path: str) -> None:
        page = await client.get(path)
        [scripts] = re.findall(r"script-src ([^;]*)", page.headers["content-security-policy"])
        assert "unsafe" not in scripts
        inline = [
            script
            for opening, script in re.findall(r"<script([^>]*)>(.*?)</script>", page.text, re.DOTALL)
            if "src=" not in opening
        ]
        for script in inline:
            assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in scripts
        for source in re.findall(r'(?:src|href)="([^"]*)"', page.text):
            assert source.startswith("/"), "only from this server"
        assert not re.search(r"<[^>]+\son\w+=", page.text), "a script in an attribute has no hash"


class TestStrictTransport:
    @pytest.mark.parametrize(("scheme", "expected"), [("http", None), ("https", "max-age=31536000")])
    async def test_is_asked_for_where_there_is_any(self, app: FastAPI, scheme: str, expected: str | None) -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://muster.test") as client:
            assert (await client.get("/health/live")).headers.get("strict-transport-security") == expected


class TestKeeping:
    @pytest.mark.parametrize(
        ("path", "kept"),
        [
            ("/api/v1/auth/me", "no-store"),
            ("/api/v1/auth/nothing", "no-store"),
            ("/api/v1/api-keys", "no-store"),
            ("/api/v1/tags", "private, no-cache"),
            ("/health/live", None),
        ],
    )
    async def test_what_is_secret_or_ones_own_is_not_for_others(
        self, client: httpx.AsyncClient, path: str, kept: str | None
    ) -> None:
        assert (await client.get(path)).headers.get("cache-control") == kept

    async def test_a_refused_sign_in_is_kept_by_nobody(self, app: FastAPI) -> None:
        async with client_of(app) as stranger:
            answer = await stranger.post("/api/v1/auth/login", data={"username": "nobody", "password": "wrong horse"})
        assert answer.headers["cache-control"] == "no-store"
