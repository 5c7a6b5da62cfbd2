"""Nobody sends a body before it is known who they are: no part of it is read."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.access.rate_limits import RateLimits
from tests.factories import Registry
from tests.signing_in import signed_in_as
from tests.test_openapi import METHODS

MULTIPART = b"multipart/form-data; boundary=x"
JSON = b"application/json"
MIB_64 = 64 * 1024 * 1024


class BodyWasRead(Exception):
    pass


async def status_of(app: FastAPI, method: str, path: str, kind: bytes, headers: dict[str, str] | None = None) -> int:
    """The answer to a request whose body must not be asked for."""

    statuses: list[int] = []
    asked: list[str] = []

    async def receive() -> Any:
        asked.append(path)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(_scope(method, path, kind, headers or {}), receive, send)
    # The framework makes an answer of whatever goes wrong while it reads.
    if asked:
        raise BodyWasRead(f"{method} {path}")
    return statuses[0]


def _scope(method: str, path: str, kind: bytes, headers: dict[str, str]) -> dict[str, Any]:
    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    length = str(MIB_64).encode()
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"muster.test"), (b"content-type", kind), (b"content-length", length), *given],
        "client": ("127.0.0.1", 1),
        "server": ("muster.test", 80),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }


def _path_with_numbers(path: str) -> str:
    """Whatever stands in braces is a number."""
    return "/".join("1" if part.startswith("{") else part for part in path.split("/"))


async def guarded_calls(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    document = (await client.get("/openapi.json")).json()
    return [
        (method.upper(), _path_with_numbers(path))
        for path, operations in document["paths"].items()
        for method in METHODS
        if method != "get" and "x-permission" in operations.get(method, {})
    ]


class TestStrangers:
    @pytest.mark.parametrize("kind", [MULTIPART, JSON])
    async def test_are_refused_unread_everywhere(self, app: FastAPI, stranger: httpx.AsyncClient, kind: bytes) -> None:
        calls = await guarded_calls(stranger)
        assert len(calls) > 10
        for method, path in calls:
            assert await status_of(app, method, path, kind) == 401, (method, path)

    async def test_are_refused_unread_with_a_key_of_their_own_making(self, app: FastAPI) -> None:
        headers = {"X-API-Key": "mst_guess", "Idempotency-Key": "k"}
        assert await status_of(app, "POST", "/api/v1/instances/batch-create", MULTIPART, headers) == 401

    async def test_cannot_send_much_where_everybody_may(self, app: FastAPI) -> None:
        assert await status_of(app, "POST", "/api/v1/auth/login", MULTIPART) == 413


class TestCallers:
    @pytest.mark.parametrize("kind", [MULTIPART, JSON])
    async def test_without_the_permission_are_refused_unread(
        self, app: FastAPI, stranger: httpx.AsyncClient, registry: Registry, kind: bytes
    ) -> None:
        headers = await signed_in_as(app, await registry.user()) | {"Idempotency-Key": "k"}
        document = (await stranger.get("/openapi.json")).json()
        for path, operations in document["paths"].items():
            for method in set(METHODS) & operations.keys() - {"get"}:
                if operations[method].get("x-permission"):
                    status = await status_of(app, method.upper(), _path_with_numbers(path), kind, headers)
                    assert status == 403, (method, path)

    async def test_who_call_too_often_are_refused_unread(self, app: FastAPI, admin: int) -> None:
        limits = app.state.settings.model_copy(update={"rate_limits": "on", "rate_limit_batches": 1})
        app.state.gate._limits = RateLimits(limits)
        headers = await signed_in_as(app, admin)
        path = "/api/v1/instances/batch-create"
        with pytest.raises(BodyWasRead):
            await status_of(app, "POST", path, MULTIPART, headers)
        assert await status_of(app, "POST", path, MULTIPART, headers) == 429

    async def test_this_test_would_see_a_body_being_read(self, app: FastAPI, admin: int) -> None:
        headers = await signed_in_as(app, admin)
        with pytest.raises(BodyWasRead):
            await status_of(app, "POST", "/api/v1/instances/batch-delete", JSON, headers)


class TestFilePicker:
    async def test_the_documentation_page_has_one(self, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        body = document["paths"]["/api/v1/instances/batch-create"]["post"]["requestBody"]
        assert body["required"]
        reference = body["content"]["multipart/form-data"]["schema"]["$ref"]
        file = document["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]["file"]
        assert file["type"] == "string"
        # Swagger UI shows a file picker for either.
        assert file.get("format") == "binary" or file.get("contentMediaType") == "application/octet-stream"
