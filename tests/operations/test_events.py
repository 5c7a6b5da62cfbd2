"""Server-sent events: what a watcher is told of an operation, when the stream ends, and what it costs others."""

import asyncio
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import fastapi.routing
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete

from app.config import Settings
from app.database import Database
from app.models import Base
from app.operations import events, repository
from tests.factories import Registry
from tests.operations.rows import operation_of
from tests.operations.streaming import WAIT_SECONDS, Streamed, streamed
from tests.served import Served, serve
from tests.signing_in import key_of, signed_in_as
from tests.users.acting import problem, user_with

tables = Base.metadata.tables


def url(operation_id: int) -> str:
    return f"/api/v1/operations/{operation_id}/events"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.02)


@pytest.fixture
async def headers(app: FastAPI, admin: int) -> Mapping[str, str]:
    return await signed_in_as(app, admin)


@pytest.fixture
async def running(registry: Registry, admin: int) -> int:
    return await operation_of(registry, admin, state="running", done=1, counts={"deleted": 1}, revision=5)


async def change(database: Database, operation_id: int, **values: Any) -> None:
    async with database.writers.begin() as session:
        await repository.change(session, operation_id, values)


async def execute(database: Database, statement: Any) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(statement)


async def named(answer: Streamed) -> tuple[str | None, str | None] | None:
    event = await answer.next()
    return None if event is None else (event.name, event.id)


