"""The request of batch create: what is refused as a whole, and what it leaves behind."""

import gzip
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.config import Settings
from app.instances.batch_transactions import BatchTransactions
from tests.factories import Registry
from tests.instances.importing import URL, csv_of, import_csv, instances, problem, upload

MAX_BODY_BYTES = 100_000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_body_bytes": MAX_BODY_BYTES, "batch_chunk_rows": 3})


def left_in_uploads(app: FastAPI) -> list[Path]:
    return list((app.state.settings.data_dir / "uploads").rglob("*"))


class TestForm:
    async def test_the_file_is_required(self, client: httpx.AsyncClient) -> None:
        for answer in (
            await client.post(URL, data={"dry_run": "true"}),
            await client.post(URL),
            await client.post(URL, data={"file": csv_of("a,pg,h")}),
            await client.post(URL, files={"file": (None, csv_of("a,pg,h"))}),
            await client.post(URL, files={"upload": ("a.csv", csv_of("a,pg,h"))}),
        ):
            assert problem(answer) == (422, 25000)
            assert answer.json()["errors"][0]["pointer"] == "/body/file"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("dry_run", "perhaps"), ("on_existing", "replace"), ("atomic", "2"), ("encoding", "ebcdic"),
            ("ignore_unknown_columns", "x"), ("background", "maybe"), ("space_id", "one"), ("space_id", "0"),
            ("space_id", str(2**63)),
        ],
    )  # fmt: skip
    async def test_a_value_that_is_none(self, client: httpx.AsyncClient, field: str, value: str) -> None:
        answer = await upload(client, csv_of("a,pg,h"), **{field: value})
        assert problem(answer) == (422, 25000)
        [error] = answer.json()["errors"]
        assert (error["pointer"], error["value"]) == (f"/body/{field}", value)

    async def test_an_unknown_space(self, client: httpx.AsyncClient) -> None:
        assert problem(await upload(client, csv_of("a,pg,h"), space_id=2**31)) == (404, 25015)

    async def test_bodies_that_are_no_form(self, client: httpx.AsyncClient) -> None:
        for content_type, body in (
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=b", b"--b\r\nnot a part"),
            (
                "multipart/form-data; boundary=b",
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n',
            ),
            ("text/csv", csv_of("a,pg,h").encode()),
            ("application/json", b"{}"),
        ):
            answer = await client.post(URL, content=body, headers={"Content-Type": content_type})
            assert problem(answer)[0] in {400, 422}, content_type

    async def test_other_methods(self, client: httpx.AsyncClient) -> None:
        assert problem(await client.put(URL))[0] == 405


