"""PostgreSQL goes away in the middle of a batch: nothing half-deleted, nothing claimed that is not so."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.config import Settings
from app.database import Database
from app.instances import deletion_runner
from app.instances.batch_deletion import InstanceBatchDeletionService
from app.instances.deletion_batch import DeletionBatch
from app.main import create_app
from app.models.instance import Instance
from app.models.operation import OperationState
from app.operations.records import OperationRecord
from tests.conftest import execute_on, migrate
from tests.factories import Registry
from tests.instances.fleet import BELOW, ONE_AT_MOST, batch_delete, events, fleet, statuses
from tests.instances.operating import Deletions
from tests.postgres_server import PostgresServer

INSTANCES = 200
ROWS_BELOW = dict.fromkeys(BELOW, 2) | ONE_AT_MOST
Crash = Callable[[], None]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of these tests' own, that keeps what it has committed and forgets what it has only answered."""
    server = PostgresServer(fsync=True)
    server.start()
    # By default the log's writer follows five times a second, so that a crash would rarely have something to forget.
    asyncio.run(execute_on(server.url(), "ALTER SYSTEM SET wal_writer_delay = '10s'"))
    asyncio.run(execute_on(server.url(), "SELECT pg_reload_conf()"))
    asyncio.run(execute_on(server.url(), "CREATE DATABASE template_muster"))
    migrate(server.url("template_muster"))
    yield server
    server.remove()


@pytest.fixture
async def app(server: PostgresServer, tmp_path: Path) -> AsyncIterator[FastAPI]:
    name = f"test_{uuid4().hex}"
    await execute_on(server.url(), f"CREATE DATABASE {name} TEMPLATE template_muster")
    settings = Settings(
        database_url=server.url(name),
        data_dir=tmp_path,
        judge_processes=0,
        log_level="CRITICAL",
        allowed_hosts="muster.test",
    )
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def ids(database: Database) -> list[int]:
    return await fleet(database, [2] * INSTANCES)


@pytest.fixture
async def crash(server: PostgresServer) -> AsyncIterator[Crash]:
    """Stops the server at once, while the event loop stands still, and lets it come back while the loop goes on."""
    starts: list[asyncio.Future[None]] = []

    def crash() -> None:
        server.stop(immediately=True)
        starts.append(asyncio.get_running_loop().run_in_executor(None, server.start))

    yield crash
    await asyncio.gather(*starts)


