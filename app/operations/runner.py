"""Carries one attempt at an operation through, from taking it over to its end.

1. The operation is taken: its row is locked, which waits for the transactions of the attempt before, and the attempt
   is raised, which refuses every later one of it. An operation whose workers died three times in a row without one
   newly finished item is not tried again: it is marked failed.
2. Its handler works, in the name and with the rights of who asked, and writes items (ledger). Meanwhile progress is
   noted twice a second, and a cancellation seen.
3. The end is written: the counts as the items say, the state that follows from them, the audit entry, a notification.
   A worker that is told to stop hands over instead: the operation is queued again, and another goes on.

While the database is away, the attempt is begun again after a pause; the items tell what was done.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities, Identity, service_in
from app.audit.recorder import record
from app.background import in_background
from app.database import Database
from app.database.driver_errors import is_disconnect
from app.database.transactions import run_in_transaction
from app.errors import AppError, Forbidden, StorageFull, Unexpected, is_storage_full
from app.models.audit import AuditOutcome
from app.models.base import utc_now
from app.models.operation import OperationKind, OperationState
from app.operations import ledger_repository, repository
from app.operations.engine import OperationEngine
from app.operations.ledger import Fenced
from app.operations.origin import acting_for
from app.operations.records import OperationRecord
from app.operations.work import OperationHandler, Work

log = structlog.get_logger(__name__)

PULSE_SECONDS = 0.5
MAX_DEATHS = 3
# No chunk and no deletion takes that long, unless its worker does not go on.
STUCK_SECONDS = 5.0
# A restart of the database takes seconds; an outage of minutes is left to the engine, which has it tried again.
OUTAGE_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


# Tells the owner, in the transaction that ends the operation.
Notify = Callable[[AsyncSession, OperationRecord], Awaitable[None]]

_audit_outcome = {
    OperationState.SUCCEEDED: AuditOutcome.SUCCEEDED,
    OperationState.PARTIAL: AuditOutcome.PARTIAL,
    OperationState.FAILED: AuditOutcome.FAILED,
    OperationState.CANCELLED: AuditOutcome.PARTIAL,
}


class OperationRunner:
    """Runs operations that an engine dispatches; each opens its own transactions."""

    def __init__(
        self,
        database: Database,
        identities: Identities,
        engine: OperationEngine,
        handlers: Mapping[OperationKind, OperationHandler],
        notify: Notify,
    ) -> None:
        self._database = database
        self._identities = identities
        self._engine = engine
        self._handlers = handlers
        self._notify = notify
        self._under_way: set[Work] = set()
        self._is_stopping = False

    def stop(self) -> None:
        """Has every operation under way stop after its present item or chunk, and be handed over."""
        self._is_stopping = True
        for work in self._under_way:
            work.stop.set()

    async def run(self, operation_id: int) -> None:
        """See app.operations.engine.Run. Raises the database's error when it stays away."""
        attempt: int | None = None
        for pause in (*OUTAGE_SECONDS, None):
            try:
                taken = await self._take(operation_id, attempt)
                if taken is None:
                    return
                attempt = taken.operation.attempt
                await self._carry_through(taken)
                return
            except Fenced as fenced:
                log.warning("this worker goes no further", operation_id=operation_id, reason=str(fenced))
                return
            except Exception as error:
                if pause is None or not is_disconnect(error):
                    raise
                log.warning("the database is away; trying again", operation_id=operation_id, seconds=pause)
                await asyncio.sleep(pause)

    async def _take(self, operation_id: int, own_attempt: int | None) -> Work | None:
        """None when it has ended, or when another worker has it. `own_attempt` is this worker's before."""

        async def take(session: AsyncSession) -> Work | None:
            async with self._freeing(session):
                found = await repository.lock(session, operation_id)
            if found is None or found.state.is_end or own_attempt not in (None, found.attempt):
                return None
            counts = await ledger_repository.counts(session, operation_id)
            values = _taken(found, counts, is_own=own_attempt is not None)
            await repository.change(session, operation_id, values)
            taken = await repository.find(session, operation_id)
            assert taken is not None, "its row is locked"
            if taken.deaths < MAX_DEATHS:
                return Work(taken, counts)
            log.error("an operation's workers keep dying", operation_id=operation_id, deaths=taken.deaths)
            await self._end(session, taken, counts, OperationState.FAILED, _worker_died(taken))
            return None

        return await run_in_transaction(self._database.writers, take)

    @asynccontextmanager
    async def _freeing(self, session: AsyncSession) -> AsyncIterator[None]:
        """In the block the session waits for a lock, and not for ever.

        A worker that froze in the middle of a transaction holds what it had locked, as long as it is frozen: its
        connection is ended, and its transaction undone. (One that is merely slow goes the same way, and finds out.)
        """
        backend = await repository.backend_of(session)
        if backend is None:
            yield
            return
        async with in_background(self._keep_freeing(backend)):
            yield

    async def _keep_freeing(self, backend: int) -> None:
        while True:
            await asyncio.sleep(STUCK_SECONDS)
            try:
                async with self._database.readers() as session:
                    ended = await repository.end_what_blocks(session, backend, STUCK_SECONDS)
            except (SQLAlchemyError, OSError) as error:
                log.warning("a worker that is stuck could not be cut off", error=repr(error))
            else:
                log.warning("an operation's last worker was stuck in a transaction and cut off", connections=ended)

    async def _carry_through(self, work: Work) -> None:
        operation = work.operation
        identity = await self._identity_of(operation)
        if identity is None:
            await self._finish(work, Forbidden("its owner is disabled"))
            return
        self._under_way.add(work)
        if self._is_stopping:
            work.stop.set()
        try:
            with acting_for(operation, identity):
                await self._work(work)
        finally:
            self._under_way.discard(work)

    async def _identity_of(self, operation: OperationRecord) -> Identity | None:
        if operation.user_id is None:
            return service_in(operation.space_id)
        return await self._identities.of_owner(operation.user_id, operation.origin["permissions"])

    async def _work(self, work: Work) -> None:
        log.info("an operation begins", kind=work.operation.kind, attempt=work.operation.attempt)
        error: AppError | None = None
        try:
            async with in_background(self._pulse(work)):
                await self._handlers[work.operation.kind].work(work)
        except AppError as refused:
            error = refused
        except Fenced:
            raise
        except Exception as unexpected:
            if is_disconnect(unexpected):
                raise
            log.error("an operation failed", exc_info=unexpected)
            error = _reason_of(unexpected)
        await self._finish(work, error)

    async def _pulse(self, work: Work) -> None:
        """Notes progress, and sees that somebody cancelled, or that the attempt is over."""
        while True:
            await asyncio.sleep(PULSE_SECONDS)
            try:
                await self._beat(work)
            except Exception as error:
                log.warning("progress could not be noted", operation_id=work.operation.id, error=repr(error))

    async def _beat(self, work: Work) -> None:
        operation, counts = work.operation, work.unnoted()
        if counts is not None:
            async with self._database.writers.begin() as session:
                await repository.note_progress(session, operation.id, operation.attempt, sum(counts.values()), counts)
        async with self._database.readers() as session:
            found = await repository.find(session, operation.id)
        if found is None or found.attempt != operation.attempt or found.cancel_requested:
            work.stop.set()

    async def _finish(self, work: Work, error: AppError | None) -> None:
        """Raises Fenced."""

        async def finish(session: AsyncSession) -> None:
            found = await repository.lock(session, work.operation.id)
            if found is None or found.attempt != work.operation.attempt or found.state.is_end:
                raise Fenced(f"attempt {work.operation.attempt} of operation {work.operation.id} is over")
            counts = await ledger_repository.counts(session, found.id)
            if error is not None:
                await self._end(session, found, counts, OperationState.FAILED, error)
            elif work.stop.is_set() and sum(counts.values()) < found.total:
                await self._stopped(session, found, counts)
            else:
                await self._end(session, found, counts, self._state_of(found.kind, counts), None)

        await run_in_transaction(self._database.writers, finish)

    async def _stopped(self, session: AsyncSession, found: OperationRecord, counts: Mapping[str, int]) -> None:
        if found.cancel_requested:
            await self._end(session, found, counts, OperationState.CANCELLED, None)
            return
        log.info("an operation is handed over", operation_id=found.id, done=sum(counts.values()))
        await repository.change(session, found.id, {"state": OperationState.QUEUED, **_progress(counts)})
        await self._engine.enqueue(session, found.id)

    async def _end(
        self,
        session: AsyncSession,
        operation: OperationRecord,
        counts: Mapping[str, int],
        state: OperationState,
        error: AppError | None,
    ) -> None:
        values = {
            "state": state,
            **_progress(counts),
            "finished_at": utc_now(),
            "error": None if error is None else {"code": error.code, "message": error.detail},
        }
        await repository.change(session, operation.id, values)
        await self._handlers[operation.kind].ended(session, operation, state)
        entry = self._handlers[operation.kind].audit_entry(operation, _audit_outcome[state])
        await record(session, entry._replace(changes={**(entry.changes or {}), "counts": dict(counts)}))
        ended = await repository.find(session, operation.id)
        assert ended is not None, "its row is locked"
        await self._notify(session, ended)
        log.info("an operation has ended", operation_id=operation.id, state=state, counts=counts)

    def _state_of(self, kind: OperationKind, counts: Mapping[str, int]) -> OperationState:
        """As a batch's outcome: complete, partial, or failed when some items are bad and nothing was done."""
        handler = self._handlers[kind]
        present = {status for status, count in counts.items() if count}
        if present <= handler.good:
            return OperationState.SUCCEEDED
        return OperationState.PARTIAL if present & handler.effective else OperationState.FAILED


def _reason_of(unexpected: Exception) -> AppError:
    if is_storage_full(unexpected):
        return StorageFull("there was no space left for it; make room and resume it")
    return Unexpected("unexpected error; the log has it under this operation's id")


def _progress(counts: Mapping[str, int]) -> dict[str, Any]:
    return {"counts": counts, "done": sum(counts.values())}


def _taken(found: OperationRecord, counts: Mapping[str, int], *, is_own: bool) -> dict[str, Any]:
    """What changes when the operation is taken. It was running: whoever had it ended without a word."""
    now = utc_now()
    progress = _progress(counts)
    was_running = found.state is OperationState.RUNNING
    deaths = found.deaths
    if was_running and progress["done"] > found.attempt_done:
        deaths = 0
    elif was_running and not is_own:
        deaths += 1
    return {
        "state": OperationState.RUNNING,
        "attempt": found.attempt + 1,
        "attempt_done": progress["done"],
        "attempt_started_at": now,
        "started_at": found.started_at or now,
        "deaths": deaths,
        **progress,
    }


def _worker_died(operation: OperationRecord) -> AppError:
    return Unexpected(
        f"its worker died {operation.deaths} times in a row without finishing one more item; resume it to try again"
    )
