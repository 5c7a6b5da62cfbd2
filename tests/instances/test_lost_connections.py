"""Batch create while PostgreSQL crashes and comes back: no row is lost, none is there twice."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.util import await_only

from app.config import Settings
from app.database import Database
from app.instances import batch_repository, batch_transactions
from app.instances.chunk_writer import ChunkWriter
from app.models.audit import AuditEvent
from tests.conftest import execute_on, migrate
from tests.instances.importing import Report, csv_of, import_csv, instances, problem, rows, upload
from tests.postgres_server import PostgresServer

ROWS = 10
CHUNK_ROWS = 3


@pytest.fixture(scope="module")
def durable() -> Iterator[PostgresServer]:
    """A migrated server of this module's own, which keeps what it has committed."""
    server = PostgresServer(fsync=True)
    server.start()
    try:
        migrate(server.url())
        yield server
    finally:
        server.remove()


class Crashes:
    """Crashes the server, and starts it again while the import goes on."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.is_down = False
        self._restart: threading.Thread | None = None

    async def crash(self, *, for_good: bool = False) -> None:
        await asyncio.to_thread(self.server.stop, immediately=True)
        self.is_down = True
        if not for_good:
            self._restart = threading.Thread(target=self.start)
            self._restart.start()

    def start(self) -> None:
        self.server.start()
        self.is_down = False

    def end(self) -> None:
        if self._restart is not None:
            self._restart.join()
        if self.is_down:
            self.start()


@pytest.fixture
def crashes(durable: PostgresServer) -> Iterator[Crashes]:
    crashes = Crashes(durable)
    yield crashes
    crashes.end()


@pytest.fixture
def database_kind() -> str:
    return "postgresql"


@pytest.fixture
def database_url(crashes: Crashes) -> str:
    """One for all tests: with every database more, a crashed server takes longer to start."""
    asyncio.run(execute_on(crashes.server.url(), "TRUNCATE instances, tags, audit_events CASCADE"))
    return crashes.server.url()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One chunk at a time, so that a test can say which are written before the crash."""
    return settings.model_copy(update={"batch_chunk_rows": CHUNK_ROWS, "import_connections": 1})


def after_writing_chunk(number: int, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Acts once, when the chunk is written and not yet committed."""
    write, written = ChunkWriter.write, []

    async def acting(self: ChunkWriter, *arguments: Any) -> Any:
        outcomes = await write(self, *arguments)
        written.append(outcomes)
        if len(written) == number:
            await act()
        return outcomes

    monkeypatch.setattr(ChunkWriter, "write", acting)


def crash_after_the_next_commit(crashes: Crashes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is applied, but its answer never comes."""
    commit, pending = AsyncAdapt_asyncpg_connection.commit, [crashes.crash]

    def unanswered(self: AsyncAdapt_asyncpg_connection) -> None:
        is_transaction = self._transaction is not None
        commit(self)
        if pending and is_transaction:
            await_only(pending.pop()())
            self._handle_exception(asyncpg.ConnectionDoesNotExistError("connection was closed in the middle"))

    monkeypatch.setattr(AsyncAdapt_asyncpg_connection, "commit", unanswered)


async def audited(database: Database, action: str) -> list[AuditEvent]:
    async with database.readers() as session:
        return list(
            await session.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id))
        )


async def require_agreement(client: httpx.AsyncClient, database: Database, report: Report) -> None:
    """Report, instances and audit trail say the same."""
    created = {item["name"]: item["instance_id"] for item in report.body["items"] if item["status"] == "created"}
    assert {name: item["id"] for name, item in (await instances(client)).items()} == created
    events = await audited(database, "instance:create")
    assert sorted((event.resource_name, event.resource_id) for event in events) == sorted(created.items())
    [batch] = await audited(database, "instance:batch_create")
    assert batch.changes is not None
    assert batch.changes["counts"] == report.body["counts"]


