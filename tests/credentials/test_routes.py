"""The credential calls."""

import asyncio
import io
import logging
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text

from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent
from tests.factories import Registry

URL = "/api/v1/credentials"
PASSWORD = "xK7-hunter2-pässwörd"
BODY: dict[str, Any] = {"name": "ops", "type": "database", "username": "monitor", "password": PASSWORD}


async def create(client: httpx.AsyncClient, **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json=BODY | values)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def stored_password(database: Database, credential_id: int) -> str:
    """The column as it is, past every layer of ours."""
    statement = text("SELECT encrypted_password FROM credentials WHERE id = :id")
    async with database.readers() as session:
        return (await session.execute(statement, {"id": credential_id})).scalar_one()


async def audited(database: Database) -> list[tuple[str, str | None, dict[str, Any] | None]]:
    statement = select(AuditEvent.action, AuditEvent.resource_name, AuditEvent.changes).order_by(AuditEvent.id)
    async with database.readers() as session:
        return [tuple(row) for row in await session.execute(statement)]


class TestCreate:
    async def test_answers_the_credential_without_its_password(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        answer = await client.post(URL, json=BODY | {"name": " ops ", "description": " reads "})
        body = answer.json()
        assert answer.status_code == 201
        assert body == {
            "id": body["id"],
            "space_id": await registry.default_space(),
            "name": "ops",
            "type": "database",
            "username": "monitor",
            "has_password": True,
            "description": "reads",
            "revision": 1,
            "created_at": body["created_at"],
            "updated_at": body["updated_at"],
        }
        assert (answer.headers["ETag"], answer.headers["Location"]) == ('"1"', f"{URL}/{body['id']}")
        assert (await client.get(answer.headers["Location"])).json() == body

    @pytest.mark.parametrize("username", [None, "", "  "])
    async def test_without_a_username(self, client: httpx.AsyncClient, username: str | None) -> None:
        assert (await create(client, username=username))["username"] is None

    async def test_keeps_a_password_exactly(self, client: httpx.AsyncClient, app: FastAPI, database: Database) -> None:
        for number, password in enumerate(["  spaces  ", "-----BEGIN KEY-----\nabc\n", "密码😀", "x" * 16_384]):
            credential = await create(client, name=f"ops-{number}", password=password)
            stored = await stored_password(database, credential["id"])
            assert password.strip() not in stored
            assert app.state.secret_box.open(stored) == password

    async def test_in_a_space(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        assert (await create(client, space_id=space_id))["space_id"] == space_id
        assert (await create(client))["space_id"] == await registry.default_space()
        assert (await client.post(URL, json=BODY | {"space_id": 99})).json()["code"] == 25015

    async def test_a_taken_name_is_named(self, client: httpx.AsyncClient) -> None:
        await create(client)
        answer = await client.post(URL, json=BODY)
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        assert "'ops'" in answer.json()["detail"]

    async def test_of_two_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.post(URL, json=BODY) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


REFUSED_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "/body/name"),
    ({"name": " "}, "/body/name"),
    ({"name": "a" * 101}, "/body/name"),
    ({"name": "a\x00"}, "/body/name"),
    ({"type": "ftp"}, "/body/type"),
    ({"type": None}, "/body/type"),
    ({"username": "a" * 256}, "/body/username"),
    ({"username": "a\x00b"}, "/body/username"),
    ({"password": None}, "/body/password"),
    ({"password": ""}, "/body/password"),
    ({"password": 1}, "/body/password"),
    ({"password": "x" * 16_385}, "/body/password"),
    ({"password": "a\x00b"}, "/body/password"),
    ({"description": "d" * 501}, "/body/description"),
    ({"space_id": 2**63}, "/body/space_id"),
    ({"has_password": False}, "/body/has_password"),
]


class TestBadInput:
    async def test_is_a_problem_that_points_at_it(self, client: httpx.AsyncClient) -> None:
        for change, pointer in REFUSED_BODIES:
            answer = await client.post(URL, json=BODY | change)
            assert (answer.status_code, answer.json()["code"]) == (422, 25000), change
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_every_field_but_the_description_is_asked_for(self, client: httpx.AsyncClient) -> None:
        for name in BODY:
            answer = await client.post(URL, json={key: value for key, value in BODY.items() if key != name})
            assert [error["pointer"] for error in answer.json()["errors"]] == [f"/body/{name}"]


