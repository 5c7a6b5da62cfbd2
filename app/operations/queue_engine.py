"""The engine of any number of workers: a queue in PostgreSQL (pgqueuer), in a schema that a migration makes.

1. A job is the operation's id. It is written in the transaction of who asks, or hands over, and heard of by NOTIFY.
2. A worker claims a job, and notes that it lives (heartbeat) for as long as it has it. One whose worker does not, for
   `worker_heartbeat_seconds`, is claimed by the next worker that looks, which is a third of that later at most.
3. A job ends with its operation's attempt. When the attempt could not be gone on with, the job waits for another.
4. An unfinished operation without a job, however that came about, is given one by any worker's next look around.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job, TracebackRecord
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import JOB_STATUS, Channel, QueueEntrypoint, QueueManagerId
from pgqueuer.ports.driver import Driver
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from app.background import in_background
from app.config import Settings
from app.database import Database
from app.database.driver_errors import as_sqlalchemy
from app.operations import queue_repository as repository
from app.operations.engine import Run
from app.operations.queue_connection import QueueConnection
from app.operations.queue_repository import ENTRYPOINT, SCHEMA, payload_of

log = structlog.get_logger(__name__)

# After an operation could not be gone on with, because the database stayed away.
RETRY_SECONDS = 10.0
RESTART_SECONDS = 5.0
# What jobs that are cut off have to be given back in.
GIVING_BACK_SECONDS = 5.0
# Between two looks at a backlog while others' jobs end; every end of a job is heard of at once all the same.
BACKLOG_SECONDS = 0.5
# What any statement of the queue is answered in, unless the connection is dead.
MIN_ANSWER_SECONDS = 2.0
# Heartbeats between two looks for operations without a job.
LOOK_AROUND_HEARTBEATS = 4


class _Names(DBSettings):
    """Of the queue's tables. From nowhere else: the library would read them from variables such as CHANNEL."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


names = _Names(db_schema=SCHEMA, channel=Channel(SCHEMA))


def queries_over(driver: Driver) -> Queries:
    return Queries(driver, *_builders())


def _builders() -> tuple[QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder]:
    return QueryBuilderEnvironment(names), QueryQueueBuilder(names), QuerySchedulerBuilder(names)


@dataclass
class _WorkerQueries(Queries):
    """The library's, but for two things: any number of jobs at once, one too; and a job that another worker has
    claimed since is the other's to end. (The library would delete it, and with it the other's heartbeat.)"""

    at_once: int = 1

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        return await super().dequeue(batch_size, entrypoints, queue_manager_id, self.at_once, heartbeat_timeout)

    async def log_jobs(self, job_status: list[tuple[Job, JOB_STATUS, TracebackRecord | None]]) -> None:
        own = await self._own([job for job, _, _ in job_status])
        if entries := [entry for entry in job_status if entry[0].id in own]:
            await super().log_jobs(entries)

    async def retry_job(self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None) -> None:
        if await self._own([job]):
            await super().retry_job(job, delay, traceback_record)

    async def _own(self, jobs: list[Job]) -> set[int]:
        rows = await self.driver.fetch(repository.OWNERS, [job.id for job in jobs])
        owners = {row["id"]: row["queue_manager_id"] for row in rows}
        return {job.id for job in jobs if owners.get(job.id, 0) == job.queue_manager_id}


