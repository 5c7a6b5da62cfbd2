"""Batch delete: a list of ids in, one transaction for each instance, a report of what became of every id.

1. One set-based pass finds the instances and what blocks them (and, for the precheck, what would go).
2. A plan token, when given, is compared with what is there now; a difference stops the batch before it began.
3. Every instance is deleted by one statement, its own transaction, which checks again under the instance's lock
   (deletion_runner). Several run at once on PostgreSQL. A failure is that instance's outcome and touches no other.
4. The batch's audit entry is committed durably, and with it every deletion before it; what a crash of the server has
   taken back until then is done again.
"""

import asyncio
from functools import partial
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.database import Database
from app.database.driver_errors import is_disconnect
from app.database.transactions import RECONNECT_SECONDS, run_in_transaction
from app.errors import Blocked, NotFound
from app.instances import deletion_repository as repository
from app.instances.batch_report import AUDIT_OUTCOME
from app.instances.cascade import DeletionMode, InstanceCascadeDeletionPlan
from app.instances.deletion_batch import DeletionBatch, DeletionRequest, Seen
from app.instances.deletion_look import DeletionLook
from app.instances.deletion_operation import OrderedDeletion
from app.instances.deletion_program import DeletionOrder
from app.instances.deletion_report import DeletionOutcome, DeletionReport, ItemStatus, Precheck, PrecheckItem
from app.instances.deletion_runner import DeletionRunner
from app.instances.plan_token import PlanTokens
from app.models.operation import OperationKind
from app.operations.records import OperationPlan
from app.preconditions import require_match

log = structlog.get_logger(__name__)


class InstanceBatchDeletionService:
    """Deletes over up to `connections` connections at once, each instance in a transaction of its own."""

    def __init__(
        self, database: Database, plan: InstanceCascadeDeletionPlan, tokens: PlanTokens, *, connections: int
    ) -> None:
        self._database = database
        self._before = DeletionLook(database, plan)
        self._tokens = tokens
        self._runner = DeletionRunner(database, self._before.described, connections=connections)

    async def precheck(self, instance_ids: tuple[int, ...], mode: DeletionMode) -> Precheck:
        """What a deletion would remove and what blocks it; nothing is changed."""
        seen = await self._before.look(instance_ids, mode, with_rows=mode is DeletionMode.HARD)
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
        seen = await self._look(request, with_rows=request.dry_run)
        batch = DeletionBatch(request, seen, planned=None if request.plan_token is None else seen.states())
        orders = batch.orders(self._before.can_be_forced)
        if request.dry_run:
            batch.foresee(orders)
            return batch.report()
        await self._runner.run(batch, orders, durable=False)
        await self._finish(batch)
        return batch.report()

    async def plan_operation(self, request: DeletionRequest) -> OperationPlan:
        """The same as background work: see app.instances.deletion_operation.

        Raises PreconditionFailed when a plan token no longer fits what is there.
        """
        seen = await self._look(request, with_rows=False)
        return OperationPlan(
            kind=OperationKind.INSTANCE_DELETION,
            request=OrderedDeletion.of(request, seen).as_json(),
            batch_id=uuid4(),
            total=len(request.instance_ids),
            space_id=seen.only_space(),
        )

    async def delete_one(
        self, instance_id: int, mode: DeletionMode, *, force: bool, if_match: str | None
    ) -> DeletionOutcome:
        """Deletes one instance by the same way.

        Raises NotFound, Blocked with the blockers, PreconditionFailed when `if_match` does not fit, or the database's
        error.
        """
        request = DeletionRequest((instance_id,), mode, force)
        seen = await self._before.look((instance_id,), mode, with_rows=False)
        if if_match is not None and instance_id in seen.instances:
            require_match(if_match, seen.instances[instance_id].revision)
        batch = DeletionBatch(request, seen, holds_revision=if_match is not None and if_match.strip() != "*")
        await self._runner.run(batch, batch.orders(self._before.can_be_forced), durable=True)
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

    async def _look(self, request: DeletionRequest, *, with_rows: bool) -> Seen:
        """Raises PreconditionFailed when the plan token, if there is one, does not fit what is seen."""
        seen = await self._before.look(request.instance_ids, request.mode, with_rows=with_rows)
        if request.plan_token is not None:
            self._tokens.require_current(request.plan_token, request.instance_ids, request.mode, seen.states())
        return seen

    async def _finish(self, batch: DeletionBatch) -> None:
        """Commits the batch's own audit entry, durably, and with it every deletion before it.

        A server that crashed meanwhile has forgotten what it had answered without writing it to disk: such deletions
        are done again first. When it stays away, they are failed: nobody knows.
        """
        pauses = iter(() if batch.gave_up else RECONNECT_SECONDS)
        is_retry = False
        while True:
            try:
                lost = await run_in_transaction(
                    self._database.writers, partial(self._record, batch=batch, is_retry=is_retry)
                )
            except Exception as error:
                log.error("the batch's audit entry was not written", batch_id=str(batch.batch_id), exc_info=error)
                if not is_disconnect(error):
                    return
                if (pause := next(pauses, None)) is None:
                    batch.doubt()
                    return
                is_retry = True
                await asyncio.sleep(pause)
                continue
            if not lost:
                return
            log.warning("the server forgot deletions; doing them again", count=len(lost))
            await self._runner.run(batch, lost, durable=True)

    async def _record(self, session: AsyncSession, *, batch: DeletionBatch, is_retry: bool) -> list[DeletionOrder]:
        """Writes the entry, unless deletions were lost: these are returned instead."""
        if is_retry and await repository.is_batch_recorded(session, batch.batch_id):
            return []
        unsettled = batch.unsettled()
        ids = [order.instance_id for order in unsettled]
        kept = await repository.recorded_deletions(session, batch.batch_id, ids) if ids else set()
        lost = [order for order in unsettled if order.instance_id not in kept]
        if not lost:
            await record(session, _batch_entry(batch))
        return lost


def _batch_entry(batch: DeletionBatch) -> AuditEntry:
    report = batch.report()
    return AuditEntry(
        action="instance:batch_delete",
        resource_type="batch",
        resource_id=None,
        resource_name=None,
        # One of several spaces is for those who may read the whole trail.
        space_id=batch.seen.only_space(),
        outcome=AUDIT_OUTCOME[report.outcome],
        batch_id=batch.batch_id,
        changes={"mode": report.mode.value, "counts": report.counts(), "rows_deleted": report.rows_deleted()},
    )
