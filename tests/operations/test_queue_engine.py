"""The queue in PostgreSQL: jobs are written with what asks for them, and each is one worker's at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import asyncpg
import pytest
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.core.qm import QueueManager
from sqlalchemy import text

from app.config import Settings
from app.database import Database
from app.logs import configure_logging
from app.models.operation import OperationState
from app.operations import queue_engine
from app.operations.queue_engine import QueueEngine, queries_over
from tests.operations.queueing import enqueued, jobs, operation, told, until

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

RUNNING, QUEUED = OperationState.RUNNING, OperationState.QUEUED


@pytest.fixture(autouse=True)
def engine_for_now() -> None:
    """The application of the other tests here is not made: nobody but these engines works."""


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """Without a server, which would work too."""
    configure_logging(settings.log_level)
    database = Database(settings)
    yield database
    await database.dispose()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"worker_heartbeat_seconds": 1.0})


@asynccontextmanager
async def at_work(engine: QueueEngine, run: Callable[[int], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """Cut off at the end of the block, if it has not ended."""
    task = asyncio.create_task(engine.work(run))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Runs:
    """Notes who was run, and lets them go on when it is told."""

    def __init__(self, *, is_open: bool) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def run(self, operation_id: int) -> None:
        self.begun.append(operation_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            await asyncio.sleep(0.01)
        finally:
            self.at_once -= 1
        self.ended.append(operation_id)

    async def has_begun(self, count: int) -> None:
        async def begun() -> bool:
            return len(self.begun) >= count

        await until(begun)

    async def has_ended(self, count: int) -> None:
        async def ended() -> bool:
            return len(self.ended) >= count

        await until(ended)


async def no_job_is_left(database: Database) -> None:
    async def none_left() -> bool:
        return await jobs(database) == []

    await until(none_left)


class TestSchema:
    """What the migration holds is what this version of the library would make."""

    async def test_nothing_would_be_upgraded(self, settings: Settings) -> None:
        connection = await asyncpg.connect(settings.database_url.get_secret_value())  # type: ignore[union-attr]
        try:
            queries = queries_over(AsyncpgDriver(connection))
            plan = await queries.plan_upgrade()
            assert (list(plan.statements), list(plan.notes)) == ([], [])
            await QueueManager(queries).verify_structure()
        finally:
            await connection.close()

    async def test_a_difference_would_be_found(self, settings: Settings) -> None:
        connection = await asyncpg.connect(settings.database_url.get_secret_value())  # type: ignore[union-attr]
        try:
            await connection.execute("DROP INDEX muster_queue.pgqueuer_ep_ea_idx")
            plan = await queries_over(AsyncpgDriver(connection)).plan_upgrade()
            assert "pgqueuer_ep_ea_idx" in str(plan.statements)
        finally:
            await connection.close()

    @pytest.mark.parametrize("variable", ["PGQUEUER_PREFIX", "PGQUEUER_SCHEMA", "CHANNEL", "FUNCTION", "QUEUE_TABLE"])
    def test_names_do_not_come_from_the_environment(
        self, variable: str, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        monkeypatch.setenv(variable, "elsewhere")
        named = type(queue_engine.names)(db_schema="muster_queue", channel=queue_engine.names.channel)
        assert named == queue_engine.names


class TestEnqueue:
    async def test_there_is_a_job_once_the_transaction_has_committed(
        self, settings: Settings, database: Database
    ) -> None:
        operation_id = await operation(database)
        async with database.writers.begin() as session:
            await QueueEngine(settings, database).enqueue(session, operation_id)
            assert await jobs(database) == []
        assert await jobs(database) == [(operation_id, "queued")]

    async def test_there_is_none_when_it_was_rolled_back(self, settings: Settings, database: Database) -> None:
        operation_id = await operation(database)
        async with database.writers() as session:
            await QueueEngine(settings, database).enqueue(session, operation_id)
            await session.rollback()
        assert await jobs(database) == []

    async def test_one_job_waits_for_an_operation(self, settings: Settings, database: Database) -> None:
        operation_id = await operation(database)
        for _ in range(2):
            async with database.writers.begin() as session:
                await QueueEngine(settings, database).enqueue(session, operation_id)
        assert await jobs(database) == [(operation_id, "queued")]


class TestWork:
    async def test_what_waits_and_what_comes_is_done_once(self, settings: Settings, database: Database) -> None:
        runs = Runs(is_open=True)
        waiting = await enqueued(settings, database, 3)
        async with at_work(QueueEngine(settings, database), runs.run):
            await runs.has_ended(3)
            coming = await enqueued(settings, database, 3)
            await runs.has_ended(6)
            await no_job_is_left(database)
        assert runs.begun == waiting + coming

    async def test_several_workers_do_each_once(self, settings: Settings, database: Database) -> None:
        runs = Runs(is_open=True)
        async with AsyncExitStack() as workers:
            for _ in range(3):
                await workers.enter_async_context(at_work(QueueEngine(settings, database), runs.run))
            ids = await enqueued(settings, database, 20)
            await runs.has_ended(20)
            await no_job_is_left(database)
        assert sorted(runs.begun) == ids

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_no_more_at_once_than_it_is_told(self, settings: Settings, database: Database, limit: int) -> None:
        limited = settings.model_copy(update={"worker_operations": limit})
        runs, others = Runs(is_open=False), Runs(is_open=True)
        ids = await enqueued(settings, database, 5)
        async with at_work(QueueEngine(limited, database), runs.run):
            await runs.has_begun(limit)
            # What it does not begin is another's to take.
            async with at_work(QueueEngine(settings, database), others.run):
                await others.has_ended(5 - limit)
            runs.gate.set()
            await no_job_is_left(database)
        assert runs.most_at_once == limit
        assert sorted(runs.ended + others.ended) == ids

    async def test_what_could_not_be_gone_on_with_is_tried_again(
        self, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue_engine, "RETRY_SECONDS", 0.1)
        [operation_id] = await enqueued(settings, database, 1)
        tried: list[int] = []

        async def run(found: int) -> None:
            tried.append(found)
            if len(tried) < 3:
                raise OSError("the database is away")

        async with at_work(QueueEngine(settings, database), run):
            await no_job_is_left(database)
        assert tried == [operation_id] * 3

    async def test_a_worker_that_works_keeps_its_job(self, settings: Settings, database: Database) -> None:
        """For longer than a dead worker would have kept it."""
        runs, others = Runs(is_open=False), Runs(is_open=True)
        ids = await enqueued(settings, database, 1)
        async with (
            at_work(QueueEngine(settings, database), runs.run),
            at_work(QueueEngine(settings, database), others.run),
        ):
            await until_begun_by_either(runs, others)
            await asyncio.sleep(2.5 * settings.worker_heartbeat_seconds)
            runs.gate.set()
            await no_job_is_left(database)
        assert runs.begun + others.begun == ids

    async def test_stop_begins_nothing_more_and_waits_for_what_runs(
        self, settings: Settings, database: Database
    ) -> None:
        runs = Runs(is_open=False)
        engine = QueueEngine(settings.model_copy(update={"worker_operations": 1}), database)
        first, second = await enqueued(settings, database, 2)
        async with at_work(engine, runs.run) as task:
            await runs.has_begun(1)
            engine.stop()
            await asyncio.sleep(0.2)
            assert not task.done()
            runs.gate.set()
            await asyncio.wait_for(task, 10)
        assert runs.ended == [first]
        assert await jobs(database) == [(second, "queued")]

    async def test_what_is_cut_off_waits_for_the_next(self, settings: Settings, database: Database) -> None:
        patient = settings.model_copy(update={"worker_heartbeat_seconds": 600.0})
        runs = Runs(is_open=False)
        [operation_id] = await enqueued(patient, database, 1)
        async with at_work(QueueEngine(patient, database), runs.run):
            await runs.has_begun(1)
        assert (runs.begun, runs.ended) == ([operation_id], [])
        assert await jobs(database) == [(operation_id, "queued")]


async def until_begun_by_either(*runs: Runs) -> None:
    async def begun() -> bool:
        return any(each.begun for each in runs)

    await until(begun)


class TestTakenOver:
    async def test_a_job_that_another_worker_has_claimed_is_the_others_to_end(
        self, settings: Settings, database: Database
    ) -> None:
        runs = Runs(is_open=False)
        [operation_id] = await enqueued(settings, database, 1)
        async with at_work(QueueEngine(settings, database), runs.run):
            await runs.has_begun(1)
            async with database.writers.begin() as session:
                await session.execute(text("UPDATE muster_queue.pgqueuer SET queue_manager_id = gen_random_uuid()"))
            runs.gate.set()
            await runs.has_ended(1)
        assert await jobs(database) == [(operation_id, "picked")]


class TestLostConnection:
    """The queue's own connection; operations have theirs."""

    async def test_the_worker_goes_on_and_what_runs_is_not_begun_twice(
        self, settings: Settings, database: Database
    ) -> None:
        runs = Runs(is_open=False)
        ids = await enqueued(settings, database, 1)
        async with at_work(QueueEngine(settings, database), runs.run):
            await runs.has_begun(1)
            await cut_queue_connections(settings)
            ids += await enqueued(settings, database, 1)
            await runs.has_begun(2)
            runs.gate.set()
            await no_job_is_left(database)
        assert runs.begun == ids

    async def test_a_claim_whose_answer_was_lost_is_made_again(self, settings: Settings, database: Database) -> None:
        runs = Runs(is_open=True)
        engine = QueueEngine(settings.model_copy(update={"worker_operations": 1}), database)
        async with at_work(engine, runs.run):
            await enqueued(settings, database, 1)
            await runs.has_ended(1)
            await no_job_is_left(database)
            assert engine._manager is not None
            [lost] = await claimed_by(engine._manager, settings, database)
            await cut_queue_connections(settings)
            await runs.has_ended(2)
        assert runs.begun[1] == lost


