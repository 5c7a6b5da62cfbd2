"""Refused and failed attempts leave an entry, once, whatever becomes of the writing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from app.audit import attempts
from app.audit.attempts import FailedAttempts, entry_about
from app.audit.recorder import AuditEntry, record
from app.caller import Call, Caller, calling
from app.credentials.service import CredentialService
from app.database import Database
from app.models.audit import AuditOutcome
from app.tags.service import TagService
from tests.audit.trail import count, newest
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of, signed_in_as

TAG = {"name": "core"}


async def entries(database: Database) -> list[tuple[str, str, str, str, int]]:
    """(action, outcome, method, path, status) of requests that came to nothing, oldest first."""
    found = await newest(database, resource_type="request")
    return [tuple(entry[name] for name in ("action", "outcome", "method", "path", "status")) for entry in found[::-1]]  # type: ignore[misc]


class TestRule:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "WHATEVER"])
    @pytest.mark.parametrize("status", [401, 403])
    def test_refusals_always(self, method: str, status: int) -> None:
        entry = entry_about(method, status)
        assert entry is not None
        assert (entry.action, entry.outcome) == ("request:denied", AuditOutcome.DENIED)

    @pytest.mark.parametrize("status", [404, 409, 412, 500, 503, 507])
    def test_failures_of_writes_only(self, status: int) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE", "WHATEVER"):
            entry = entry_about(method, status)
            assert entry is not None
            assert (entry.action, entry.outcome) == ("request:failed", AuditOutcome.FAILED)
        for method in ("GET", "HEAD", "OPTIONS"):
            assert entry_about(method, status) is None

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 304, 400, 405, 413, 415, 422, 429])
    def test_nothing_else(self, status: int) -> None:
        assert entry_about("POST", status) is None


class TestRefused:
    async def test_a_stranger(self, stranger: httpx.AsyncClient, database: Database) -> None:
        answer = await stranger.get("/api/v1/instances?q=secret", headers={"X-Request-ID": "abc-1"})
        assert answer.status_code == 401
        [entry] = await newest(database)
        assert (entry["action"], entry["outcome"], entry["status"]) == ("request:denied", "denied", 401)
        assert (entry["method"], entry["path"]) == ("GET", "/api/v1/instances")
        assert (entry["actor_id"], entry["actor_name"]) == (None, None)
        assert (entry["client_address"], entry["request_id"]) == ("127.0.0.1", "abc-1")
        assert entry["space_id"] is None

    async def test_a_viewer_that_writes_is_named(self, app: FastAPI, registry: Registry, database: Database) -> None:
        user_id = await registry.user("vera", role="viewer")
        async with client_of(app, await key_of(app, user_id)) as viewer:
            assert (await viewer.post("/api/v1/tags", json=TAG)).status_code == 403
        [entry] = await newest(database)
        assert (entry["action"], entry["status"], entry["actor_id"]) == ("request:denied", 403, user_id)
        assert entry["actor_name"] == "vera"
        assert entry["api_key_prefix"] is not None

    async def test_no_part_of_what_was_presented_is_kept(self, app: FastAPI, database: Database) -> None:
        secret = "s3cret-" * 6
        for headers in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": secret}, {"Authorization": secret}):
            async with client_of(app, headers) as client:
                assert (await client.get(f"/api/v1/instances?token={secret}")).status_code == 401
        found = await newest(database)
        assert len(found) == 3
        assert "s3cret" not in repr(found)

    async def test_the_body_is_not_read(self, app: FastAPI, database: Database) -> None:
        async def body() -> AsyncIterator[bytes]:
            raise AssertionError("nobody may read this")
            yield b""

        async with client_of(app) as stranger:
            answer = await stranger.post("/api/v1/instances/batch-create", content=body())
        assert answer.status_code == 401
        assert await count(database) == 1


class TestFailed:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("DELETE", "/api/v1/tags/999", None, 404),
            ("PATCH", "/api/v1/instances/999", {"description": "x"}, 404),
            ("POST", "/api/v1/nowhere", None, 404),
            ("POST", "/api/v1/tags", TAG, 409),
        ],
    )
    async def test_a_write(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, method: str, path: str, body: Any,
        status: int,
    ) -> None:  # fmt: skip
        await registry.tag("core")
        assert (await client.request(method, path, json=body)).status_code == status
        assert await entries(database) == [("request:failed", "failed", method, path, status)]

    async def test_one_that_thought_of_another_state(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        path = f"/api/v1/tags/{await registry.tag()}"
        assert (await client.delete(path, headers={"If-Match": '"7"'})).status_code == 412
        assert await entries(database) == [("request:failed", "failed", "DELETE", path, 412)]

    @pytest.mark.parametrize("error", [RuntimeError("bug"), OSError("gone"), OperationalError("x", None, OSError())])
    async def test_one_that_breaks(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        async def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(TagService, "create", fail)
        answer = await client.post("/api/v1/tags", json=TAG)
        assert answer.status_code >= 500
        [entry] = await newest(database)
        assert (entry["action"], entry["status"]) == ("request:failed", answer.status_code)
        assert entry["actor_id"] is not None

    async def test_what_was_rolled_back_does_not_count_as_recorded(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(self: TagService, *_: object) -> None:
            entry = AuditEntry("tag:create", "tag", None, None, None, AuditOutcome.FAILED)
            async with self._session.begin_nested():
                await record(self._session, entry)
            raise RuntimeError("bug")

        monkeypatch.setattr(TagService, "create", fail)
        await client.post("/api/v1/tags", json=TAG)
        assert [entry["action"] for entry in await newest(database)] == ["request:failed"]

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/api/v1/tags/999", None),
            ("GET", "/api/v1/nowhere", None),
            ("POST", "/api/v1/tags", {"nonsense": 1}),
            ("PUT", "/api/v1/tags", None),
            ("GET", "/api/v1/tags?cursor=rubbish", None),
            ("GET", "/api/v1/tags", None),
        ],
    )
    async def test_no_read_and_no_bad_input(
        self, client: httpx.AsyncClient, database: Database, method: str, path: str, body: Any
    ) -> None:
        await client.request(method, path, json=body)
        assert await newest(database) == []


class TestOnce:
    async def test_a_deletion_that_is_blocked(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        instance_id = await registry.instance(deletion_protection=True)
        assert (await client.delete(f"/api/v1/instances/{instance_id}")).status_code == 409
        [entry] = await newest(database)
        assert (entry["action"], entry["outcome"], entry["status"]) == ("request:failed", "failed", 409)

    async def test_a_sign_in_that_was_denied(self, stranger: httpx.AsyncClient, database: Database) -> None:
        answer = await stranger.post("/api/v1/auth/login", data={"username": "nobody", "password": "wrong"})
        assert answer.status_code == 401
        [entry] = await newest(database)
        assert (entry["action"], entry["outcome"], entry["status"]) == ("auth:login", "denied", 401)

    async def test_what_succeeded_before_does_not_stand_for_the_failure(self, database: Database) -> None:
        noting = FailedAttempts(database)
        with calling(Call("POST", "/p", "192.0.2.1", Caller(1, "ada"))) as call:
            async with database.writers.begin() as session:
                await record(session, AuditEntry("x:y", "x", None, None, None))
            await noting.note(call, 500)
        assert [entry["action"] for entry in await newest(database)] == ["request:failed", "x:y"]

    @pytest.mark.parametrize("outcome", [AuditOutcome.FAILED, AuditOutcome.DENIED, AuditOutcome.PARTIAL])
    async def test_a_recorded_failure_does(self, database: Database, outcome: AuditOutcome) -> None:
        noting = FailedAttempts(database)
        with calling(Call("POST", "/p", "192.0.2.1", Caller(1, "ada"))) as call:
            async with database.writers.begin() as session:
                await record(session, AuditEntry("x:y", "x", None, None, None, outcome))
            await noting.note(call, 409)
        assert [entry["action"] for entry in await newest(database)] == ["x:y"]

    async def test_the_services_own_work_marks_nothing(self, database: Database) -> None:
        async with database.writers.begin() as session:
            await record(session, AuditEntry("x:y", "x", None, None, None, AuditOutcome.FAILED))
        from app.caller import current_call  # noqa: PLC0415

        assert not current_call().is_recorded


class TestWhenItCannotBeRecorded:
    async def test_the_client_is_told_the_same_and_the_log_has_it(
        self,
        client: httpx.AsyncClient,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def fail(*_: object) -> None:
            raise OSError("the database went away")

        monkeypatch.setattr(attempts, "record", fail)
        answer = await client.delete("/api/v1/tags/999")
        assert (answer.status_code, answer.json()["code"]) == (404, 25013)
        assert "was not recorded" in caplog.text
        assert await newest(database) == []

    async def test_a_client_does_not_wait_long_for_other_writers_and_the_entry_follows(
        self, client: httpx.AsyncClient, app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attempts, "PATIENCE_SECONDS", 0.05)
        may_write = asyncio.Event()
        real = attempts.record

        async def waiting(*arguments: Any) -> None:
            await may_write.wait()
            await real(*arguments)

        monkeypatch.setattr(attempts, "record", waiting)
        async with asyncio.timeout(10):
            answer = await client.delete("/api/v1/tags/999")
        assert answer.status_code == 404
        assert await newest(database) == []
        may_write.set()
        await app.state.failed_attempts.close()
        assert await entries(database) == [("request:failed", "failed", "DELETE", "/api/v1/tags/999", 404)]

    async def test_refused_callers_take_few_connections(
        self, app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(attempts, "PATIENCE_SECONDS", 0.01)
        may_write, waiting_now = asyncio.Event(), 0
        real = attempts.run_in_transaction

        async def waiting(*arguments: Any) -> Any:
            nonlocal waiting_now
            waiting_now += 1
            await may_write.wait()
            return await real(*arguments)

        monkeypatch.setattr(attempts, "run_in_transaction", waiting)
        async with client_of(app) as stranger:
            await asyncio.gather(*(stranger.get("/api/v1/instances") for _ in range(30)))
        most = waiting_now
        may_write.set()
        assert most == attempts.CONNECTIONS
        await app.state.failed_attempts.close()
        assert await count(database) == 30


async def test_credentials_of_a_failed_write_are_not_kept(
    app: FastAPI, admin: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("hunter2-hunter2")

    monkeypatch.setattr(CredentialService, "create", fail)
    async with client_of(app, await signed_in_as(app, admin)) as client:
        body = {"name": "ops", "type": "database", "username": "u", "password": "hunter2-hunter2"}
        assert (await client.post("/api/v1/credentials", json=body)).status_code == 500
    [entry] = await newest(database)
    assert entry["action"] == "request:failed"
    assert "hunter2" not in repr(entry)
