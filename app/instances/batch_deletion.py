"""Batch delete: a list of ids in, one transaction for each instance, a report of what became of every id.

1. One set-based pass finds the instances and what blocks them (and, for the precheck, what would go).
2. A plan token, when given, is compared with what is there now; a difference stops the batch before it began.
3. Every instance is deleted by one statement, its own transaction, which checks again under the instance's lock.
   Several run at once on PostgreSQL. A failure is that instance's outcome and touches no other.
4. The batch's audit entry is committed durably, and with it every deletion before it.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from app.audit.recorder import AuditEntry, record
from app.database import (
    RECONNECT_SECONDS,
    TRANSIENT_ATTEMPTS,
    Database,
    is_disconnect,
    is_transient,
    run_in_transaction,
)
from app.errors import Blocked, NotFound
from app.instances import deletion_repository as repository
from app.instances.batch_report import AUDIT_OUTCOME
from app.instances.cascade import UNPLANNED_TABLE, DeletionMode, InstanceCascadeDeletionPlan
from app.instances.deletion_batch import DeletionBatch, DeletionRequest, Seen
from app.instances.deletion_program import Attempted, DeletionOrder, DeletionProgram, DeletionStatus, open_program
from app.instances.deletion_report import (
    DeletionOutcome,
    DeletionReport,
    FoundBlocker,
    ItemStatus,
    Precheck,
    PrecheckItem,
)
from app.instances.plan_token import PlanTokens
from app.preconditions import require_match

log = structlog.get_logger(__name__)


class InstanceBatchDeletionService:
    """Runs up to `connections` deletions of a batch at once (one on SQLite), bounded beside requests by a semaphore."""

    def __init__(
        self, database: Database, plan: InstanceCascadeDeletionPlan, tokens: PlanTokens, *, connections: int
    ) -> None:
        self._database = database
        self._plan = plan
        self._tokens = tokens
        self._connections = 1 if database.is_sqlite else connections

    async def precheck(self, instance_ids: tuple[int, ...], mode: DeletionMode) -> Precheck:
        """What a deletion would remove and what blocks it; nothing is changed."""
        seen = await self._look(instance_ids, mode, with_rows=mode is DeletionMode.HARD)
        token, expires_at = self._tokens.issue(instance_ids, mode, seen.states())
        items = [
            PrecheckItem(key, found.name, seen.rows.get(key, {}), seen.blockers.get(key, ()))
            for key in instance_ids
            if (found := seen.instances.get(key))
        ]
        missing = [key for key in instance_ids if key not in seen.instances]
        return Precheck(token, expires_at.isoformat().replace("+00:00", "Z"), mode, items, missing)

    async def delete(self, request: DeletionRequest) -> DeletionReport:
        """Deletes what nothing blocks and reports every id.

        Raises PreconditionFailed when a plan token no longer fits what is there; then nothing was deleted.
        """
        seen = await self._look(request.instance_ids, request.mode, with_rows=request.dry_run)
        if request.plan_token is not None:
            self._tokens.require_current(request.plan_token, request.instance_ids, request.mode, seen.states())
        batch = DeletionBatch(request, seen)
        orders = batch.orders(self._can_be_forced)
        if request.dry_run:
            batch.foresee(orders)
            return batch.report()
        await self._run(batch, orders, durable=False)
        report = batch.report()
        await self._record(batch, report)
        return report

    async def delete_one(
        self, instance_id: int, mode: DeletionMode, *, force: bool, if_match: str | None
    ) -> DeletionOutcome:
        """Deletes one instance by the same way.

        Raises NotFound, Blocked with the blockers, PreconditionFailed when `if_match` does not fit, or the database's
        error.
        """
        request = DeletionRequest((instance_id,), mode, force)
        seen = await self._look((instance_id,), mode, with_rows=False)
        if if_match is not None and instance_id in seen.instances:
            require_match(if_match, seen.instances[instance_id].revision)
        batch = DeletionBatch(request, seen, holds_revision=if_match is not None)
        await self._run(batch, batch.orders(self._can_be_forced), durable=True)
        outcome = batch.outcome_of(instance_id)
        if batch.errors:
            raise batch.errors[instance_id]
        if outcome.status is ItemStatus.MISSING:
            raise NotFound(f"there is no instance {instance_id}")
        if outcome.status is ItemStatus.BLOCKED:
            blockers = [each.as_json() for each in outcome.blockers]
            codes = ", ".join(each.code for each in outcome.blockers)
            raise Blocked(f"instance {instance_id} cannot be deleted: {codes}", members={"blockers": blockers})
        return outcome

    async def _look(self, ids: tuple[int, ...], mode: DeletionMode, *, with_rows: bool) -> Seen:
        async with self._database.readers() as session:
            found = await repository.find(session, ids)
            blocking = await repository.blocking(session, self._plan, ids, mode)
            rows = await repository.rows_below(session, self._plan, ids) if with_rows else {}
            unplanned = []
            if mode is DeletionMode.HARD:
                unplanned = repository.unplanned(self._plan, await repository.tables_below(session))
        everywhere = tuple(
            FoundBlocker(UNPLANNED_TABLE, f"table {name} refers to instances and is not in the deletion plan", None)
            for name in unplanned
        )
        blockers = {key: self._described(blocking.get(key, {})) + everywhere for key in found}
        return Seen(found, {key: each for key, each in blockers.items() if each}, rows)

    def _described(self, count_by_code: Mapping[str, int]) -> tuple[FoundBlocker, ...]:
        return tuple(
            FoundBlocker(code, self._plan.blocker(code).message, count) for code, count in sorted(count_by_code.items())
        )

    async def _run(self, batch: DeletionBatch, orders: Sequence[DeletionOrder], *, durable: bool) -> None:
        """Carries out the orders; outcomes and errors are noted in the batch."""
        workers = min(self._connections, len(orders))
        queue = iter(orders)
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(batch, queue, durable=durable))

    def _can_be_forced(self, code: str) -> bool:
        return code != UNPLANNED_TABLE and self._plan.blocker(code).can_be_forced

    async def _work(self, batch: DeletionBatch, queue: Iterator[DeletionOrder], *, durable: bool) -> None:
        async with self._database.batch_connections:
            while (order := next(queue, None)) is not None:
                # A lost connection leaves the inner loop; the next turn opens another.
                await self._work_on_one_connection(batch, order, queue, durable=durable)

    async def _work_on_one_connection(
        self, batch: DeletionBatch, order: DeletionOrder | None, queue: Iterator[DeletionOrder], *, durable: bool
    ) -> None:
        try:
            async with open_program(self._database, durable=durable) as program:
                while order is not None:
                    batch.note(order, await self._attempt(program, order), self._described)
                    order = next(queue, None)
        except Exception as error:
            assert order is not None
            if not is_disconnect(error):
                batch.fail(order, error)
            else:
                await self._after_lost_connection(batch, order, error)

    async def _attempt(self, program: DeletionProgram, order: DeletionOrder) -> Attempted:
        """One instance; deadlocks and serialization failures are tried three times, with jitter."""
        for attempt in range(1, TRANSIENT_ATTEMPTS + 1):
            try:
                return await program.delete(order)
            except DBAPIError as error:
                if attempt == TRANSIENT_ATTEMPTS or not is_transient(error):
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _after_lost_connection(self, batch: DeletionBatch, order: DeletionOrder, error: Exception) -> None:
        """Finds out whether the deletion had been committed, and does it if it had not.

        When the database stays away the whole batch gives up: the instances left are failed, and can be retried.
        """
        for pause in () if batch.gave_up else RECONNECT_SECONDS:
            log.warning("the connection was lost while deleting; trying again", seconds=pause)
            await asyncio.sleep(pause)
            try:
                async with self._database.readers() as session:
                    recorded = await repository.recorded_deletion(session, order.batch_id, order.instance_id)
                if recorded is not None:
                    name = batch.seen.instances[order.instance_id].name
                    attempted = Attempted(DeletionStatus.DELETED, name, rows=recorded["rows"])
                else:
                    async with open_program(self._database, durable=True) as program:
                        attempted = await self._attempt(program, order)
                batch.note(order, attempted, self._described)
                return
            except Exception as again:
                if not is_disconnect(again):
                    batch.fail(order, again)
                    return
        batch.gave_up = True
        batch.fail(order, error)

    async def _record(self, batch: DeletionBatch, report: DeletionReport) -> None:
        """The batch's own audit entry. Its durable commit makes every deletion before it durable too."""
        entry = AuditEntry(
            action="instance:batch_delete",
            resource_type="batch",
            resource_id=None,
            resource_name=None,
            space_id=None,
            outcome=AUDIT_OUTCOME[report.outcome],
            batch_id=batch.batch_id,
            changes={"mode": report.mode.value, "counts": report.counts(), "rows_deleted": report.rows_deleted()},
        )
        try:
            await run_in_transaction(self._database.writers, lambda session: record(session, entry))
        except Exception as error:
            log.error("the batch's audit entry was not written", batch_id=str(batch.batch_id), exc_info=error)