async def cut_queue_connections(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())  # type: ignore[union-attr]
    try:
        cut = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ 'muster_queue|pg_notify'"
        )
        assert cut
    finally:
        await connection.close()


async def claimed_by(manager: QueueManager, settings: Settings, database: Database) -> list[int]:
    """An operation whose job the worker has claimed without knowing, and with the heartbeat of one that lives long."""
    operation_id = await operation(database)
    async with database.writers.begin() as session:
        statement = text(
            "INSERT INTO muster_queue.pgqueuer (priority, status, entrypoint, payload, queue_manager_id, heartbeat)"
            " VALUES (0, 'picked', 'operation', convert_to(CAST(:id AS text), 'UTF8'), :manager,"
            " now() + interval '1 hour')"
        )
        await session.execute(statement, {"id": str(operation_id), "manager": manager.queue_manager_id})
    return [operation_id]


class TestStranded:
    @pytest.mark.parametrize("state", [QUEUED, RUNNING])
    async def test_an_unfinished_operation_without_a_job_is_given_one(
        self, settings: Settings, database: Database, state: OperationState
    ) -> None:
        operation_id = await operation(database, state=state)
        runs = Runs(is_open=True)
        async with at_work(QueueEngine(settings, database), runs.run):
            await runs.has_ended(1)
        assert runs.begun[0] == operation_id

    async def test_one_job_whoever_looks(self, settings: Settings, database: Database) -> None:
        ids = [await operation(database) for _ in range(3)]
        engines = [QueueEngine(settings, database) for _ in range(5)]
        await asyncio.gather(*(engine.look_around() for engine in engines))
        assert sorted(await jobs(database)) == [(each, "queued") for each in ids]

    async def test_nothing_is_given_to_who_has_a_job_or_has_ended(self, settings: Settings, database: Database) -> None:
        [waiting] = await enqueued(settings, database, 1)
        ended = await operation(database, state=OperationState.CANCELLED)
        await QueueEngine(settings, database).look_around()
        assert await jobs(database) == [(waiting, "queued")]
        assert (await told(database, ended)).state == "cancelled"

    async def test_what_was_noted_of_old_jobs_is_forgotten(self, settings: Settings, database: Database) -> None:
        await enqueued(settings, database, 1)
        async with database.writers.begin() as session:
            await session.execute(text("UPDATE muster_queue.pgqueuer_log SET created = now() - interval '31 days'"))
        await enqueued(settings, database, 1)
        await QueueEngine(settings, database).look_around()
        async with database.readers() as session:
            assert await session.scalar(text("SELECT count(*) FROM muster_queue.pgqueuer_log")) == 1
