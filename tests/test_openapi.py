"""The OpenAPI document: every call is described, every error is a problem, and every example works when it is sent."""

import errno
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.exc import OperationalError

from app.database.driver_errors import as_sqlalchemy
from app.errors import database_error
from tests.factories import Registry
from tests.operations.rows import operation_of

Document = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
# No example can work here.
WITHOUT_WORKING_EXAMPLE = {
    # The token that it takes is the one of a report that was just read.
    ("post", "/api/v1/maintenance/orphans/clean"),
    # What it takes is the caller's own, and secret.
    ("post", "/api/v1/auth/refresh"),
    ("post", "/api/v1/auth/password"),
}


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Document:
    return (await client.get("/openapi.json")).json()


@pytest.fixture
async def ids(registry: Registry, admin: int) -> dict[str, int]:
    """What stands for the parameters of paths: one of each, which the administrator may see."""
    key = {"prefix": "mst_00000000", "key_hash": "0" * 64, "scopes": [], "created_at": datetime.now(UTC)}
    return {
        "instance_id": await registry.instance(credential_id=await registry.credential()),
        "tag_id": await registry.tag(),
        "credential_id": await registry.credential(),
        "space_id": await registry.space(),
        "user_id": await registry.user(),
        "role_id": await registry.role(),
        "api_key_id": await registry.insert("api_keys", user_id=admin, name="a key", **key),
        "sync_id": await registry.insert(
            "sync_sessions",
            space_id=await registry.default_space(),
            kinds=["accounts"],
            trigger="manual",
            state="succeeded",
        ),
        "schedule_id": await registry.insert(
            "schedules",
            space_id=await registry.default_space(),
            name="a schedule",
            cron="0 2 * * *",
            timezone="UTC",
            kinds=["accounts"],
            filter={},
        ),
        "classification_id": await registry.insert(
            "account_classifications",
            space_id=await registry.default_space(),
            name="a class",
            rule={"is_superuser": True},
        ),
        "operation_id": await operation_of(registry, admin, ("deleted", "failed")),
    }


def operations(document: Document) -> list[tuple[str, str, Document]]:
    return [
        (method, path, item[method]) for path, item in document["paths"].items() for method in METHODS if method in item
    ]


def resolved(document: Document, schema: Document) -> Document:
    reference = schema.get("$ref")
    return document["components"]["schemas"][reference.rsplit("/", 1)[1]] if reference else schema


def example_of(document: Document, schema: Document) -> Any:
    """What the documentation page fills in: the schema's own example, or one made of its properties'."""
    schema = resolved(document, schema)
    if "examples" in schema:
        return schema["examples"][0]
    if "example" in schema:
        return schema["example"]
    if "properties" in schema:
        return {name: example_of(document, each) for name, each in schema["properties"].items() if "examples" in each}
    return None


class TestDescription:
    async def test_every_call_has_a_summary_and_a_section(self, document: Document) -> None:
        sections = {section["name"] for section in document["tags"]}
        for method, path, operation in operations(document):
            assert operation.get("summary"), (method, path)
            assert set(operation["tags"]) <= sections, (method, path)
            assert len(operation["tags"]) == 1, (method, path)

    async def test_every_error_is_documented_as_a_problem(self, document: Document) -> None:
        for method, path, operation in operations(document):
            for status, answer in operation["responses"].items():
                if status == "default" or int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)

    async def test_operation_ids_are_distinct(self, document: Document) -> None:
        ids = [operation["operationId"] for _, _, operation in operations(document)]
        assert len(ids) == len(set(ids))


class TestExamples:
    async def test_every_example_body_is_accepted(
        self, client: httpx.AsyncClient, document: Document, ids: dict[str, int]
    ) -> None:
        for method, path, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content or (method, path) in WITHOUT_WORKING_EXAMPLE:
                continue
            body = example_of(document, content["application/json"]["schema"])
            assert body, (method, path)
            answer = await client.request(method, path.format(**ids), json=body)
            assert answer.is_success, (method, path, body, answer.text)

    async def test_every_read_works_as_it_stands(
        self, client: httpx.AsyncClient, document: Document, ids: dict[str, int]
    ) -> None:
        for method, path, _ in operations(document):
            if method == "get":
                answer = await client.get(path.format(**ids))
                assert answer.status_code == 200, (path, answer.text)


class TestProblems:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/api/v1/nowhere", 404, 25013),
            ("PUT", "/api/v1/instances", 405, 25000),
            ("GET", "/api/v1/instances?limit=0", 422, 25000),
            ("GET", "/api/v1/instances?cursor=rubbish", 400, 25000),
            ("GET", "/api/v1/instances/999", 404, 25013),
            ("GET", "/api/v1/instances?space_id=999", 404, 25015),
        ],
    )
    async def test_an_error_is_a_problem_document(
        self, client: httpx.AsyncClient, method: str, path: str, status: int, code: int
    ) -> None:
        answer = await client.request(method, path, headers={"X-Request-ID": "abc-123"})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body["code"] == code
        assert body["status"] == status
        assert body["request_id"] == answer.headers["x-request-id"] == "abc-123"
        assert body["instance"] == path.partition("?")[0]
        assert {"type", "title", "detail"} <= body.keys()

    async def test_a_body_over_the_limit_is_refused(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/v1/tags", content=b"x" * (65 * 1024 * 1024))
        assert (answer.status_code, answer.json()["code"]) == (413, 25000)
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_a_body_of_undeclared_length_is_counted(self, client: httpx.AsyncClient) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(65):
                yield b"x" * 1024 * 1024

        answer = await client.post("/api/v1/tags", content=pieces())
        assert (answer.status_code, answer.json()["code"]) == (413, 25000)

    async def test_broken_json_is_a_problem(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/v1/tags", content=b"{", headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


class TestNoSpace:
    async def test_a_full_disk_is_told_as_such(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> str:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("app.instances.uploads._create", fail)
        answer = await client.post("/api/v1/instances/batch-create", files={"file": b"name,db_type,host\na,pg,h\n"})
        assert (answer.status_code, answer.json()["code"]) == (507, 25500)

    def test_that_of_the_database_too(self) -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE TABLE t (a)")
            connection.execute("PRAGMA max_page_count = 2")
            with pytest.raises(sqlite3.OperationalError) as full:
                connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        for error in (full.value, asyncpg.DiskFullError("could not extend file")):
            translated = as_sqlalchemy(error, "INSERT")
            assert isinstance(translated, OperationalError)
            assert database_error(translated).status == 507


class TestDocumentationPage:
    async def test_it_needs_nothing_from_the_network(self, client: httpx.AsyncClient) -> None:
        page = (await client.get("/docs")).text
        assert "http://" not in page.replace("http://muster.test", "")
        assert "https://" not in page
        for script in ("swagger-ui-bundle.js", "swagger-ui.css"):
            assert (await client.get(f"/static-offline-docs/{script}")).status_code == 200
