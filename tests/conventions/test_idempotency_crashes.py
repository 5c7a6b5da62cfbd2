"""`Idempotency-Key` when a process dies, and when it was only thought to be dead."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, func, select, update
from starlette.types import Send

from app.access import idempotency, idempotency_store
from app.access.idempotency_repository import Claim, StoredAnswer
from app.access.idempotency_store import KEPT, LEASE, IdempotencyStore
from app.database import Database
from app.models.base import table_of, utc_now
from app.models.idempotency import IdempotencyKey
from app.models.tag import Tag
from app.tags.service import TagService
from tests.factories import Registry
from tests.instances.importing import URL as IMPORT_URL
from tests.instances.importing import csv_of, rows

URL = "/api/v1/tags"
KEY = {"Idempotency-Key": "k"}
REPLAYED = "idempotency-replayed"
_keys = table_of(IdempotencyKey)


class Died(Exception):
    """Whatever it stands in for does not happen any more."""


def _die(*_: object) -> None:
    raise Died


async def _die_trying(*_: object) -> None:
    raise Died


_hear_nothing = _die_trying


async def kept(database: Database) -> list[Any]:
    async with database.readers() as session:
        return list((await session.execute(select(_keys).order_by(_keys.c.key))).all())


async def tags(database: Database) -> int:
    async with database.readers() as session:
        return (await session.execute(select(func.count()).select_from(Tag))).scalar_one()


async def until(database: Database, is_true: Callable[[Any], bool]) -> None:
    for _ in range(1_000):
        if is_true((await kept(database))[0]):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not happened")


async def set_all(database: Database, **values: Any) -> None:
    async with database.writers.begin() as session:
        await session.execute(update(_keys).values(**values))


@pytest.fixture
def store(app: FastAPI) -> IdempotencyStore:
    found = app.state.idempotency_store
    assert isinstance(found, IdempotencyStore)
    return found


def claim_of(user_id: int, attempt: str, fingerprint: str = "f") -> Claim:
    return Claim(user_id, "k", fingerprint, attempt)


class TestBetweenWorkAndAnswer:
    async def test_the_answer_is_kept_in_the_transaction_of_the_work(
        self, app: FastAPI, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that dies before the commit leaves neither; being dead, it does not tidy up."""
        create = TagService.create

        async def create_and_die(service: TagService, *arguments: Any) -> Any:
            event.listen(service._session.sync_session, "before_commit", _die)
            return await create(service, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(TagService, "create", create_and_die)
            patch.setattr(IdempotencyStore, "release", _die_trying)
            with pytest.raises(Died):
                await _sent(app, client, _hear_nothing)
        assert await tags(database) == 0
        assert [row.status for row in await kept(database)] == [None]

    async def test_an_answer_that_never_arrived_is_sent_again(
        self, app: FastAPI, client: httpx.AsyncClient, database: Database
    ) -> None:
        with pytest.raises(Died):
            await _sent(app, client, _hear_nothing)
        again = await client.post(URL, content=b'{"name": "core"}', headers=KEY | {"content-type": "application/json"})
        assert (again.status_code, again.headers[REPLAYED]) == (201, "true")
        assert again.json()["name"] == "core"
        assert await tags(database) == 1

    async def test_an_import_that_died_is_done_again_and_finds_its_rows(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(idempotency, "as_stored", _die_trying)
            patch.setattr(IdempotencyStore, "release", _die_trying)
            files = {"file": ("a.csv", csv_of(*rows(2)).encode(), "text/csv")}
            assert (await client.post(IMPORT_URL, files=files, headers=KEY)).status_code == 500
        assert (await client.post(IMPORT_URL, files=files, headers=KEY)).status_code == 409
        await set_all(database, lease_until=utc_now() - timedelta(seconds=1))
        again = await client.post(IMPORT_URL, files=files, headers=KEY)
        assert (again.status_code, again.json()["counts"]["skipped"]) == (200, 2)


async def _sent(app: FastAPI, client: httpx.AsyncClient, send: Send) -> None:
    """The request as a server hands it to the application, and whatever becomes of the answer."""
    headers = {**client.headers, **KEY, "content-type": "application/json", "host": "muster.test"}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"name": "core"}', "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("muster.test", 80),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    await app(scope, receive, send)


class TestLease:
    async def test_an_attempt_that_lives_keeps_others_out(
        self, client: httpx.AsyncClient, store: IdempotencyStore, admin: int, database: Database
    ) -> None:
        await client.post(URL, json={"name": "core"}, headers=KEY)
        await set_all(database, status=None, lease_until=utc_now() + timedelta(minutes=1))
        assert (await client.post(URL, json={"name": "core"}, headers=KEY)).status_code == 409

    async def test_one_that_died_is_taken_over(self, client: httpx.AsyncClient, database: Database) -> None:
        await client.post(URL, json={"name": "core"}, headers=KEY)
        async with database.writers.begin() as session:
            await session.execute(table_of(Tag).delete())
        await set_all(database, status=None, lease_until=utc_now() - timedelta(seconds=1))
        answer = await client.post(URL, json={"name": "core"}, headers=KEY)
        assert answer.status_code == 201
        assert REPLAYED not in answer.headers

    async def test_one_that_died_still_binds_the_payload(self, client: httpx.AsyncClient, database: Database) -> None:
        await client.post(URL, json={"name": "core"}, headers=KEY)
        await set_all(database, status=None, lease_until=utc_now() - timedelta(seconds=1))
        assert (await client.post(URL, json={"name": "edge"}, headers=KEY)).status_code == 422

    async def test_it_is_renewed_while_the_work_goes_on(
        self, app: FastAPI, store: IdempotencyStore, admin: int, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(idempotency_store, "RENEWAL_SECONDS", 0.01)
        claim = claim_of(admin, "a")
        await store.claim(claim)
        await set_all(database, lease_until=utc_now() + timedelta(seconds=1))
        async with store.renewing(claim):
            await until(database, lambda row: row.lease_until > utc_now() + LEASE / 2)

    async def test_it_is_renewed_for_the_attempt_that_has_it_only(
        self, store: IdempotencyStore, admin: int, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(idempotency_store, "RENEWAL_SECONDS", 0.0)
        await store.claim(claim_of(admin, "a"))
        soon = utc_now() + timedelta(seconds=1)
        await set_all(database, lease_until=soon)
        async with store.renewing(claim_of(admin, "b")):
            for _ in range(20):
                await asyncio.sleep(0.001)
        assert (await kept(database))[0].lease_until == soon


class TestTakenOver:
    """An attempt that was thought to be dead must not say anything any more."""

    async def test_its_answer_is_not_kept(self, store: IdempotencyStore, admin: int, database: Database) -> None:
        await store.claim(claim_of(admin, "a"))
        await set_all(database, lease_until=utc_now() - timedelta(seconds=1))
        assert await store.claim(claim_of(admin, "b")) is None
        await store.complete(claim_of(admin, "a"), StoredAnswer(201, {}, b"a"))
        async with database.writers.begin() as session:
            assert not await store.complete_within(session, claim_of(admin, "a"), StoredAnswer(201, {}, b"a"))
        await store.release(claim_of(admin, "a"))
        [row] = await kept(database)
        assert (row.attempt, row.status) == ("b", None)
        await store.complete(claim_of(admin, "b"), StoredAnswer(201, {}, b"b"))
        assert await store.claim(claim_of(admin, "c")) == StoredAnswer(201, {}, b"b")

    async def test_its_work_is_undone(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On PostgreSQL. On SQLite, whose writers take turns, the work ends before anybody can take it over."""
        slow, begun, go_on = idempotency.as_stored, asyncio.Event(), asyncio.Event()

        async def as_stored(response: Any) -> StoredAnswer:
            if not begun.is_set():
                begun.set()
                await go_on.wait()
            return await slow(response)

        monkeypatch.setattr(idempotency, "as_stored", as_stored)
        first = asyncio.create_task(client.post(URL, json={"name": "core"}, headers=KEY))
        await begun.wait()
        if not database.is_sqlite:
            await set_all(database, lease_until=utc_now() - timedelta(seconds=1))
        [before] = await kept(database)
        second = asyncio.create_task(client.post(URL, json={"name": "core"}, headers=KEY))
        if not database.is_sqlite:
            await until(database, lambda row: row.attempt != before.attempt)
        go_on.set()
        answers = [await first, await second]
        assert [each.status_code for each in answers] == ([201, 201] if database.is_sqlite else [409, 201])
        assert (REPLAYED in answers[1].headers) == database.is_sqlite
        assert await tags(database) == 1


class TestCleaning:
    async def test_what_is_a_day_old_is_removed(
        self,
        store: IdempotencyStore,
        admin: int,
        registry: Registry,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(idempotency_store, "STEP_KEYS", 2)
        now = utc_now()
        old, past = now - KEPT - timedelta(seconds=1), now - timedelta(hours=23)
        ages = {"old 1": (old, old), "old 2": (old, old), "old 3": (old, old), "young": (past, past)}
        ages["old but at work"] = (old, now + LEASE)
        for key, (created_at, lease_until) in ages.items():
            values = {"user_id": admin, "key": key, "fingerprint": "f", "attempt": "a", "status": 200}
            await registry.insert("idempotency_keys", created_at=created_at, lease_until=lease_until, **values)
        assert await store.remove_old() == 3
        assert [row.key for row in await kept(database)] == ["old but at work", "young"]

    async def test_what_is_a_day_old_and_still_there_counts_no_more(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await client.post(URL, json={"name": "core"}, headers=KEY)
        old = utc_now() - KEPT - timedelta(seconds=1)
        await set_all(database, created_at=old, lease_until=old)
        assert (await client.post(URL, json={"name": "edge"}, headers=KEY)).status_code == 201
        assert (await client.post(URL, json={"name": "edge"}, headers=KEY)).headers[REPLAYED] == "true"

    async def test_they_go_with_the_user(self, store: IdempotencyStore, admin: int, database: Database) -> None:
        await store.claim(claim_of(admin, "a"))
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql(f"DELETE FROM users WHERE id = {admin}")
        assert await kept(database) == []