class TestRead:
    async def test_of_what_does_not_exist(self, client: httpx.AsyncClient) -> None:
        for method in ("GET", "PATCH", "DELETE"):
            answer = await client.request(method, f"{URL}/77", json={} if method == "PATCH" else None)
            assert (answer.status_code, answer.json()["code"]) == (404, 25013), method

    async def test_tells_when_there_is_no_password(self, client: httpx.AsyncClient, registry: Registry) -> None:
        credential_id = await registry.credential()
        assert (await client.get(f"{URL}/{credential_id}")).json()["has_password"] is False


class TestChange:
    async def test_sets_what_is_named_and_keeps_the_rest(self, client: httpx.AsyncClient, database: Database) -> None:
        credential = await create(client)
        sealed = await stored_password(database, credential["id"])
        answer = await client.patch(f"{URL}/{credential['id']}", json={"type": "ssh", "username": None})
        body = answer.json()
        assert body == credential | {
            "type": "ssh",
            "username": None,
            "revision": 2,
            "updated_at": body["updated_at"],
        }
        assert answer.headers["ETag"] == '"2"'
        assert await stored_password(database, credential["id"]) == sealed

    async def test_of_the_password(self, client: httpx.AsyncClient, app: FastAPI, database: Database) -> None:
        credential = await create(client)
        answer = await client.patch(f"{URL}/{credential['id']}", json={"password": "another"})
        assert (answer.status_code, answer.json()["revision"]) == (200, 2)
        assert app.state.secret_box.open(await stored_password(database, credential["id"])) == "another"

    async def test_that_changes_nothing_writes_nothing(self, client: httpx.AsyncClient, database: Database) -> None:
        credential = await create(client)
        answer = await client.patch(f"{URL}/{credential['id']}", json={"name": "ops", "type": "database"})
        assert answer.json() == credential
        assert len(await audited(database)) == 1

    async def test_to_null_of_what_must_be_there(self, client: httpx.AsyncClient) -> None:
        credential = await create(client)
        for name in ("name", "type", "password", "space_id"):
            assert (await client.patch(f"{URL}/{credential['id']}", json={name: None})).status_code == 422, name

    async def test_to_a_taken_name(self, client: httpx.AsyncClient) -> None:
        credential = await create(client)
        await create(client, name="web")
        answer = await client.patch(f"{URL}/{credential['id']}", json={"name": "web"})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)

    async def test_with_a_stale_etag(self, client: httpx.AsyncClient) -> None:
        credential = await create(client)
        url = f"{URL}/{credential['id']}"
        for header, status in (('"2"', 412), ("1", 412), ('"1"', 200), ('"1"', 412), ("*", 200)):
            answer = await client.patch(url, json={"password": "x"}, headers={"If-Match": header})
            assert answer.status_code == status, header