class TestCrash:
    @pytest.fixture(autouse=True)
    def much_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a busy machine a server can take long to start."""
        monkeypatch.setattr(batch_transactions, "RECONNECT_SECONDS", (0.1,) * 300)

    @pytest.mark.parametrize("atomic", [False, True])
    async def test_before_a_commit(
        self,
        client: httpx.AsyncClient,
        database: Database,
        crashes: Crashes,
        monkeypatch: pytest.MonkeyPatch,
        atomic: bool,
    ) -> None:
        after_writing_chunk(2, crashes.crash, monkeypatch)
        report = await import_csv(client, csv_of(*rows(ROWS)), atomic=atomic)
        assert report.counts == {"rows": ROWS, "created": ROWS}
        await require_agreement(client, database, report)

    async def test_while_rows_are_loaded(
        self, client: httpx.AsyncClient, database: Database, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link_tags, calls = batch_repository.link_tags, []

        async def crashing(*arguments: Any) -> None:
            calls.append(arguments)
            if len(calls) == 2:
                await crashes.crash()
            await link_tags(*arguments)

        monkeypatch.setattr(batch_repository, "link_tags", crashing)
        report = await import_csv(client, csv_of(*rows(ROWS)))
        assert report.counts == {"rows": ROWS, "created": ROWS}
        await require_agreement(client, database, report)

    @pytest.mark.parametrize("atomic", [False, True])
    async def test_during_a_commit(
        self,
        client: httpx.AsyncClient,
        database: Database,
        crashes: Crashes,
        monkeypatch: pytest.MonkeyPatch,
        atomic: bool,
    ) -> None:
        crash_after_the_next_commit(crashes, monkeypatch)
        report = await import_csv(client, csv_of(*rows(ROWS)), atomic=atomic)
        assert report.counts == {"rows": ROWS, "created": ROWS}
        await require_agreement(client, database, report)

    async def test_during_the_commit_of_updates(
        self, client: httpx.AsyncClient, database: Database, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await import_csv(client, csv_of(*rows(ROWS)))
        crash_after_the_next_commit(crashes, monkeypatch)
        moved = [f"n{number},pg,moved{number}" for number in range(ROWS)]
        report = await import_csv(client, csv_of(*moved), on_existing="update")
        assert report.counts == {"rows": ROWS, "updated": ROWS}
        assert {item["revision"] for item in (await instances(client)).values()} == {2}
        assert len(await audited(database, "instance:update")) == ROWS

    async def test_during_the_commit_of_the_batch_entry(
        self, client: httpx.AsyncClient, database: Database, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await import_csv(client, csv_of(*rows(1)))
        crash_after_the_next_commit(crashes, monkeypatch)
        report = await import_csv(client, csv_of(*rows(1)))
        assert report.counts == {"rows": 1, "skipped": 1}
        assert len(await audited(database, "instance:batch_create")) == 2


class TestCrashOfSeveralConnections:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"import_connections": 3})

    @pytest.mark.parametrize("chunk", [1, 2, 3, 4])
    async def test_before_a_commit(
        self,
        client: httpx.AsyncClient,
        database: Database,
        crashes: Crashes,
        monkeypatch: pytest.MonkeyPatch,
        chunk: int,
    ) -> None:
        monkeypatch.setattr(batch_transactions, "RECONNECT_SECONDS", (0.1,) * 300)
        after_writing_chunk(chunk, crashes.crash, monkeypatch)
        report = await import_csv(client, csv_of(*rows(ROWS)))
        assert report.counts == {"rows": ROWS, "created": ROWS}
        assert [item["name"] for item in report.body["items"]] == [f"n{number}" for number in range(ROWS)]
        await require_agreement(client, database, report)

    async def test_for_good(
        self, client: httpx.AsyncClient, database: Database, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_transactions, "RECONNECT_SECONDS", (0.05, 0.05))
        after_writing_chunk(2, lambda: crashes.crash(for_good=True), monkeypatch)
        report = await import_csv(client, csv_of(*rows(ROWS)))
        assert report.counts["rows"] == report.counts.get("created", 0) + report.counts["failed"] == ROWS
        await asyncio.to_thread(crashes.start)
        created = {item["name"] for item in report.body["items"] if item["status"] == "created"}
        assert set(await instances(client)) == created
        again = await import_csv(client, csv_of(*rows(ROWS)))
        assert again.counts["created"] == ROWS - len(created)


class TestAbsence:
    @pytest.fixture(autouse=True)
    def no_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_transactions, "RECONNECT_SECONDS", (0.05, 0.05))

    async def test_what_was_written_before_stands(
        self, client: httpx.AsyncClient, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        after_writing_chunk(3, lambda: crashes.crash(for_good=True), monkeypatch)
        report = await import_csv(client, csv_of(*rows(ROWS), "n0,pg,other"))
        assert report.outcome == "partial"
        assert report.counts == {"rows": ROWS + 1, "created": 6, "invalid": 1, "failed": ROWS - 6}
        assert report.errors(8) == [(None, "not_written")]
        await asyncio.to_thread(crashes.start)
        assert set(await instances(client)) == {f"n{number}" for number in range(6)}

    async def test_the_corrected_run_writes_just_the_rest(
        self, client: httpx.AsyncClient, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        after_writing_chunk(2, lambda: crashes.crash(for_good=True), monkeypatch)
        await import_csv(client, csv_of(*rows(ROWS)))
        await asyncio.to_thread(crashes.start)
        again = await import_csv(client, csv_of(*rows(ROWS)))
        assert again.counts == {"rows": ROWS, "created": ROWS - 3, "skipped": 3}

    async def test_an_atomic_batch_leaves_nothing(
        self, client: httpx.AsyncClient, crashes: Crashes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        after_writing_chunk(3, lambda: crashes.crash(for_good=True), monkeypatch)
        answer = await upload(client, csv_of(*rows(ROWS)), atomic=True)
        assert problem(answer) == (503, 25010)
        await asyncio.to_thread(crashes.start)
        assert await instances(client) == {}

    async def test_when_nothing_can_be_looked_up(
        self, client: httpx.AsyncClient, crashes: Crashes, tmp_path: Path
    ) -> None:
        await crashes.crash(for_good=True)
        answer = await upload(client, csv_of(*rows(ROWS)))
        assert problem(answer) == (503, 25010)
        assert "Retry-After" in answer.headers
        assert list((tmp_path / "uploads").iterdir()) == []
        await asyncio.to_thread(crashes.start)
        assert (await import_csv(client, csv_of(*rows(ROWS)))).counts == {"rows": ROWS, "created": ROWS}