class QueueEngine:
    """Up to `worker_operations` operations at once in this process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._heartbeat = timedelta(seconds=settings.worker_heartbeat_seconds)
        self._is_stopping = False
        self._manager: QueueManager | None = None
        self._connection: QueueConnection | None = None
        self._jobs: set[asyncio.Task[None]] = set()

    async def enqueue(self, session: AsyncSession, operation_id: int) -> None:
        # It also has the transaction begun, which SQLAlchemy leaves until its own first statement.
        if await repository.has_waiting_job(session, operation_id):
            return
        connection: Any = (await (await session.connection()).get_raw_connection()).driver_connection
        try:
            await queries_over(AsyncpgDriver(connection)).enqueue(ENTRYPOINT, payload_of(operation_id))
        except Exception as error:
            raise as_sqlalchemy(error, "enqueue") from error

    async def work(self, run: Run) -> None:
        async with in_background(self._keep_looking_around()):
            while not self._is_stopping:
                try:
                    await self._manage(run)
                except Exception as error:
                    if self._is_stopping:
                        return
                    log.error("the queue's worker begins anew", exc_info=error)
                    await asyncio.sleep(RESTART_SECONDS)

    def stop(self) -> None:
        self._is_stopping = True
        if self._manager is not None:
            self._manager.shutdown.set()
        if self._connection is not None:
            self._connection.give_up()

    async def _manage(self, run: Run) -> None:
        """Until `stop`, and until what is running has ended; when cancelled, what is running is given back."""
        engine = _engine(self._settings)
        manager, connection = self._manager_for(run, engine)
        managing = asyncio.create_task(self._run(manager))
        try:
            await asyncio.shield(managing)
        except asyncio.CancelledError:
            self.stop()
            for job in self._jobs:
                job.cancel()
            await asyncio.wait({managing}, timeout=GIVING_BACK_SECONDS)
            raise
        finally:
            managing.cancel()
            await connection.close()
            await engine.dispose()

    async def _run(self, manager: QueueManager) -> None:
        await manager.run(
            dequeue_timeout=self._heartbeat / 3,
            # With more, what one worker has in hand others could have begun.
            batch_size=1,
            heartbeat_timeout=self._heartbeat,
        )

    def _manager_for(self, run: Run, engine: AsyncEngine) -> tuple[QueueManager, QueueConnection]:
        async def release_lost_claims(driver: Any) -> None:
            values = manager.queue_manager_id, list(manager.job_context)
            await driver.execute(repository.RELEASE_LOST_CLAIMS, *values)

        answer_seconds = max(MIN_ANSWER_SECONDS, self._heartbeat.total_seconds() / 2)
        connection = QueueConnection(engine, answer_seconds=answer_seconds, restore=release_lost_claims)
        queries = _WorkerQueries(connection, *_builders(), at_once=self._settings.worker_operations)
        manager = QueueManager(queries, Channel(names.channel))
        manager.min_dequeue_poll_interval = timedelta(seconds=BACKLOG_SECONDS)
        manager.entrypoint(ENTRYPOINT, accepts_context=False)(self._handler(run))
        self._manager, self._connection = manager, connection
        if self._is_stopping:
            self.stop()
        return manager, connection

    def _handler(self, run: Run) -> Any:
        async def handle(job: Job) -> None:
            operation_id = int(job.payload or b"")
            task: Any = asyncio.current_task()
            self._jobs.add(task)
            try:
                await run(operation_id)
            except asyncio.CancelledError:
                # The library would take it for somebody's wish that the job ends.
                task.uncancel()
                raise RetryRequested(reason="its worker ended") from None
            except Exception as error:
                log.error("an operation could not be gone on with", operation_id=operation_id, exc_info=error)
                # The library writes the whole story into its log, and messages may hold values: its kind will do.
                raise RetryRequested(timedelta(seconds=RETRY_SECONDS), type(error).__name__) from None
            finally:
                self._jobs.discard(task)

        return handle

    async def _keep_looking_around(self) -> None:
        while True:
            try:
                await self.look_around()
            except (SQLAlchemyError, OSError) as error:
                log.warning("operations without a job could not be looked for", error=repr(error))
            await asyncio.sleep((self._heartbeat * LOOK_AROUND_HEARTBEATS).total_seconds())

    async def look_around(self) -> None:
        """Gives a job to each unfinished operation that has none, one whatever the number of workers that look; and
        forgets what the library noted of old jobs."""
        async with self._database.writers.begin() as session:
            stranded = await repository.stranded_ids(session)
            await repository.forget_old_jobs(session)
        for operation_id in stranded:
            async with self._database.writers.begin() as session:
                if await repository.lock_stranded(session, operation_id):
                    log.warning("an unfinished operation had no job", operation_id=operation_id)
                    await self.enqueue(session, operation_id)


def _engine(settings: Settings) -> AsyncEngine:
    connect_args = {"timeout": settings.connect_timeout_seconds}
    return create_async_engine(settings.resolved_database_url, poolclass=NullPool, connect_args=connect_args)