def after(noted: int, crash: Crash, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has it crash when so many outcomes of a batch are known."""
    note, count = DeletionBatch.note, 0

    def note_and_crash(*arguments: Any) -> None:
        nonlocal count
        note(*arguments)
        count += 1
        if count == noted:
            crash()

    monkeypatch.setattr(DeletionBatch, "note", note_and_crash)


async def agree(registry: Registry, database: Database, report: Mapping[str, Any], ids: Sequence[int]) -> None:
    """Every instance is wholly there or wholly gone, and report, database and audit trail say the same."""
    status = statuses(report)
    gone = [key for key in ids if status[key] == "deleted"]
    there = [key for key in ids if status[key] != "deleted"]
    assert await registry.rows_of(gone) == dict.fromkeys(BELOW, 0)
    assert await registry.rows_of(there) == {name: rows * len(there) for name, rows in ROWS_BELOW.items()}
    counts = await registry.counts()
    assert counts["instances"] == len(there)
    assert {name: counts[name] for name in BELOW} == {name: rows * len(there) for name, rows in ROWS_BELOW.items()}
    entries = await events(database, "instance:delete")
    assert Counter(entry["resource_id"] for entry in entries) == Counter(gone)
    [batch] = await events(database, "instance:batch_delete")
    assert {entry["batch_id"] for entry in entries} <= {batch["batch_id"]}
    assert batch["changes"]["counts"] == report["counts"]


class TestRestart:
    async def test_in_the_middle(
        self,
        client: httpx.AsyncClient,
        database: Database,
        registry: Registry,
        ids: list[int],
        crash: Crash,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        after(80, crash, monkeypatch)
        report = await batch_delete(client, ids)
        assert report["outcome"] == "complete"
        assert report["rows_deleted"] == {name: rows * INSTANCES for name, rows in ROWS_BELOW.items()} | {
            "instances": INSTANCES
        }
        await agree(registry, database, report, ids)

    async def test_when_all_are_done_but_not_yet_on_disk(
        self,
        client: httpx.AsyncClient,
        database: Database,
        registry: Registry,
        ids: list[int],
        crash: Crash,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        finish, forgotten = InstanceBatchDeletionService._finish, []
        record = InstanceBatchDeletionService._record

        async def crash_and_finish(*arguments: Any) -> None:
            crash()
            await finish(*arguments)

        async def noting(*arguments: Any, **options: Any) -> Any:
            forgotten.append(lost := await record(*arguments, **options))
            return lost

        monkeypatch.setattr(InstanceBatchDeletionService, "_finish", crash_and_finish)
        monkeypatch.setattr(InstanceBatchDeletionService, "_record", noting)
        report = await batch_delete(client, ids)
        assert report["outcome"] == "complete"
        assert [bool(each) for each in forgotten] == [True, False]
        await agree(registry, database, report, ids)

    async def test_of_a_soft_deletion(
        self,
        client: httpx.AsyncClient,
        database: Database,
        ids: list[int],
        crash: Crash,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        after(80, crash, monkeypatch)
        report = await batch_delete(client, ids, mode="soft")
        assert report["outcome"] == "complete"
        answer = (await client.get("/api/v1/instances", params={"status": "deleted", "include_total": True})).json()
        assert answer["total"] == INSTANCES
        assert {item["revision"] for item in answer["items"]} == {2}
        assert Counter(entry["resource_id"] for entry in await events(database, "instance:delete")) == Counter(ids)


class TestServerStaysAway:
    async def test_the_rest_is_failed_and_can_be_retried(
        self,
        server: PostgresServer,
        client: httpx.AsyncClient,
        database: Database,
        registry: Registry,
        ids: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(deletion_runner, "SETTLE_EVERY", 5)
        after(80, lambda: server.stop(immediately=True), monkeypatch)
        begun = time.monotonic()
        report = await batch_delete(client, ids)
        seconds = time.monotonic() - begun
        server.start()
        assert seconds < 15
        found = Counter(statuses(report).values())
        assert found.keys() == {"deleted", "failed"}
        assert found["failed"] >= INSTANCES - 80
        failed = [item for item in report["items"] if item["status"] == "failed"]
        assert {(item["error"]["code"], item["retryable"]) for item in failed} == {(25010, True)}
        # What was claimed is so, and what was not is nowhere half.
        async with database.readers() as session:
            there = set(await session.scalars(select(Instance.id)))
        assert there.isdisjoint(key for key, status in statuses(report).items() if status == "deleted")
        assert await registry.rows_of(list(there)) == {name: rows * len(there) for name, rows in ROWS_BELOW.items()}
        assert await registry.rows_of(list(set(ids) - there)) == dict.fromkeys(BELOW, 0)

    async def test_trying_again_deletes_the_rest(
        self,
        server: PostgresServer,
        client: httpx.AsyncClient,
        registry: Registry,
        ids: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(deletion_runner, "RECONNECT_SECONDS", (0.1,))
        after(80, lambda: server.stop(immediately=True), monkeypatch)
        report = await batch_delete(client, ids)
        server.start()
        again = [item["instance_id"] for item in report["items"] if item["status"] == "failed"]
        found = set(statuses(await batch_delete(client, again)).values())
        assert found <= {"deleted", "missing"}
        assert await registry.rows_of(ids) == dict.fromkeys(BELOW, 0)

    async def test_a_single_deletion_is_answered_with_503(
        self, server: PostgresServer, client: httpx.AsyncClient, database: Database
    ) -> None:
        [instance_id] = await fleet(database, [0])
        server.stop()
        answer = await client.delete(f"/api/v1/instances/{instance_id}")
        server.start()
        assert (answer.status_code, answer.json()["code"]) == (503, 25010)
        assert answer.headers["Retry-After"]


class TestLostConnections:
    async def test_are_replaced(
        self,
        server: PostgresServer,
        client: httpx.AsyncClient,
        database: Database,
        registry: Registry,
        ids: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ended: list[asyncio.Task[None]] = []

        def end_connections() -> None:
            statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'"
            ended.append(asyncio.create_task(execute_on(server.url(), statement)))

        after(40, end_connections, monkeypatch)
        report = await batch_delete(client, ids)
        assert ended[0].done()
        assert report["outcome"] == "complete"
        await agree(registry, database, report, ids)


class TestOperation:
    """In the background nothing is failed because of an outage: the attempt begins again."""

    @pytest.fixture
    async def deletions(self, app: FastAPI, admin: int) -> Deletions:
        return Deletions(app, admin)

    async def agree(
        self, deletions: Deletions, database: Database, registry: Registry, operation: OperationRecord, ids: list[int]
    ) -> None:
        """All are gone, each with one item and one entry in the audit trail."""
        assert (operation.state, operation.counts) == (OperationState.SUCCEEDED, {"deleted": INSTANCES})
        assert operation.done == operation.total == INSTANCES
        items = await deletions.items(operation)
        assert [(item["instance_id"], item["status"]) for item in items] == [(key, "deleted") for key in ids]
        entries = await events(database, "instance:delete")
        assert Counter(entry["resource_id"] for entry in entries) == Counter(ids)
        assert len(await events(database, "instance:batch_delete")) == 1
        counts = await registry.counts()
        assert {name: counts[name] for name in BELOW} == dict.fromkeys(BELOW, 0)

    async def test_goes_on_after_a_crash_in_the_middle(
        self,
        deletions: Deletions,
        database: Database,
        registry: Registry,
        ids: list[int],
        crash: Crash,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        after(80, crash, monkeypatch)
        await self.agree(deletions, database, registry, await deletions.delete(ids), ids)

    async def test_does_again_what_a_crash_took_back_at_the_end(
        self,
        deletions: Deletions,
        database: Database,
        registry: Registry,
        ids: list[int],
        crash: Crash,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        after(INSTANCES, crash, monkeypatch)
        operation = await deletions.delete(ids)
        assert operation.attempt > 1
        await self.agree(deletions, database, registry, operation, ids)

    async def test_outlasts_a_server_that_stays_away(
        self,
        server: PostgresServer,
        deletions: Deletions,
        database: Database,
        registry: Registry,
        ids: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """For longer than a batch waits for it."""
        monkeypatch.setattr(deletion_runner, "RECONNECT_SECONDS", (0.1,))
        starts: list[asyncio.Future[None]] = []

        async def start_later() -> None:
            await asyncio.sleep(2)
            await asyncio.to_thread(server.start)

        def stop() -> None:
            server.stop(immediately=True)
            starts.append(asyncio.ensure_future(start_later()))

        after(80, stop, monkeypatch)
        operation = await deletions.delete(ids)
        await asyncio.gather(*starts)
        assert operation.attempt > 1
        await self.agree(deletions, database, registry, operation, ids)
