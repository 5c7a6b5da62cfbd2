"""`Idempotency-Key`: the same request again is not done again."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from app.access.idempotency_store import IdempotencyStore
from app.database import Database
from app.models.idempotency import IdempotencyKey
from app.models.tag import Tag
from app.tags.service import TagService
from tests.conftest import client_of
from tests.factories import Registry
from tests.instances.importing import URL as IMPORT_URL
from tests.instances.importing import csv_of, rows
from tests.signing_in import key_of, signed_in_as

URL = "/api/v1/tags"
KEY = {"Idempotency-Key": "order 66"}
REPLAYED = "idempotency-replayed"


async def count(database: Database, model: type[Tag] | type[IdempotencyKey]) -> int:
    async with database.readers() as session:
        return (await session.execute(select(func.count()).select_from(model))).scalar_one()


async def import_under_key(client: httpx.AsyncClient, content: str, name: str = "a.csv", **form: Any) -> httpx.Response:
    return await client.post(IMPORT_URL, files={"file": (name, content.encode(), "text/csv")}, data=form, headers=KEY)


class TestReplay:
    async def test_answers_the_same_and_does_nothing(self, client: httpx.AsyncClient, database: Database) -> None:
        first = await client.post(URL, json={"name": "core"}, headers=KEY)
        again = await client.post(URL, json={"name": "core"}, headers=KEY)
        assert first.status_code == again.status_code == 201
        assert again.content == first.content
        for name in ("location", "etag", "content-type"):
            assert again.headers[name] == first.headers[name]
        assert REPLAYED not in first.headers
        assert again.headers[REPLAYED] == "true"
        assert await count(database, Tag) == 1

    async def test_without_a_key_it_is_done_again(self, client: httpx.AsyncClient) -> None:
        assert (await client.post(URL, json={"name": "core"})).status_code == 201
        assert (await client.post(URL, json={"name": "core"})).status_code == 409

    async def test_an_import_is_not_done_again(self, client: httpx.AsyncClient) -> None:
        first = await import_under_key(client, csv_of(*rows(3)))
        again = await import_under_key(client, csv_of(*rows(3)))
        assert first.json()["counts"]["created"] == 3
        assert again.json() == first.json()
        assert (again.status_code, again.headers[REPLAYED]) == (200, "true")

    async def test_a_refusal_is_the_answer_too(self, client: httpx.AsyncClient, registry: Registry) -> None:
        tag_id = await registry.tag("core")
        assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 409
        await client.delete(f"{URL}/{tag_id}")
        again = await client.post(URL, json={"name": "core"}, headers=KEY)
        assert (again.status_code, again.headers[REPLAYED]) == (409, "true")
        assert again.headers["content-type"] == "application/problem+json"

    async def test_an_atomic_import_that_was_refused_answers_its_report_again(self, client: httpx.AsyncClient) -> None:
        first = await import_under_key(client, csv_of("n0,pg,h0", "bad name,pg,h1"), atomic="true")
        again = await import_under_key(client, csv_of("n0,pg,h0", "bad name,pg,h1"), atomic="true")
        assert (first.status_code, again.status_code) == (422, 422)
        assert again.json() == first.json()
        assert again.headers[REPLAYED] == "true"

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    async def test_other_methods_know_no_key(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, method: str
    ) -> None:
        url = f"{URL}/{await registry.tag()}"
        await client.request(method, url, json={"name": "n"} if method == "PATCH" else None, headers=KEY)
        assert await count(database, IdempotencyKey) == 0


class TestPayload:
    @pytest.mark.parametrize(
        ("url", "body"),
        [
            (URL, b'{"name": "other"}'),
            (f"{URL}?space_id=1", b'{"name": "core"}'),
            ("/api/v1/instances", b'{"name": "core"}'),
        ],
    )
    async def test_another_one_is_refused(self, client: httpx.AsyncClient, url: str, body: bytes) -> None:
        as_json = {"content-type": "application/json"}
        await client.post(URL, content=b'{"name": "core"}', headers=KEY | as_json)
        answer = await client.post(url, content=body, headers=KEY | as_json)
        assert (answer.status_code, answer.json()["code"]) == (422, 25000)
        assert "another request" in answer.json()["detail"]

    async def test_how_json_is_written_makes_no_difference(self, client: httpx.AsyncClient) -> None:
        as_json = {"content-type": "application/json"}
        await client.post(URL, content=b'{"name":"core","color":"#2F80ED"}', headers=KEY | as_json)
        again = await client.post(URL, content=b'{ "color": "#2F80\\u0045D",\n "name": "core" }', headers=KEY | as_json)
        assert again.headers[REPLAYED] == "true"

    async def test_neither_does_the_boundary_nor_the_name_of_a_file(self, client: httpx.AsyncClient) -> None:
        first = await import_under_key(client, csv_of(*rows(1)), "a.csv", on_existing="update", atomic="true")
        again = await import_under_key(client, csv_of(*rows(1)), "b.csv", atomic="true", on_existing="update")
        assert first.request.headers["content-type"] != again.request.headers["content-type"]
        assert again.headers[REPLAYED] == "true"

    @pytest.mark.parametrize(("content", "form"), [(csv_of(*rows(2)), {}), (csv_of(*rows(1)), {"atomic": "true"})])
    async def test_another_file_or_field_does(
        self, client: httpx.AsyncClient, content: str, form: dict[str, str]
    ) -> None:
        await import_under_key(client, csv_of(*rows(1)))
        assert (await import_under_key(client, content, **form)).status_code == 422

    async def test_a_large_file_is_told_from_another(self, client: httpx.AsyncClient) -> None:
        content = csv_of(*rows(2)) + "\n" * 2_000_000
        await import_under_key(client, content)
        assert (await import_under_key(client, content)).headers[REPLAYED] == "true"
        assert (await import_under_key(client, content + "\n")).status_code == 422

    async def test_no_request_without_a_body_is_like_one_with_another_body(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        url = f"/api/v1/instances/{await registry.instance()}/restore"
        assert (await client.post(url, headers=KEY)).status_code == 409
        assert (await client.post(url, headers=KEY)).headers[REPLAYED] == "true"
        assert (await client.post(url, headers=KEY, content=b"x")).status_code == 422


class TestNothingDone:
    """What was not done leaves the key free."""

    async def test_a_body_that_is_not_accepted_can_be_corrected(self, client: httpx.AsyncClient) -> None:
        assert (await client.post(URL, json={"nome": "core"}, headers=KEY)).status_code == 422
        answer = await client.post(URL, json={"name": "core"}, headers=KEY)
        assert answer.status_code == 201
        assert REPLAYED not in answer.headers

    async def test_a_failure_of_ours_can_be_tried_again(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            raise RuntimeError

        with monkeypatch.context() as patch:
            patch.setattr(TagService, "create", fail)
            assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 500
        assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 201

    async def test_a_caller_without_the_permission_uses_no_key_up(
        self, app: FastAPI, registry: Registry, database: Database
    ) -> None:
        viewer = await signed_in_as(app, await registry.user(role="viewer"))
        async with client_of(app, viewer) as client:
            assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 403
        assert await count(database, IdempotencyKey) == 0

    async def test_a_caller_who_has_lost_the_permission_gets_no_answer_again(
        self, app: FastAPI, registry: Registry, admin: int
    ) -> None:
        async with client_of(app, await key_of(app, admin)) as client:
            assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 201
        async with client_of(app, await key_of(app, admin, ())) as client:
            assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 403


class TestCallers:
    async def test_another_user_may_use_the_same_key(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        await client.post(URL, json={"name": "core"}, headers=KEY)
        other = await signed_in_as(app, await registry.user(role="admin"))
        async with client_of(app, other) as client:
            answer = await client.post(URL, json={"name": "edge"}, headers=KEY)
        assert answer.status_code == 201

    async def test_an_api_key_shares_those_of_its_owner(
        self, app: FastAPI, client: httpx.AsyncClient, admin: int
    ) -> None:
        await client.post(URL, json={"name": "core"}, headers=KEY)
        async with client_of(app, await key_of(app, admin)) as script:
            assert (await script.post(URL, json={"name": "core"}, headers=KEY)).headers[REPLAYED] == "true"


class TestKeys:
    @pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "a\x00b", "a\x1b[0m", "\x7f", "schlüssel", " padded "])
    async def test_what_is_none_is_refused(self, client: httpx.AsyncClient, database: Database, key: str) -> None:
        answer = await client.post(URL, json={"name": "core"}, headers={"Idempotency-Key": key.encode("latin-1")})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/header/Idempotency-Key"
        assert await count(database, Tag) == 0

    async def test_two_are_refused(self, client: httpx.AsyncClient) -> None:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        assert (await client.post(URL, json={"name": "core"}, headers=headers)).status_code == 422

    async def test_the_longest_is_taken(self, client: httpx.AsyncClient) -> None:
        longest = {"Idempotency-Key": "k" * 255}
        await client.post(URL, json={"name": "core"}, headers=longest)
        assert (await client.post(URL, json={"name": "core"}, headers=longest)).headers[REPLAYED] == "true"

    async def test_text_that_looks_like_sql_is_a_key_like_any_other(self, client: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": "'; DROP TABLE tags; --"}
        assert (await client.post(URL, json={"name": "core"}, headers=key)).status_code == 201
        assert (await client.post(URL, json={"name": "core"}, headers=key)).headers[REPLAYED] == "true"


class TestAtTheSameTime:
    async def test_while_it_runs_the_second_is_told_to_come_back(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, app: FastAPI
    ) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        done = app.state.batch_creation.create

        async def create(*arguments: Any) -> Any:
            begun.set()
            await go_on.wait()
            return await done(*arguments)

        monkeypatch.setattr(app.state.batch_creation, "create", create)
        first = asyncio.create_task(import_under_key(client, csv_of(*rows(1))))
        await begun.wait()
        second = await import_under_key(client, csv_of(*rows(1)))
        other = await import_under_key(client, csv_of(*rows(2)))
        go_on.set()
        assert (await first).json()["counts"]["created"] == 1
        assert (second.status_code, second.json()["code"]) == (409, 25016)
        assert int(second.headers["retry-after"]) > 0
        assert other.status_code == 422

    async def test_of_many_at_once_one_is_done(self, client: httpx.AsyncClient, database: Database) -> None:
        answers = await asyncio.gather(*(client.post(URL, json={"name": "core"}, headers=KEY) for _ in range(8)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert sum(answer.status_code == 201 and REPLAYED not in answer.headers for answer in answers) == 1
        assert await count(database, Tag) == 1


class TestWhatIsKept:
    async def test_the_answers_to_making_api_keys_are_not(self, client: httpx.AsyncClient, database: Database) -> None:
        body = {"name": "nightly"}
        assert (await client.post("/api/v1/api-keys", json=body, headers=KEY)).status_code == 201
        again = await client.post("/api/v1/api-keys", json=body, headers=KEY)
        assert again.status_code == 409
        assert REPLAYED not in again.headers
        assert await count(database, IdempotencyKey) == 0

    async def test_no_answer_that_is_kept_has_a_secret_in_it(self, client: httpx.AsyncClient) -> None:
        """A new call whose answer has one belongs to those that know no key."""
        document = (await client.get("/openapi.json")).json()
        secrets = {"key", "access_token", "refresh_token", "password", "secret", "token"}
        for path, operations in document["paths"].items():
            if not any(each["name"] == "Idempotency-Key" for each in operations.get("post", {}).get("parameters", ())):
                continue
            for answer in operations["post"]["responses"].values():
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                name = schema.get("$ref", "").rsplit("/", 1)[-1]
                assert not secrets & set(document["components"]["schemas"].get(name, {}).get("properties", ())), path

    async def test_the_document_names_the_header(self, client: httpx.AsyncClient) -> None:
        for _ in range(2):
            paths = (await client.get("/openapi.json")).json()["paths"]
        named = [each["name"] for each in paths[URL]["post"]["parameters"]]
        assert named.count("Idempotency-Key") == 1
        assert not any(
            each["name"] == "Idempotency-Key" for each in paths["/api/v1/auth/login"]["post"].get("parameters", ())
        )

    async def test_a_password_cannot_be_tried_out_on_the_fingerprint(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        """It is keyed: two installations make different ones of the same request."""
        await client.post(URL, json={"name": "core"}, headers=KEY)
        async with database.readers() as session:
            fingerprint = (await session.execute(select(IdempotencyKey.fingerprint))).scalar_one()
        # SHA-256 with an empty key, over the same question.
        assert len(fingerprint) == 64
        app = client._transport.app  # type: ignore[attr-defined]
        app.state.idempotency._secret = b"another installation's"
        assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 422

    async def test_an_answer_that_is_too_large_is_told_of(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, database: Database
    ) -> None:
        monkeypatch.setattr("app.access.stored_answers.MAX_STORED_BYTES", 10)
        assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 201
        again = await client.post(URL, json={"name": "core"}, headers=KEY)
        assert (again.status_code, again.headers[REPLAYED]) == (409, "true")
        assert "answered 201" in again.json()["detail"]
        assert await count(database, Tag) == 1

    async def test_an_import_that_cannot_be_kept_is_answered_all_the_same(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            raise OperationalError("UPDATE", None, OSError())

        monkeypatch.setattr(IdempotencyStore, "complete", fail)
        answer = await import_under_key(client, csv_of(*rows(2)))
        assert (answer.status_code, answer.json()["counts"]["created"]) == (200, 2)
