"""`problems.csv`: what an operation did not do comes back as it was, and can be uploaded again once it is corrected."""

import asyncio
import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, UploadFile
from sqlalchemy import update

from app.config import Settings
from app.instances import problems as module
from tests.conftest import client_of
from tests.factories import Registry, tables
from tests.instances.importing import Report, csv_of, import_csv, instances, problem, upload
from tests.instances.workbooks import workbook
from tests.operations.rows import DELETION, item_of, operation_of
from tests.signing_in import signed_in_as

ADDED = ["_line", "_column", "_code", "_message"]
WAIT_SECONDS = 60
Errors = Sequence[Mapping[str, str]]


def error(column: str, code: str = "invalid_format", message: str = "not so") -> dict[str, str]:
    return {"column": column, "code": code, "message": message}


def url(operation_id: int) -> str:
    return f"/api/v1/operations/{operation_id}/problems.csv"


async def rows_of(client: httpx.AsyncClient, operation_id: int) -> list[list[str]]:
    """The file's rows, with the header."""
    answer = await client.get(url(operation_id))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert f"operation-{operation_id}-problems.csv" in answer.headers["content-disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


class Imports:
    """Imports as rows: the upload is stored, and the items are what a test says."""

    def __init__(self, app: FastAPI, registry: Registry, user_id: int) -> None:
        self._app = app
        self._registry = registry
        self._user_id = user_id

    async def made(self, content: str | bytes, bad: Mapping[int, Errors], **request: Any) -> int:
        """An import of the content, of which these lines are invalid."""
        data = content.encode() if isinstance(content, str) else content
        uploads, database = self._app.state.uploads, self._app.state.database
        stored = await uploads.store(UploadFile(io.BytesIO(data), filename="fleet.csv"))
        async with database.writers.begin() as session:
            await uploads.persist(session, stored)
        asked = {"encoding": "auto", "ignore_unknown_columns": False, **request}
        operation_id = await operation_of(
            self._registry, self._user_id, kind="instance_import", request=asked, upload_id=stored.id
        )
        for line, errors in bad.items():
            await item_of(self._registry, operation_id, line, "invalid", detail={"errors": list(errors)})
        return operation_id


@pytest.fixture
def imports(app: FastAPI, registry: Registry, admin: int) -> Imports:
    return Imports(app, registry, admin)


class TestRows:
    async def test_as_they_came_with_what_is_wrong(
        self, client: httpx.AsyncClient, imports: Imports, registry: Registry
    ) -> None:
        content = csv_of(
            "a b,pg,h1,1", "ok,pg,h2,2", '"c, d",x,"h\n3",3', "e,pg,h4,4", columns="Name,db_type,host,port"
        )
        operation_id = await imports.made(
            content, {2: [error("name")], 4: [error("name"), error("db_type", "unknown_value", "no such type")]}
        )
        await item_of(registry, operation_id, 3, "created", instance_id=1)
        await item_of(registry, operation_id, 6, "failed", detail={"errors": [error("host", "conflict", "taken")]})
        assert await rows_of(client, operation_id) == [
            ["Name", "db_type", "host", "port", *ADDED],
            ["a b", "pg", "h1", "1", "2", "name", "invalid_format", "not so"],
            [
                "c, d",
                "x",
                "h\n3",
                "3",
                "4",
                "name | db_type",
                "invalid_format | unknown_value",
                "not so | no such type",
            ],
            ["e", "pg", "h4", "4", "6", "host", "conflict", "taken"],
        ]

    async def test_none(self, client: httpx.AsyncClient, imports: Imports) -> None:
        operation_id = await imports.made(csv_of("a,pg,h"), {})
        assert await rows_of(client, operation_id) == [["name", "db_type", "host", *ADDED]]

    async def test_more_than_a_page_of_items(
        self, client: httpx.AsyncClient, imports: Imports, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PAGE_ITEMS", 2)
        operation_id = await imports.made(
            csv_of(*(f"n {number},pg,h" for number in range(9))), {line: [error("name")] for line in (2, 3, 5, 7, 10)}
        )
        assert [row[0] for row in await rows_of(client, operation_id)] == ["name", "n 0", "n 1", "n 3", "n 5", "n 8"]

    async def test_of_a_workbook(self, client: httpx.AsyncClient, imports: Imports) -> None:
        data = workbook(("name", "db_type", "host", "port"), ("a b", "pg", "h", 5432), ("c", "pg", "i"), first_row=3)
        rows = await rows_of(client, await imports.made(data, {4: [error("name")]}))
        assert rows[1] == ["a b", "pg", "h", "5432", "4", "name", "invalid_format", "not so"]

    async def test_of_another_encoding_and_delimiter(self, client: httpx.AsyncClient, imports: Imports) -> None:
        content = "name;db_type;host;description\na b;pg;h;für\n".encode("cp1252")
        rows = await rows_of(client, await imports.made(content, {2: [error("name")]}, encoding="cp1252"))
        assert rows[1][:4] == ["a b", "pg", "h", "für"]

    async def test_a_row_that_could_not_be_read(self, client: httpx.AsyncClient, imports: Imports) -> None:
        operation_id = await imports.made(
            'name,db_type,host\na,pg,"h\n', {2: [{"code": "invalid_format", "message": "m"}]}
        )
        assert (await rows_of(client, operation_id))[1] == ["", "", "", "2", "", "invalid_format", "m"]


class TestCells:
    async def test_short_rows_are_filled(self, client: httpx.AsyncClient, imports: Imports) -> None:
        operation_id = await imports.made("name,db_type,host,tags,,\na b,pg\n", {2: [error("host", "required")]})
        assert await rows_of(client, operation_id) == [
            ["name", "db_type", "host", "tags", *ADDED],
            ["a b", "pg", "", "", "2", "host", "required", "not so"],
        ]

    async def test_what_is_too_much_stays_so(self, client: httpx.AsyncClient, imports: Imports) -> None:
        operation_id = await imports.made(csv_of("a,pg,h,more,,"), {2: [error("", "too_many_cells")]})
        assert (await rows_of(client, operation_id))[1] == ["a", "pg", "h", "2", "", "too_many_cells", "not so", "more"]
        again = await client.get(url(operation_id))
        assert (await import_csv(client, again.content)).errors(2) == [(None, "too_many_cells")]

    @pytest.mark.parametrize(
        ("cell", "shown"),
        [
            ("=1+1", "'=1+1"), ("'=1+1", "'=1+1"), ("''=1+1", "''=1+1"), ("@x", "'@x"), (" +1", "'+1"), ("\t-1", "'-1"),
            ("'x", "'x"), ("x", "x"),
        ],
    )  # fmt: skip
    async def test_formulas_are_made_harmless(
        self, client: httpx.AsyncClient, imports: Imports, cell: str, shown: str
    ) -> None:
        """And an import reads the same from it as from the file that was uploaded."""
        content = csv_of(f"a b,pg,h,{cell}", columns="name,db_type,host,description")
        assert (await rows_of(client, await imports.made(content, {2: [error("name")]})))[1][3] == shown
        texts = []
        for number, description in enumerate((cell, shown)):
            row = csv_of(f"n{number},pg,h{number},{description}", columns="name,db_type,host,description")
            assert (await import_csv(client, row)).counts == {"rows": 1, "created": 1}
            texts.append((await instances(client))[f"n{number}"]["description"])
        assert texts[0] == texts[1]

    async def test_formulas_in_what_is_added(self, client: httpx.AsyncClient, imports: Imports) -> None:
        operation_id = await imports.made(csv_of("a,pg,h"), {2: [error("=x", "+y", "@z")]})
        assert (await rows_of(client, operation_id))[1][3:] == ["2", "'=x", "'+y", "'@z"]

    async def test_secrets_are_masked(self, client: httpx.AsyncClient, imports: Imports) -> None:
        content = csv_of(
            "a b,s3cret,pg,h,t0ken,cred", "c d,,pg,h,,", columns="name,Root Password,db_type,host,apiKey,credential"
        )
        operation_id = await imports.made(
            content, {2: [error("name")], 3: [error("name")]}, ignore_unknown_columns=True
        )
        rows = await rows_of(client, operation_id)
        assert rows[1][:6] == ["a b", "removed", "pg", "h", "removed", "cred"]
        assert rows[2][:6] == ["c d", "", "pg", "h", "", ""]

    async def test_a_secret_that_slipped_to_the_right(self, client: httpx.AsyncClient, imports: Imports) -> None:
        content = csv_of("a,pg,h,extra,s3cret,more", columns="name,db_type,host,password,note")
        operation_id = await imports.made(content, {2: [error("", "too_many_cells")]}, ignore_unknown_columns=True)
        [_, row] = await rows_of(client, operation_id)
        assert row == ["a", "pg", "h", "removed", "removed", "2", "", "too_many_cells", "not so", "removed"]


class TestDeletion:
    async def test_what_was_not_deleted(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, ("deleted",), **DELETION)
        blockers = [
            {"code": "deletion_protected", "message": "it is protected"},
            {"code": "sync_running", "message": "a sync runs", "count": 1},
        ]
        for position, (status, values) in enumerate(
            [
                ("blocked", {"instance_id": 7, "name": "pg", "detail": {"blockers": blockers}}),
                ("failed", {"instance_id": 8, "name": "=my", "detail": {"error": {"code": 25010, "message": "no"}}}),
                ("missing", {"instance_id": 9, "name": None}),
            ],
            2,
        ):
            await item_of(registry, operation_id, position, status, **values)
        assert await rows_of(client, operation_id) == [
            ["instance_id", "name", *ADDED],
            ["7", "pg", "2", " | ", "deletion_protected | sync_running", "it is protected | a sync runs"],
            ["8", "'=my", "3", "", "25010", "no"],
            ["9", "", "4", "", "missing", "there is no instance 9"],
        ]


class TestRefused:
    async def test_one_that_there_is_not(self, client: httpx.AsyncClient) -> None:
        assert problem(await client.get(url(2**40))) == (404, 25013)

    async def test_somebody_elses(self, app: FastAPI, imports: Imports, registry: Registry) -> None:
        operation_id = await imports.made(csv_of("a b,pg,h"), {2: [error("name")]})
        stranger = await registry.user(role="operator")
        async with client_of(app, await signed_in_as(app, stranger)) as client:
            assert problem(await client.get(url(operation_id))) == (404, 25013)

    async def test_without_the_permission(self, app: FastAPI, imports: Imports, registry: Registry) -> None:
        operation_id = await imports.made(csv_of("a b,pg,h"), {2: [error("name")]})
        user_id = await registry.user()
        await registry.grant(user_id, await registry.role(permissions=["instance:read"]))
        async with client_of(app, await signed_in_as(app, user_id)) as client:
            assert problem(await client.get(url(operation_id))) == (403, 25020)
        async with client_of(app) as client:
            assert problem(await client.get(url(operation_id))) == (401, 25020)

    async def test_once_the_upload_was_removed(self, client: httpx.AsyncClient, app: FastAPI, imports: Imports) -> None:
        operation_id = await imports.made(csv_of("a b,pg,h"), {2: [error("name")]})
        [upload_id] = [path.name for path in app.state.uploads.directory.iterdir()]
        assert await app.state.uploads.remove(upload_id)
        answer = await client.get(url(operation_id))
        assert problem(answer) == (409, 25016)
        assert "removed" in answer.json()["detail"]

    async def test_nothing_is_left_in_the_directory(
        self, client: httpx.AsyncClient, app: FastAPI, imports: Imports
    ) -> None:
        operation_id = await imports.made(csv_of("a b,pg,h"), {2: [error("name")]})
        before = set(app.state.uploads.directory.iterdir())
        await rows_of(client, operation_id)
        assert set(app.state.uploads.directory.iterdir()) == before

    async def test_nothing_is_left_by_a_client_that_goes_away(
        self, app: FastAPI, imports: Imports, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PIECE_BYTES", 10)
        operation_id = await imports.made(csv_of("a b,pg,h"), {2: [error("name")]})
        before = set(app.state.uploads.directory.iterdir())
        pieces = app.state.problems.pieces(operation_id)
        assert len(await anext(pieces)) == 10
        assert set(app.state.uploads.directory.iterdir()) != before
        await pieces.aclose()
        assert set(app.state.uploads.directory.iterdir()) == before


async def ended(client: httpx.AsyncClient, operation_id: int) -> str:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            operation = (await client.get(f"/api/v1/operations/{operation_id}")).json()
            if operation["state"] not in ("queued", "running"):
                return str(operation["state"])
            await asyncio.sleep(0.05)


class TestAgain:
    """The columns that a file of problems has beside a row's own cells are no fault of a header."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"server_worker": "on"})

    async def test_the_corrected_file_applies_what_is_missing(self, client: httpx.AsyncClient) -> None:
        content = csv_of("a,pg,h1,=x", "b b,pg,h2,", "c,pg,h3,", "a,pg,h4,", columns="name,db_type,host,description")
        answer = await upload(client, content, background="true")
        assert answer.status_code == 202, answer.text
        operation_id = answer.json()["id"]
        assert await ended(client, operation_id) == "partial"
        rows = await rows_of(client, operation_id)
        assert [row[4] for row in rows[1:]] == ["3", "5"]
        corrected = (await client.get(url(operation_id))).content.replace(b"b b", b"b").replace(b"\na,pg", b"\nd,pg")
        assert (await import_csv(client, corrected)).counts == {"rows": 2, "created": 2}
        assert set(await instances(client)) == {"a", "b", "c", "d"}
        assert (await import_csv(client, corrected)).counts == {"rows": 2, "skipped": 2}
        assert (await import_csv(client, corrected, on_existing="update")).counts == {"rows": 2, "unchanged": 2}

    async def test_the_problems_of_a_file_of_problems(self, client: httpx.AsyncClient, imports: Imports) -> None:
        """They replace those of before."""
        content = csv_of(
            "7,a b,pg,h,name,invalid_format,not so", columns="_line,name,db_type,host,_column,_code,_message"
        )
        rows = await rows_of(client, await imports.made(content, {2: [error("host", "required", "missing")]}))
        assert rows == [["name", "db_type", "host", *ADDED], ["a b", "pg", "h", "2", "host", "required", "missing"]]

    @pytest.mark.parametrize("columns", ["name,db_type,host,_Line, _MESSAGE ", "_code,name,_column,db_type,host"])
    async def test_any_of_the_columns_are_taken(self, client: httpx.AsyncClient, columns: str) -> None:
        cells = {"name": "a", "db_type": "pg", "host": "h"}
        row = ",".join(cells.get(column, "x") for column in columns.split(","))
        report: Report = await import_csv(client, csv_of(row, columns=columns))
        assert report.counts == {"rows": 1, "created": 1}

    @pytest.mark.parametrize("columns", ["name,db_type,host,_lines", "name,db_type,host,_line,_line"])
    async def test_others_are_not(self, client: httpx.AsyncClient, columns: str) -> None:
        assert problem(await upload(client, csv_of("a,pg,h,x,x", columns=columns))) == (422, 25200)


class TestStates:
    @pytest.mark.parametrize("state", ["running", "cancelled", "failed"])
    async def test_what_there_is_so_far(
        self, client: httpx.AsyncClient, app: FastAPI, imports: Imports, state: str
    ) -> None:
        operation_id = await imports.made(csv_of("a b,pg,h"), {2: [error("name")]})
        table = tables["operations"]
        async with app.state.database.writers.begin() as session:
            await session.execute(update(table).where(table.c.id == operation_id).values(state=state))
        assert len(await rows_of(client, operation_id)) == 2