class TestDelete:
    async def test_of_one_that_nobody_uses(self, client: httpx.AsyncClient) -> None:
        credential = await create(client)
        url = f"{URL}/{credential['id']}"
        assert (await client.delete(url, headers={"If-Match": '"2"'})).status_code == 412
        assert (await client.delete(url, headers={"If-Match": '"1"'})).status_code == 204
        assert (await client.get(url)).status_code == 404

    async def test_of_one_in_use_counts_deleted_instances_too(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        credential_id = await registry.credential("ops")
        await registry.instance(credential_id=credential_id)
        await registry.instance(credential_id=credential_id, deleted_at=datetime.now(UTC))
        answer = await client.delete(f"{URL}/{credential_id}")
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        assert "'ops' is used by 2 instances" in answer.json()["detail"]
        assert (await client.get(f"{URL}/{credential_id}")).status_code == 200


class TestAudit:
    async def test_tells_every_change_and_no_password(self, client: httpx.AsyncClient, database: Database) -> None:
        url = f"{URL}/{(await create(client))['id']}"
        await client.patch(url, json={"password": "another"})
        await client.patch(url, json={"password": "third", "username": "root"})
        await client.delete(url)
        created = {"name": "ops", "type": "database", "username": "monitor", "description": None}
        assert await audited(database) == [
            ("credential:create", "ops", {"after": created}),
            ("credential:update", "ops", {"password": "changed"}),
            (
                "credential:update",
                "ops",
                {"before": {"username": "monitor"}, "after": {"username": "root"}, "password": "changed"},
            ),
            ("credential:delete", "ops", {"before": created | {"username": "root"}}),
        ]


class TestPages:
    async def test_go_on_behind_the_last_credential(self, client: httpx.AsyncClient, registry: Registry) -> None:
        for number in range(5):
            await registry.credential(f"ops-{number}")
        first = (await client.get(f"{URL}?limit=3&include_total=true&sort=-created_at")).json()
        second = (await client.get(f"{URL}?limit=3&sort=-created_at&cursor={first['next_cursor']}")).json()
        names = [each["name"] for each in first["items"] + second["items"]]
        assert names == [f"ops-{number}" for number in (4, 3, 2, 1, 0)]
        assert (first["total"], second["next_cursor"], "total" in second) == (5, None, False)

    async def test_are_filtered(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        await registry.credential("ops")
        await registry.credential("DevOps", space_id=space_id)
        await registry.credential("o%s", space_id=space_id)
        for query, names in (
            ("q=OPS", ["DevOps", "ops"]),
            (f"q=op&space_id={space_id}", ["DevOps"]),
            ("q=%25", ["o%s"]),
        ):
            page = (await client.get(f"{URL}?{query}")).json()
            assert sorted(each["name"] for each in page["items"]) == names, query
        assert (await client.get(f"{URL}?space_id=99")).status_code == 404

    async def test_refuse_a_cursor_that_is_not_ours(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(f"{URL}?cursor=x")).status_code == 400


def secret_requests() -> list[dict[str, Any]]:
    """Good and bad calls, all with the password somewhere in the body."""
    spoiled: list[Any] = [
        BODY,
        BODY,
        BODY | {"type": "ftp"},
        BODY | {"extra": PASSWORD},
        BODY | {"space_id": 99},
        {"passwrd": PASSWORD},
        {"password": {"value": PASSWORD}},
        {"password": [PASSWORD]},
        BODY | {"password": PASSWORD + "\x00"},
        BODY | {"password": PASSWORD * 2_000},
        [BODY],
        PASSWORD,
        {"name": {"password": PASSWORD}},
    ]
    raw = [
        f'{{"name": "x", "password": "{PASSWORD}"'.encode(),
        f'{{"password": "{PASSWORD}\\ud800"}}'.encode(),
        f"name=x&password={PASSWORD}".encode(),
        PASSWORD.encode("utf-16"),
    ]
    types = ({"Content-Type": "application/json"}, {"Content-Type": "application/x-www-form-urlencoded"}, {})
    return [
        *({"json": body} for body in spoiled),
        *({"content": content, "headers": headers} for content in raw for headers in types),
    ]


@pytest.fixture
def log(app: FastAPI) -> io.StringIO:
    """Everything that anybody logs from here on."""
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    logging.getLogger().setLevel("DEBUG")
    stream = io.StringIO()
    handler.setStream(stream)
    return stream


class TestSecrecy:
    async def test_no_answer_and_no_log_tells_a_password(self, log: io.StringIO, client: httpx.AsyncClient) -> None:
        answers = []
        for request in secret_requests():
            answers.append(await client.post(URL, **request))
            answers.append(await client.patch(f"{URL}/1", **request))
        answers += [await client.get(URL), await client.get(f"{URL}/1"), await client.delete(f"{URL}/1")]
        assert {answer.status_code for answer in answers} == {200, 201, 204, 404, 409, 422}
        for shown in [log.getvalue(), *(f"{answer.headers} {answer.text}" for answer in answers)]:
            assert shown
            assert "hunter2" not in shown

    async def test_nor_does_a_failure(
        self, log: io.StringIO, client: httpx.AsyncClient, settings: Settings, registry: Registry
    ) -> None:
        (settings.data_dir / "secret.key").unlink()
        answer = await client.post(URL, json=BODY)
        assert (answer.status_code, answer.json()["code"]) == (500, 25500)
        assert "SecretKeyRefused" in log.getvalue()
        assert "hunter2" not in log.getvalue() + answer.text
        assert (await registry.counts())["credentials"] == 0


class TestDocuments:
    async def test_the_examples_can_be_sent(self, client: httpx.AsyncClient) -> None:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
        answer = await client.post(URL, json=schemas["CredentialCreation"]["example"])
        assert answer.status_code == 201
        answer = await client.patch(answer.headers["Location"], json=schemas["CredentialChange"]["example"])
        assert answer.status_code == 200

    async def test_no_answer_has_a_place_for_a_password(self, client: httpx.AsyncClient) -> None:
        properties = (await client.get("/openapi.json")).json()["components"]["schemas"]["Credential"]["properties"]
        assert "password" not in properties
        assert "encrypted_password" not in properties
