"""Worker processes: several share the work, each takes over from one that died, and none does what another did.

Their operations count, so that nothing else is in the way; test_faults has imports and deletions. And the command.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.config import Settings
from app.database import Database
from app.logs import configure_logging
from tests.cli.conftest import Run, run  # noqa: F401 - a fixture
from tests.conftest import execute_on, migrate
from tests.operations.queueing import audit_entries, enqueued, jobs, on_postgresql, operation, told, until, until_ended
from tests.operations.worker_process import PAUSE_VARIABLE
from tests.postgres_server import PostgresServer
from tests.served import ROOT, serve

STOP_SECONDS = 30
# Of the worker beside a server, which is another process with modules to read.
STARTING_SECONDS = 30.0


@pytest.fixture(autouse=True)
def engine_for_now() -> None:
    """The application of the other tests here is not made: nobody but these workers works."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"worker_heartbeat_seconds": 2.0})


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    configure_logging(settings.log_level)
    database = Database(settings)
    yield database
    await database.dispose()


class Workers:
    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory
        self._started: list[subprocess.Popen[str]] = []

    def start(self, pause_seconds: float, **settings: str) -> subprocess.Popen[str]:
        """One that works when this returns."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        own = {"database_url": self._url, "worker_heartbeat_seconds": "2", "data_dir": str(self._directory), **settings}
        with (self._directory / f"worker-{len(self._started)}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.operations.worker_process"],
                env=others
                | {PAUSE_VARIABLE: str(pause_seconds)}
                | {f"MUSTER_{name.upper()}": value for name, value in own.items()},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n", self.log(process)
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        return (self._directory / f"worker-{self._started.index(process)}.log").read_text()

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def workers(database_url: str, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(database_url, tmp_path)
    yield workers
    workers.end()


async def until_it_counts(database: Database, operation_id: int, more_than: int = 0) -> None:
    async def counts() -> bool:
        return len((await told(database, operation_id)).writers) > more_than

    await until(counts)


async def started(workers: Workers, pause_seconds: float, **settings: str) -> subprocess.Popen[str]:
    return await asyncio.to_thread(workers.start, pause_seconds, **settings)


async def ended(process: subprocess.Popen[str]) -> int:
    return await asyncio.to_thread(process.wait, STOP_SECONDS)


@on_postgresql
class TestSeveral:
    async def test_two_workers_share_twenty_operations_and_each_number_is_written_once(
        self, settings: Settings, database: Database, workers: Workers
    ) -> None:
        processes = [await started(workers, 0.02) for _ in range(2)]
        ids = await enqueued(settings, database, 20, total=10)
        await until_ended(database, ids)
        found = [await told(database, each) for each in ids]
        assert {(each.state, each.attempt, each.done) for each in found} == {("succeeded", 1, 10)}
        assert {name for each in found for name in each.writers.values()} == {str(each.pid) for each in processes}
        assert [await audit_entries(database, each) for each in ids] == [1] * 20


@on_postgresql
class TestDeath:
    async def test_another_takes_over_from_one_that_was_killed(
        self, settings: Settings, database: Database, workers: Workers
    ) -> None:
        first = await started(workers, 0.05)
        [operation_id] = await enqueued(settings, database, 1, total=400)
        await until_it_counts(database, operation_id)
        second = await started(workers, 0.0)
        first.kill()
        await ended(first)
        await until_ended(database, [operation_id])
        found = await told(database, operation_id)
        assert (found.state, found.attempt, found.done, found.deaths) == ("succeeded", 2, 400, 0)
        assert list(found.writers) == list(range(1, 401))
        assert set(found.writers.values()) == {str(first.pid), str(second.pid)}
        assert await audit_entries(database, operation_id) == 1

    async def test_one_that_was_frozen_and_woken_writes_nothing_more(
        self, settings: Settings, database: Database, workers: Workers
    ) -> None:
        first = await started(workers, 0.05)
        [operation_id] = await enqueued(settings, database, 1, total=2_000)
        await until_it_counts(database, operation_id)
        first.send_signal(signal.SIGSTOP)
        second = await started(workers, 0.05)
        before = (await told(database, operation_id)).writers
        await until_it_counts(database, operation_id, more_than=len(before))
        first.send_signal(signal.SIGCONT)
        await until_it_counts(database, operation_id, more_than=len(before) + 100)
        found = await told(database, operation_id)
        assert {found.writers[each] for each in found.writers if each not in before} == {str(second.pid)}
        # The woken one has let go of it, and left the job to who has it.
        assert found.attempt == 2
        assert await jobs(database) == [(operation_id, "picked")]
        assert "this worker goes no further" in workers.log(first)

    async def test_an_operation_that_nobody_was_told_of_is_found(self, database: Database, workers: Workers) -> None:
        await started(workers, 0.0)
        operation_id = await operation(database)
        await until_ended(database, [operation_id])
        assert (await told(database, operation_id)).state == "succeeded"


@on_postgresql
class TestStop:
    async def test_sigterm_hands_over_and_the_next_goes_on(
        self, settings: Settings, database: Database, workers: Workers
    ) -> None:
        """At once: long before the first would have been taken for dead."""
        patient = {"worker_heartbeat_seconds": "600"}
        first = await started(workers, 0.05, **patient)
        [operation_id] = await enqueued(settings, database, 1, total=200)
        await until_it_counts(database, operation_id)
        first.terminate()
        assert await ended(first) == 0
        handed = await told(database, operation_id)
        assert (handed.state, len(handed.writers)) == ("queued", handed.done)
        assert await jobs(database) == [(operation_id, "queued")]
        await started(workers, 0.0, **patient)
        await until_ended(database, [operation_id])
        found = await told(database, operation_id)
        assert (found.state, found.attempt, found.done) == ("succeeded", 2, 200)

    async def test_what_does_not_stop_in_time_is_cut_off_and_waits_for_the_next(
        self, settings: Settings, database: Database, workers: Workers
    ) -> None:
        first = await started(workers, 600.0, worker_heartbeat_seconds="600", worker_grace_seconds="0.5")
        [operation_id] = await enqueued(settings, database, 1, total=2)
        await until_it_counts(database, operation_id)
        first.terminate()
        assert await ended(first) == 0
        assert await jobs(database) == [(operation_id, "queued")]
        await started(workers, 0.0)
        await until_ended(database, [operation_id])
        assert (await told(database, operation_id)).state == "succeeded"


class TestRestartedDatabase:
    """On a server of its own: the others' tests go on."""

    async def test_workers_go_on(self, tmp_path: Path) -> None:
        server = await asyncio.to_thread(PostgresServer, fsync=True)
        workers = Workers(server.url("muster"), tmp_path)
        try:
            await asyncio.to_thread(server.start)
            await execute_on(server.url(), "CREATE DATABASE muster")
            await asyncio.to_thread(migrate, server.url("muster"))
            await self._restart_in_mid_work(server, workers, tmp_path)
        finally:
            await asyncio.to_thread(workers.end)
            await asyncio.to_thread(server.remove)

    async def _restart_in_mid_work(self, server: PostgresServer, workers: Workers, tmp_path: Path) -> None:
        settings = Settings(database_url=server.url("muster"), data_dir=tmp_path)  # type: ignore[arg-type]
        database = Database(settings)
        try:
            for _ in range(2):
                await started(workers, 0.02, worker_heartbeat_seconds="5")
            ids = await enqueued(settings, database, 6, total=100)
            await until_it_counts(database, ids[0], more_than=5)
            await asyncio.to_thread(server.stop, immediately=True)
            await asyncio.to_thread(server.start)
            await until_ended(database, ids)
            later = await enqueued(settings, database, 2)
            await until_ended(database, later)
            found = [await told(database, each) for each in (*ids, *later)]
            assert {each.state for each in found} == {"succeeded"}
            assert [len(each.writers) for each in found] == [100] * 6 + [3] * 2
            assert [await audit_entries(database, each) for each in (*ids, *later)] == [1] * 8
        finally:
            await database.dispose()


