"""`GET /instances/export` and `/instances/import-template`."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from app.csv_cells import neutralized, restored
from app.database import Database
from app.instances import export, repository
from app.models.instance import DatabaseType, Instance
from tests.factories import Registry
from tests.signing_in import signed_in_as

URL = "/api/v1/instances/export"
TEMPLATE_URL = "/api/v1/instances/import-template"
COLUMNS = [
    "name", "db_type", "host", "port", "database_name", "description", "environment", "credential", "tags",
    "sync_policy", "is_active", "deletion_protection",
]  # fmt: skip
FURTHER = [
    "id", "space_id", "tls_mode", "tls_ca_file", "version", "last_connected_at", "deleted_at", "revision",
    "created_at", "updated_at", "created_by", "updated_by",
]  # fmt: skip


def parsed(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8"), newline="")))


async def exported(client: httpx.AsyncClient, **query: Any) -> list[dict[str, str]]:
    return parsed(await client.get(URL, params=query))


async def names(client: httpx.AsyncClient, **query: Any) -> list[str]:
    return [row["name"] for row in await exported(client, **query)]


class TestCells:
    @pytest.mark.parametrize(
        ("text", "cell"),
        [
            ("", ""),
            ("plain", "plain"),
            ("a=b", "a=b"),
            ("'quoted", "'quoted"),
            ("'", "'"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("'=x", "''=x"),
            ("''-x", "'''-x"),
            (" =x", " =x"),
            ("\n=x", "\n=x"),
        ],
    )
    def test_what_a_spreadsheet_could_run_gets_one_apostrophe(self, text: str, cell: str) -> None:
        assert neutralized(text) == cell
        assert restored(cell) == text

    @given(st.text() | st.from_regex(r"\A'*[=+\-@\t\r].*"))
    @example("'")
    def test_restoring_undoes_it(self, text: str) -> None:
        assert restored(neutralized(text)) == text


class TestFile:
    async def test_an_empty_registry_is_the_header_alone(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(URL)
        assert answer.content == (",".join(COLUMNS) + "\r\n").encode()
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="instances.csv"'

    async def test_a_row_has_the_columns_of_the_import(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(
            name="ora-01",
            db_type="oracle",
            host="2001:db8::1",
            port=1522,
            database_name="orders",
            description='首要, "a"\nb;c|d\r\ne\tf \'',
            environment="staging",
            credential_id=await registry.credential('主 "key"'),
            sync_policy="weekly",
            is_active=False,
            deletion_protection=True,
        )
        for name in ("tier-1", "a,b", "中"):
            await registry.insert("instance_tags", instance_id=instance_id, tag_id=await registry.tag(name))
        assert await exported(client) == [
            {
                "name": "ora-01",
                "db_type": "oracle",
                "host": "2001:db8::1",
                "port": "1522",
                "database_name": "orders",
                "description": '首要, "a"\nb;c|d\r\ne\tf \'',
                "environment": "staging",
                "credential": '主 "key"',
                "tags": "a,b|tier-1|中",
                "sync_policy": "weekly",
                "is_active": "false",
                "deletion_protection": "true",
            }
        ]

    async def test_what_is_not_set_is_an_empty_cell(self, client: httpx.AsyncClient, registry: Registry) -> None:
        await registry.instance()
        [row] = await exported(client)
        assert {column: row[column] for column in ("database_name", "description", "credential", "tags")} == {
            "database_name": "", "description": "", "credential": "", "tags": "",
        }  # fmt: skip

    async def test_all_columns(self, client: httpx.AsyncClient, registry: Registry) -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
        instance_id = await registry.instance(
            created_at=moment, updated_at=moment, last_connected_at=moment, version="8.4", created_by=3
        )
        [row] = await exported(client, columns="all")
        assert list(row) == COLUMNS + FURTHER
        assert {column: row[column] for column in FURTHER} == {
            "id": str(instance_id),
            "space_id": str(await registry.default_space()),
            "tls_mode": "",
            "tls_ca_file": "",
            "version": "8.4",
            "last_connected_at": "2026-01-02T03:04:05.000006Z",
            "deleted_at": "",
            "revision": "1",
            "created_at": "2026-01-02T03:04:05.000006Z",
            "updated_at": "2026-01-02T03:04:05.000006Z",
            "created_by": "3",
            "updated_by": "",
        }

    async def test_hostile_cells_are_made_harmless(self, client: httpx.AsyncClient, registry: Registry) -> None:
        credential_id = await registry.credential("=cmd|' /C calc'!A0")
        instance_id = await registry.instance(
            name="_01", database_name="@SUM(A1)", description="=1+1", credential_id=credential_id
        )
        for name in ("-2", "+1"):
            await registry.insert("instance_tags", instance_id=instance_id, tag_id=await registry.tag(name))
        await registry.instance(name="quoted", description="'=x")
        first, second = await exported(client)
        assert {column: first[column] for column in ("database_name", "description", "credential", "tags")} == {
            "database_name": "'@SUM(A1)",
            "description": "'=1+1",
            "credential": "'=cmd|' /C calc'!A0",
            "tags": "'+1|-2",
        }
        assert second["description"] == "''=x"

    async def test_no_secret_is_in_it(self, client: httpx.AsyncClient, registry: Registry) -> None:
        credential_id = await registry.credential("c", encrypted_password="sealed-secret", username="root-user")
        await registry.instance(credential_id=credential_id)
        content = (await client.get(URL, params={"columns": "all"})).text
        assert "sealed-secret" not in content
        assert "root-user" not in content


class TestFilters:
    async def test_are_those_of_the_list(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        credential_id = await registry.credential()
        tag_id = await registry.tag("red")
        tagged = await registry.instance(name="tagged")
        await registry.insert("instance_tags", instance_id=tagged, tag_id=tag_id)
        await registry.instance(name="pg", db_type="postgresql", environment="testing", credential_id=credential_id)
        await registry.instance(name="off", is_active=False, space_id=space_id)
        await registry.instance(name="gone", deleted_at=datetime.now(UTC))
        assert await names(client) == ["tagged", "pg", "off"]
        assert await names(client, tag="red") == ["tagged"]
        assert await names(client, q="PG") == ["pg"]
        assert await names(client, db_type="pg", environment="testing", credential_id=credential_id) == ["pg"]
        assert await names(client, space_id=space_id) == ["off"]
        assert await names(client, status="disabled") == ["off"]
        assert await names(client, status="deleted") == ["gone"]

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"format": "xlsx"}, 422),
            ({"columns": "none"}, 422),
            ({"db_type": "db2"}, 422),
            ({"space_id": 2**63 - 1}, 404),
            ({"space_id": 0}, 422),
            ({"space_id": 2**64}, 422),
        ],
    )
    async def test_what_cannot_be_is_a_problem_not_a_file(
        self, client: httpx.AsyncClient, query: dict[str, Any], status: int
    ) -> None:
        answer = await client.get(URL, params=query)
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"


class TestManyRows:
    @pytest.fixture(autouse=True)
    def small_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(export, "PAGE_INSTANCES", 4)

    @pytest.mark.parametrize("count", [3, 4, 5, 8, 9])
    async def test_every_row_once_in_order_of_id(
        self, client: httpx.AsyncClient, registry: Registry, count: int
    ) -> None:
        ids = [await registry.instance() for _ in range(count)]
        assert [int(row["id"]) for row in await exported(client, columns="all")] == ids

    async def test_what_changes_meanwhile_is_seen_from_the_next_page_on(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = [await registry.instance(name=f"n{number}") for number in range(8)]
        reading = repository.exported_after

        async def changing(*arguments: Any) -> Any:
            page = await reading(*arguments)
            async with database.engine.begin() as connection:
                await connection.execute(
                    update(Instance).where(Instance.id.in_([ids[0], ids[-1]])).values(description="changed")
                )
            return page

        monkeypatch.setattr(repository, "exported_after", changing)
        rows = await exported(client)
        assert [row["name"] for row in rows] == [f"n{number}" for number in range(8)]
        assert (rows[0]["description"], rows[-1]["description"]) == ("", "changed")

    async def test_an_error_on_the_way_breaks_the_connection(
        self, app: FastAPI, registry: Registry, admin: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        headers = await signed_in_as(app, admin)
        for _ in range(8):
            await registry.instance()
        reading, calls = repository.exported_after, 0

        async def failing(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise OperationalError("SELECT", None, Exception("the connection is gone"))
            return await reading(*arguments)

        monkeypatch.setattr(repository, "exported_after", failing)
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        with pytest.raises(RuntimeError, match="response already started"):
            await app(http_scope(URL, headers), receive_nothing, send)
        assert messages[0]["type"] == "http.response.start"
        # Without the last, empty piece a server cuts the connection, and no client takes the file for complete.
        assert all(message["more_body"] for message in messages[1:])

    async def test_an_error_before_the_first_byte_is_an_answer(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def failing(*_: Any) -> Any:
            raise OSError("the connection is gone")

        monkeypatch.setattr(repository, "exported_after", failing)
        answer = await client.get(URL)
        assert (answer.status_code, answer.json()["code"]) == (503, 25010)


async def receive_nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def http_scope(path: str, headers: dict[str, str]) -> dict[str, Any]:
    sent = {"host": "muster.test", **headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


class TestTemplate:
    async def test_has_an_example_for_each_type(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(TEMPLATE_URL, params={"format": "csv"})
        rows = parsed(answer)
        assert list(rows[0]) == COLUMNS
        assert [row["db_type"] for row in rows] == [kind.value for kind in DatabaseType]
        assert 'filename="import-template.csv"' in answer.headers["Content-Disposition"]

    async def test_can_be_imported_as_it_is(self, client: httpx.AsyncClient) -> None:
        content = (await client.get(TEMPLATE_URL)).content
        answer = await client.post("/api/v1/instances/batch-create", files={"file": ("template.csv", content)})
        assert answer.status_code == 200, answer.text
        counts = answer.json()["counts"]
        assert (counts["created"], counts["rows"]) == (len(DatabaseType), len(DatabaseType))

    async def test_another_format_is_refused(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(TEMPLATE_URL, params={"format": "xlsx"})).status_code == 422
