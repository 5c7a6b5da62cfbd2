"""Tells the owner how an operation ended."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.operation import OperationKind, OperationState
from app.operations.records import OperationRecord
from app.users.notification_service import NotificationService

_subject = {
    OperationKind.INSTANCE_IMPORT: "The import",
    OperationKind.INSTANCE_DELETION: "The deletion",
    OperationKind.INSTANCE_SYNC: "The sync",
    OperationKind.CONNECTION_TEST: "The connection test",
}
_ending = {
    OperationState.SUCCEEDED: "is complete",
    OperationState.PARTIAL: "is done, but for some items",
    OperationState.FAILED: "failed",
    OperationState.CANCELLED: "was cancelled",
}


async def tell_owner(session: AsyncSession, operation: OperationRecord) -> None:
    """To be called in the transaction that ends the operation. The service's own operations tell nobody."""
    if operation.user_id is None:
        return
    filename = operation.request.get("filename")
    subject = _subject[operation.kind] + (f" of {filename}" if filename else "")
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(operation.counts.items()))
    reason = operation.error["message"] if operation.error else None
    body = "; ".join(part for part in (counts and f"{counts} of {operation.total:,} items", reason) if part)
    await NotificationService(session).notify(
        operation.user_id,
        "operation_ended",
        f"{subject} {_ending[operation.state]}",
        body or None,
        resource_type="operation",
        resource_id=operation.id,
    )
