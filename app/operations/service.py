"""Operations as their owners see them: asked for, followed, cancelled, resumed, tried again, removed."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.permissions import Permission
from app.audit.recorder import AuditEntry, record
from app.caller import NOWHERE, common, current_call, current_user_id, signed_in_user_id
from app.errors import Conflict, NotFound
from app.models.base import utc_now
from app.models.operation import OperationState
from app.operations import ledger_repository, repository
from app.operations.engine import OperationEngine
from app.operations.origin import origin_of_call
from app.operations.records import Item, ItemPage, OperationFilter, OperationPage, OperationPlan, OperationRecord
from app.pagination import PageRequest, Position
from app.preconditions import require_match

# What a worker has tried and may try again. (What is invalid or blocked would be so again.)
RETRIED_STATUSES = ("failed", "partial")


class OperationService:
    """Works in the caller's transaction."""

    def __init__(self, session: AsyncSession, engine: OperationEngine) -> None:
        self._session = session
        self._engine = engine

    async def start(self, plan: OperationPlan) -> OperationRecord:
        """The operation, which a worker begins once the transaction has committed; the caller's, or the service's own
        where nobody calls."""
        operation_id = await repository.create(self._session, current_user_id(), plan, origin_of_call())
        await self._engine.enqueue(self._session, operation_id)
        operation = await self.get(operation_id)
        await self._record("operation:create", operation)
        return operation

    async def get(self, operation_id: int) -> OperationRecord:
        """Raises NotFound, for somebody else's too unless the caller may read all."""
        return await visible_operation(self._session, operation_id)

    async def page(self, wanted: OperationFilter, sort: str, request: PageRequest) -> OperationPage:
        return await repository.page(self._session, _visible(), wanted, sort, request)

    async def items(self, operation_id: int, status: str | None, request: PageRequest) -> ItemPage:
        """In the order of the file or of the ids. Raises NotFound."""
        operation = await self.get(operation_id)
        after = Position.parse(request.cursor)
        statuses = None if status is None else (status,)
        found = await ledger_repository.items_after(self._session, operation_id, after, statuses, request.limit + 1)
        shown = found[: request.limit]
        cursor = Position.encode(shown[-1].position) if len(found) > request.limit else None
        total = None
        if request.include_total:
            counts = await ledger_repository.counts(self._session, operation_id)
            total = sum(counts.values()) if status is None else counts.get(status, 0)
        return ItemPage(operation.kind, shown, cursor, total)

    async def cancel(self, operation_id: int) -> OperationRecord:
        """Has its worker stop after the item it is at; one that waits ends at once. Raises NotFound, or Conflict when
        it has ended."""
        operation = await self._locked(operation_id)
        if operation.state.is_end:
            raise _in_state(operation, "it has ended already")
        values: dict[str, Any] = {"cancel_requested": True}
        if operation.state is OperationState.QUEUED:
            values |= {"state": OperationState.CANCELLED, "finished_at": utc_now()}
        return await self._changed(operation, values, "operation:cancel")

    async def resume(self, operation_id: int) -> OperationRecord:
        """Goes on where it stopped: what has an item is not done again. Raises NotFound, or Conflict when there is
        nothing to go on with."""
        operation = await self._locked(operation_id)
        is_resumable = operation.state in (OperationState.CANCELLED, OperationState.FAILED)
        if not is_resumable or await self._count_items(operation) >= operation.total:
            raise _in_state(operation, "only one that was stopped before its end can be resumed")
        return await self._restarted(operation, "operation:resume")

    async def retry(self, operation_id: int) -> OperationRecord:
        """Does what failed again. Raises NotFound, or Conflict when nothing failed, or when it has not ended."""
        operation = await self._locked(operation_id)
        if not operation.state.is_end:
            raise _in_state(operation, "it has not ended")
        await self._count_items(operation)
        # An atomic import has written all or nothing.
        statuses = None if operation.request.get("atomic") else RETRIED_STATUSES
        if operation.state is OperationState.SUCCEEDED or not await ledger_repository.remove_items(
            self._session, operation_id, statuses
        ):
            raise _in_state(operation, "nothing in it failed")
        return await self._restarted(operation, "operation:retry")

    async def remove(self, operation_id: int, if_match: str | None = None) -> None:
        """With its items. Raises NotFound, PreconditionFailed, or Conflict while it has not ended."""
        operation = await self._locked(operation_id)
        require_match(if_match, operation.revision)
        if not operation.state.is_end:
            raise _in_state(operation, "cancel it first")
        await repository.remove(self._session, operation_id)
        await self._record("operation:delete", operation)

    async def _count_items(self, operation: OperationRecord) -> int:
        """Of one that has ended. Raises Conflict when some were removed (app.operations.retention): what they reported
        would be done once more."""
        counts = await ledger_repository.counts(self._session, operation.id)
        if counts != operation.counts:
            raise _in_state(operation, "its results are being removed, after the time that operations are kept")
        return sum(counts.values())

    async def _restarted(self, operation: OperationRecord, action: str) -> OperationRecord:
        if operation.kind.needs_upload and operation.upload_id is None:
            raise _in_state(operation, "its upload was removed after the time that uploads are kept; upload it again")
        counts = await ledger_repository.counts(self._session, operation.id)
        values = {
            "state": OperationState.QUEUED,
            "cancel_requested": False,
            "error": None,
            "finished_at": None,
            "deaths": 0,
            "counts": counts,
            "done": sum(counts.values()),
        }
        await self._engine.enqueue(self._session, operation.id)
        return await self._changed(operation, values, action)

    async def _changed(self, operation: OperationRecord, values: Mapping[str, Any], action: str) -> OperationRecord:
        await repository.change(self._session, operation.id, values)
        await self._record(action, operation)
        return await self.get(operation.id)

    async def _locked(self, operation_id: int) -> OperationRecord:
        found = await repository.lock_beside_items(self._session, operation_id, _visible())
        if found is None:
            raise NotFound(f"there is no operation {operation_id}")
        return found

    async def _record(self, action: str, operation: OperationRecord) -> None:
        entry = AuditEntry(
            action,
            "operation",
            operation.id,
            operation.kind.value,
            operation.space_id,
            batch_id=operation.batch_id,
            changes={"state": operation.state.value, "total": operation.total},
        )
        await record(self._session, entry)


async def visible_operation(session: AsyncSession, operation_id: int) -> OperationRecord:
    """Raises NotFound, for somebody else's too unless the caller may read all."""
    found = await repository.find(session, operation_id, _visible())
    if found is None:
        raise NotFound(f"there is no operation {operation_id}")
    return found


async def items_after(
    session: AsyncSession, operation_id: int, position: int, statuses: Sequence[str], limit: int
) -> list[Item]:
    """The next items of these statuses by position, of an operation that the caller was found to see."""
    return await ledger_repository.items_after(session, operation_id, position, statuses, limit)


def _visible() -> repository.Visible:
    """Of other people's operations those in spaces where the caller may see them, and do what this call does."""
    call = current_call()
    if call.is_service:
        return repository.Visible(0, None)
    spaces = common(call.spaces, call.rights.get(Permission.OPERATION_READ_ALL, NOWHERE))
    return repository.Visible(signed_in_user_id(), spaces)


def _in_state(operation: OperationRecord, reason: str) -> Conflict:
    return Conflict(
        f"operation {operation.id} is {operation.state.value}: {reason}", members={"state": operation.state.value}
    )