class TestSize:
    async def test_a_body_over_the_limit(self, client: httpx.AsyncClient, app: FastAPI) -> None:
        answer = await upload(client, csv_of("a,pg,h") + "x" * MAX_BODY_BYTES)
        assert problem(answer) == (413, 25000)
        assert left_in_uploads(app) == []

    async def test_without_a_declared_length(self, client: httpx.AsyncClient) -> None:
        async def body() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
            for _ in range(MAX_BODY_BYTES // 1_000 + 1):
                yield b"x" * 1_000

        answer = await client.post(URL, content=body(), headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert problem(answer) == (413, 25000)

    async def test_a_body_just_below_it(self, client: httpx.AsyncClient) -> None:
        report = await import_csv(client, csv_of("a,pg,h") + "\n" * (MAX_BODY_BYTES - 1_000))
        assert report.counts == {"rows": 1, "created": 1}


class TestFile:
    async def test_what_is_no_csv(self, client: httpx.AsyncClient, app: FastAPI) -> None:
        for data, expected in (
            (b"PK\x03\x04" + bytes(100), (415, 25100)),
            (b"\x89PNG\r\n\x1a\n" + bytes(32), (415, 25100)),
            (b"\xd0\xcf\x11\xe0" + bytes(100), (415, 25100)),
            (gzip.compress(b"name,db_type,host\n"), (415, 25100)),
            (b"", (422, 25300)),
            (b" \n\n", (422, 25300)),
            (b"name,db_type,host\n", (422, 25300)),
            (b"a,b,c\n1,2,3\n", (422, 25200)),
            (b"\xff\xfe\x00\xd8", (422, 25200)),
        ):
            assert problem(await upload(client, data)) == expected, data
        assert left_in_uploads(app) == []

    async def test_faults_of_the_header_are_listed(self, client: httpx.AsyncClient) -> None:
        answer = await upload(client, "name,db_type,hots\na,pg,h\n")
        assert problem(answer) == (422, 25200)
        assert answer.json()["errors"] == [
            {"code": "missing_column", "message": "column host is missing", "column": "host", "line": 1},
            {
                "code": "unknown_column",
                "message": "column 'hots' is not known; the nearest is host",
                "column": "hots",
                "line": 1,
                "value": "hots",
            },
        ]

    async def test_a_wrong_encoding_names_the_line(self, client: httpx.AsyncClient) -> None:
        answer = await upload(client, csv_of("a,pg,h", "b,pg,für").encode("cp1252"), encoding="utf-8")
        assert problem(answer) == (422, 25200)
        assert answer.json()["errors"][0]["line"] == 3

    async def test_encoding_and_delimiter_are_reported(self, client: httpx.AsyncClient) -> None:
        text = csv_of("a;pg;h;für Köln", columns="name;db_type;host;description")
        report = await import_csv(client, text.encode("cp1252"))
        assert (report.body["encoding"], report.body["delimiter"]) == ("cp1252", ";")
        assert (await instances(client))["a"]["description"] == "für Köln"

    async def test_unknown_columns_can_be_ignored(self, client: httpx.AsyncClient) -> None:
        text = csv_of("a,pg,h,me", columns="name,db_type,host,owner")
        assert problem(await upload(client, text)) == (422, 25200)
        report = await import_csv(client, text, ignore_unknown_columns=True)
        assert report.counts == {"rows": 1, "created": 1}

    async def test_long_values_are_cut(self, client: httpx.AsyncClient) -> None:
        columns = "name,db_type,host,description"
        report = await import_csv(client, csv_of(f"a,pg,h,{'x' * 50_000}", "b,pg,h,fine", columns=columns))
        assert report.statuses() == {2: "invalid", 3: "created"}
        assert report.item(2)["errors"][0]["value"] == "x" * 200 + "…"
        assert len(str(report.body)) < 2_000


class TestAtomic:
    async def test_all_rows_or_none(self, client: httpx.AsyncClient, registry: Registry) -> None:
        await registry.instance(name="known")
        before = await registry.counts()
        rows = ["n0,pg,h0", "known,pg,h1", *(f"n{n},pg,h{n}" for n in range(2, 7)), "bad name,pg,h9"]
        answer = await upload(client, csv_of(*rows), atomic=True)
        assert problem(answer) == (422, 25000)
        report = answer.json()["report"]
        assert report["outcome"] == "failed"
        assert {name: count for name, count in report["counts"].items() if count} == {
            "rows": 8, "skipped": 1, "invalid": 1, "failed": 6,
        }  # fmt: skip
        assert [item["line"] for item in report["items"]] == list(range(2, 10))
        assert await registry.counts() == before

    async def test_skipped_rows_are_not_bad(self, client: httpx.AsyncClient, registry: Registry) -> None:
        await registry.instance(name="known")
        rows = ["known,pg,h0,t", *(f"n{n},pg,h{n},t" for n in range(1, 8))]
        report = await import_csv(client, csv_of(*rows, columns="name,db_type,host,tags"), atomic=True)
        assert report.counts == {"rows": 8, "created": 7, "skipped": 1}
        assert len(await instances(client)) == 8

    async def test_updates_too(self, client: httpx.AsyncClient) -> None:
        await import_csv(client, csv_of("a,pg,a", "b,pg,b"))
        text = csv_of("a,pg,a2", "b,pg,b2", "c,pg,c", "d,pg,d", "e,pg,b2")
        answer = await upload(client, text, atomic=True, on_existing="update")
        assert problem(answer) == (422, 25000)
        assert {name: item["host"] for name, item in (await instances(client)).items()} == {"a": "a", "b": "b"}

    async def test_a_dry_run_reports_what_is_invalid(self, client: httpx.AsyncClient) -> None:
        report = await import_csv(client, csv_of("a,pg,h", "b,sybase,h2"), atomic=True, dry_run=True)
        assert report.counts == {"rows": 2, "created": 1, "invalid": 1}


class TestUploads:
    async def test_nothing_is_left_behind(
        self, client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await import_csv(client, csv_of("a,pg,h"))
        await import_csv(client, csv_of("a,pg,h"), dry_run=True)
        await upload(client, csv_of("a,sybase,h"), atomic=True)
        await upload(client, csv_of("a,pg,h"), space_id=999)
        await upload(client, b"\x81\xff")

        async def failing(*_: object) -> None:
            raise RuntimeError("not foreseen")

        monkeypatch.setattr(BatchTransactions, "run", failing)
        assert problem(await upload(client, csv_of("new,pg,new"), atomic=True)) == (500, 25500)
        assert left_in_uploads(app) == []


start_of_a_file = st.sampled_from(
    [
        b"",
        b"name,db_type,host\n",
        b"\xef\xbb\xbfname;db_type;host\r\n",
        "name,db_type,host\n".encode("utf-16"),
        b"\xff\xfe",
    ]
)


class TestAnyBytes:
    @given(start_of_a_file, st.binary(max_size=200), st.sampled_from(["auto", "auto", "utf-16", "gb18030", "cp1252"]))
    @example(b"", b"\xff\xfe\x00\x00", "auto")
    @example(b"name,db_type,host\n", b'a,pg,"', "auto")
    @example(b"name,db_type,host\n", b"\x81\x30\x81\x30,pg,h", "auto")
    @examples(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    async def test_get_a_report_or_a_problem(
        self, client: httpx.AsyncClient, start: bytes, rest: bytes, encoding: str
    ) -> None:
        answer = await upload(client, start + rest, encoding=encoding)
        if answer.status_code != 200:
            assert problem(answer)[0] in {415, 422}