@contextmanager
def muster_worker(url: str, data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    with (data_dir / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "worker"],
            env=others | {"MUSTER_DATABASE_URL": url, "MUSTER_DATA_DIR": str(data_dir)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class TestCommand:
    @on_postgresql
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_it_works_until_it_is_told_to_stop(self, database_url: str, tmp_path: Path, how: signal.Signals) -> None:
        with muster_worker(database_url, tmp_path) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Muster works on operations of postgresql")
            process.send_signal(how)
            assert process.wait(STOP_SECONDS) == 0
        levels = {json.loads(line)["level"] for line in (tmp_path / "worker.log").read_text().splitlines()}
        # It makes its keys, where none are configured.
        assert levels <= {"info"}

    @on_postgresql
    def test_it_refuses_a_database_of_another_version(self, database_url: str, tmp_path: Path, run: Run) -> None:  # noqa: F811
        migrate(database_url, "-1", "downgrade")
        refused = run("worker", database_url=database_url, data_dir=tmp_path)
        assert refused.exit_code == 2
        assert "run `muster migrate`" in refused.stderr

    def test_it_refuses_sqlite(self, tmp_path: Path, run: Run) -> None:  # noqa: F811
        refused = run("worker", data_dir=tmp_path)
        assert refused.exit_code == 2
        assert "`muster serve` works on operations itself" in " ".join(refused.stderr.split())


class TestServeWithoutWorker:
    def test_it_is_refused_on_sqlite(self, tmp_path: Path, run: Run) -> None:  # noqa: F811
        for refused in (
            run("serve", "--no-worker", "--port", "0", data_dir=tmp_path),
            run("serve", "--port", "0", data_dir=tmp_path, server_worker="off"),
        ):
            assert refused.exit_code == 2
            assert "nobody would work on operations" in " ".join(refused.stderr.split())

    @on_postgresql
    @pytest.mark.parametrize(("options", "is_at_work"), [(["--no-worker"], False), ([], True)])
    def test_it_leaves_the_queue_alone(
        self, database_url: str, tmp_path: Path, options: list[str], is_at_work: bool
    ) -> None:
        server = serve(tmp_path / "data", "--no-migrate", *options, database_url=database_url)
        try:
            assert asyncio.run(is_heard(database_url, STARTING_SECONDS if is_at_work else 2.0)) == is_at_work
            assert server.stop(signal.SIGTERM) == 0
        finally:
            server.end()


async def is_heard(url: str, seconds: float) -> bool:
    """Whether somebody listens to the queue, or begins to within so long."""
    connection: Any = await asyncpg.connect(url)
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            found = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND query ~ 'muster_queue'"
            )
            if found:
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        await connection.close()