class TestFollowing:
    async def test_is_told_of_each_change_and_of_the_end(
        self, app: FastAPI, client: httpx.AsyncClient, database: Database, headers: Any, running: int
    ) -> None:
        async with streamed(app, url(running), headers) as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            first = await answer.next()
            assert first is not None
            assert (first.name, first.id) == ("progress", "5")
            assert first.data == (await client.get(f"/api/v1/operations/{running}")).json()
            await change(database, running, done=2)
            second = await answer.next()
            assert second is not None
            assert (second.name, second.id, second.data["done"]) == ("progress", "6", 2)
            await change(database, running, done=3, state="succeeded")
            [last] = await answer.rest()
            assert (last.name, last.id, last.data["state"]) == ("done", "7", "succeeded")

    async def test_nothing_new_is_not_told_again(
        self, app: FastAPI, database: Database, headers: Any, running: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = asyncio.Semaphore(0)
        look = events.OperationStreams.event

        async def noted(self: Any, operation_id: int) -> Any:
            looks.release()
            return await look(self, operation_id)

        monkeypatch.setattr(events.OperationStreams, "event", noted)
        async with streamed(app, url(running), headers) as answer:
            for _ in range(5):
                await looks.acquire()
            await change(database, running, state="failed")
            assert [(event.name, event.id) for event in await answer.rest()] == [("progress", "5"), ("done", "6")]

    async def test_a_silent_stream_is_kept_alive(
        self, app: FastAPI, headers: Any, running: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
        async with streamed(app, url(running), headers) as answer:
            assert await named(answer) == ("progress", "5")
            assert await named(answer) == (None, None)

    async def test_no_proxy_keeps_it_back(self, app: FastAPI, headers: Any, running: int) -> None:
        async with streamed(app, url(running), headers) as answer:
            assert answer.headers["cache-control"] == "no-cache"
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "content-length" not in answer.headers

    async def test_with_a_key(self, app: FastAPI, admin: int, running: int) -> None:
        async with streamed(app, url(running), await key_of(app, admin)) as answer:
            assert await named(answer) == ("progress", "5")


class TestComingBack:
    async def test_to_what_was_seen_waits_for_more(
        self, app: FastAPI, database: Database, headers: Any, running: int
    ) -> None:
        async with streamed(app, url(running), {**headers, "Last-Event-ID": "5"}) as answer:
            await change(database, running, done=2)
            assert await named(answer) == ("progress", "6")

    async def test_to_something_newer(self, app: FastAPI, headers: Any, running: int) -> None:
        async with streamed(app, url(running), {**headers, "Last-Event-ID": "4"}) as answer:
            assert await named(answer) == ("progress", "5")

    @pytest.mark.parametrize("seen", ["", "5 5", "nonsense", "9" * 40])
    async def test_with_an_id_of_nobodys(self, app: FastAPI, headers: Any, running: int, seen: str) -> None:
        async with streamed(app, url(running), {**headers, "Last-Event-ID": seen}) as answer:
            assert await named(answer) == ("progress", "5")

    async def test_after_the_end(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, ("deleted",), revision=8)
        for seen in ({}, {"Last-Event-ID": "7"}):
            answer = await client.get(url(operation_id), headers=seen)
            assert answer.status_code == 200
            assert answer.text.startswith("event: done\n")
            assert "\nid: 8\n" in answer.text
        over = await client.get(url(operation_id), headers={"Last-Event-ID": "8"})
        assert (over.status_code, over.content) == (204, b"")


class TestEnd:
    async def test_when_the_session_ends(
        self, app: FastAPI, stranger: httpx.AsyncClient, headers: Any, running: int
    ) -> None:
        async with streamed(app, url(running), headers) as answer:
            assert await named(answer) == ("progress", "5")
            assert (await stranger.post("/api/v1/auth/logout", headers=headers)).status_code == 204
            assert await answer.rest() == []

    async def test_when_the_right_is_lost(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, running: int
    ) -> None:
        user_id = await user_with(registry, *("operation:read", "operation:read_all"))  # type: ignore[arg-type]
        async with streamed(app, url(running), await signed_in_as(app, user_id)) as answer:
            assert await named(answer) == ("progress", "5")
            assert (await client.put(f"/api/v1/users/{user_id}/roles", json=[])).status_code == 200
            assert await answer.rest() == []

    async def test_when_the_right_to_see_everybodys_is_lost(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, running: int
    ) -> None:
        """Who may see their own still, is told nothing more of somebody else's."""
        user_id = await user_with(registry, *("operation:read", "operation:read_all"))  # type: ignore[arg-type]
        async with streamed(app, url(running), await signed_in_as(app, user_id)) as answer:
            assert await named(answer) == ("progress", "5")
            roles = [{"role": "viewer", "space_id": None}]
            assert (await client.put(f"/api/v1/users/{user_id}/roles", json=roles)).status_code == 200
            assert await answer.rest() == []

    async def test_when_the_token_expires(
        self, app: FastAPI, headers: Any, running: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with streamed(app, url(running), headers) as answer:
            assert await named(answer) == ("progress", "5")
            monkeypatch.setattr(app.state.tokens, "verify", lambda _: None)
            app.state.identities.forget()
            assert await answer.rest() == []

    async def test_when_the_operation_is_gone(
        self, app: FastAPI, database: Database, headers: Any, running: int
    ) -> None:
        async with streamed(app, url(running), headers) as answer:
            assert await named(answer) == ("progress", "5")
            await execute(database, delete(tables["operations"]))
            assert await answer.rest() == []

    async def test_after_a_quarter_of_an_hour(
        self, app: FastAPI, headers: Any, running: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "LIFE_SECONDS", 0.0)
        async with streamed(app, url(running), headers) as answer:
            assert [(event.name, event.id) for event in await answer.rest()] == [("progress", "5")]

    async def test_when_the_server_stops(self, app: FastAPI, headers: Any, running: int) -> None:
        async with streamed(app, url(running), headers) as answer:
            assert await named(answer) == ("progress", "5")
            app.state.operation_streams.close()
            assert await answer.rest() == []

    async def test_not_when_the_database_is_away_for_a_moment(
        self, app: FastAPI, database: Database, headers: Any, running: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = events.OperationStreams.event
        refused = asyncio.Semaphore(0)

        async def failing(*_: object) -> Any:
            refused.release()
            raise OSError("the database is away")

        async with streamed(app, url(running), headers) as answer:
            assert await named(answer) == ("progress", "5")
            monkeypatch.setattr(events.OperationStreams, "event", failing)
            for _ in range(3):
                await refused.acquire()
            monkeypatch.setattr(events.OperationStreams, "event", look)
            await change(database, running, state="succeeded")
            assert [(event.name, event.id) for event in await answer.rest()] == [("done", "6")]


class TestManyWatchers:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"pool_size": 2, "pool_max_overflow": 0, "pool_timeout_seconds": 5.0})

    async def test_leave_the_pool_to_others(
        self, app: FastAPI, client: httpx.AsyncClient, database: Database, headers: Any, running: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """A hundred times as many as there are connections."""
        monkeypatch.setattr(events, "MAX_STREAMS_OF_USER", 200)
        monkeypatch.setattr(events, "LOOK_SECONDS", 0.5)
        async with AsyncExitStack() as stack:
            opened = [stack.enter_async_context(streamed(app, url(running), headers)) for _ in range(200)]
            answers = [await each for each in opened]
            for answer in answers:
                assert await named(answer) == ("progress", "5")
            for _ in range(20):
                assert (await client.get(f"/api/v1/operations/{running}")).status_code == 200
            await change(database, running, state="succeeded")
            for answer in answers:
                assert await named(answer) == ("done", "6")

    async def test_hold_no_connection_between_looks(
        self, app: FastAPI, database: Database, headers: Any, running: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "LOOK_SECONDS", WAIT_SECONDS)
        async with streamed(app, url(running), headers) as answer:
            assert await named(answer) == ("progress", "5")
            assert database.pool.checkedout() == 0

    async def test_of_one_user_are_bounded(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, headers: Any, running: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(events, "MAX_STREAMS_OF_USER", 2)
        user_id = await user_with(registry, *("operation:read", "operation:read_all"))  # type: ignore[arg-type]
        async with streamed(app, url(running), headers), streamed(app, url(running), headers):
            refused = await client.get(url(running))
            assert problem(refused) == (429, 25022)
            assert int(refused.headers["retry-after"]) > 0
            async with streamed(app, url(running), await signed_in_as(app, user_id)) as others:
                assert others.status == 200
        async with streamed(app, url(running), headers) as answer:
            assert answer.status == 200

    async def test_a_refused_one_takes_no_place(
        self, app: FastAPI, client: httpx.AsyncClient, headers: Any, running: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "MAX_STREAMS_OF_USER", 1)
        for _ in range(3):
            assert (await client.get(url(running + 1))).status_code == 404
        async with streamed(app, url(running), headers) as answer:
            assert answer.status == 200


class TestServer:
    """As an operator starts it."""

    @pytest.fixture
    def served(self, database_kind: str, database_url: str, tmp_path: Path) -> Iterator[Served]:
        # An embedded database has no other worker, and this one takes up at its start only what is there.
        worker = {} if database_kind == "sqlite" else {"server_worker": "off"}
        server = serve(tmp_path / "data", database_url=database_url, **worker)
        yield server
        server.end()

    async def test_ends_although_somebody_watches(self, served: Served, settings: Settings) -> None:
        database = Database(settings)
        async with httpx.AsyncClient(base_url=served.url, headers=served.key, timeout=WAIT_SECONDS) as client:
            user_id = (await client.get("/api/v1/auth/me")).json()["id"]
            operation_id = await operation_of(Registry(database), user_id, state="running")
            await database.dispose()
            async with client.stream("GET", url(operation_id)) as answer:
                assert answer.status_code == 200
                lines = answer.aiter_lines()
                assert await anext(lines) == "event: progress"
                assert await asyncio.to_thread(served.stop, signal.SIGTERM) == 0
                rest = [line async for line in lines]
        assert "event: done" not in rest
