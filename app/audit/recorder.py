"""Writes the audit trail, always in the transaction of the change that it describes."""

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.context import CONTEXT_COLUMNS, current_context
from app.database import dialect_name, insert_rows, stored_timestamp
from app.models.audit import AuditEvent, AuditOutcome
from app.models.base import table_of, utc_now

_table = table_of(AuditEvent)
_bulk_columns = (
    "occurred_at",
    "space_id",
    "action",
    "resource_type",
    "resource_id",
    "resource_name",
    "outcome",
    "batch_id",
    *CONTEXT_COLUMNS,
    "changes",
)


class AuditEntry(NamedTuple):
    """`changes` is before and after, or a batch's counts; it never holds a secret."""

    action: str
    resource_type: str
    resource_id: int | None
    resource_name: str | None
    space_id: int | None
    outcome: AuditOutcome = AuditOutcome.SUCCEEDED
    batch_id: UUID | None = None
    changes: dict[str, Any] | None = None


async def record(session: AsyncSession, entry: AuditEntry) -> None:
    await session.execute(
        insert(_table).values(
            space_id=entry.space_id,
            action=entry.action,
            resource_type=entry.resource_type,
            resource_id=entry.resource_id,
            resource_name=entry.resource_name,
            outcome=entry.outcome,
            batch_id=entry.batch_id,
            changes=entry.changes,
            **current_context()._asdict(),
        )
    )


async def record_many(session: AsyncSession, entries: Iterable[AuditEntry]) -> None:
    """The same for many entries, as one bulk load."""
    occurred_at = stored_timestamp(session, utc_now())
    context = current_context()
    # SQLite keeps a UUID as 32 hexadecimal digits, which is SQLAlchemy's portable form.
    keeps_uuid = dialect_name(session) == "postgresql"
    await insert_rows(
        session,
        _table,
        _bulk_columns,
        (
            (
                occurred_at,
                entry.space_id,
                entry.action,
                entry.resource_type,
                entry.resource_id,
                entry.resource_name,
                entry.outcome.value,
                entry.batch_id if keeps_uuid or entry.batch_id is None else entry.batch_id.hex,
                *context,
                None if entry.changes is None else orjson.dumps(entry.changes).decode(),
            )
            for entry in entries
        ),
    )
