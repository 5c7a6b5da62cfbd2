"""Writes the audit trail, always in the transaction of the change that it describes."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, event, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.access.tenancy import SPACES_CHECKED
from app.audit.context import CONTEXT_COLUMNS, current_context
from app.audit.redaction import as_json, without_secrets
from app.caller import current_call
from app.database.bulk_loads import insert_rows
from app.database.statements import dialect_name, stored_timestamp
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
    """`changes` is before and after, or a batch's counts. It must not hold secrets; what looks like one is removed
    (app.audit.redaction)."""

    action: str
    resource_type: str
    resource_id: int | None
    resource_name: str | None
    space_id: int | None
    outcome: AuditOutcome = AuditOutcome.SUCCEEDED
    batch_id: UUID | None = None
    changes: dict[str, Any] | None = None


async def record(session: AsyncSession, entry: AuditEntry) -> None:
    """One that tells of a failure stands for how the whole call ended: no other is written about that."""
    if entry.outcome is not AuditOutcome.SUCCEEDED:
        _mark_call(session)
    await session.execute(
        insert(_table).values(
            space_id=entry.space_id,
            action=entry.action,
            resource_type=entry.resource_type,
            resource_id=entry.resource_id,
            resource_name=entry.resource_name,
            outcome=entry.outcome,
            batch_id=entry.batch_id,
            changes=None if entry.changes is None else without_secrets(entry.changes),
            **current_context()._asdict(),
        )
    )


def _mark_call(session: AsyncSession) -> None:
    """Once it is committed: what is rolled back was not recorded."""
    call = current_call()
    if call.is_service:
        return

    def mark(committed: Session) -> None:
        # A savepoint's end is told as a commit too.
        if not committed.in_nested_transaction():
            call.is_recorded = True

    event.listen(session.sync_session, "after_commit", mark)


async def record_many(session: AsyncSession, entries: Iterable[AuditEntry]) -> None:
    """The same for many entries, as one bulk load."""
    await insert_rows(session, _table, _bulk_columns, _rows(session, entries))


async def record_made(
    session: AsyncSession,
    action: str,
    resource_type: str,
    batch_id: UUID,
    space_id: int,
    made: Iterable[tuple[int, str, str]],
) -> None:
    """An entry for each resource of one space: its id, its name, and `changes` as JSON text.

    For bulk work in which making entries would take longer than writing them. The changes must be made of values that
    are no secret, for nobody looks into them.
    """
    shared = _shared(action, resource_type, batch_id) | {"space_id": space_id}
    kept = {name: _stored(session, value) for name, value in shared.items()}
    await insert_rows(session, _table, ("resource_id", "resource_name", "changes"), made, kept)


async def record_selected(
    session: AsyncSession, action: str, resource_type: str, batch_id: UUID, found: Select[Any]
) -> None:
    """The same for each row that the statement selects, as `space_id`, `resource_id`, `resource_name` and `changes`.

    For rows that are in the database already: nothing of them goes back and forth. They must be rows that the caller
    may reach.
    """
    rows = found.subquery()
    shared = _shared(action, resource_type, batch_id)
    values = [
        *((name, literal(value, _table.c[name].type)) for name, value in shared.items()),
        *((name, rows.c[name]) for name in ("space_id", "resource_id", "resource_name", "changes")),
    ]
    statement = insert(_table).from_select([name for name, _ in values], select(*(value for _, value in values)))
    await session.execute(statement, execution_options=SPACES_CHECKED)


def _shared(action: str, resource_type: str, batch_id: UUID) -> dict[str, Any]:
    """What the entries of one bulk have in common."""
    return {
        "occurred_at": utc_now(),
        "action": action,
        "resource_type": resource_type,
        "outcome": AuditOutcome.SUCCEEDED,
        "batch_id": batch_id,
        **current_context()._asdict(),
    }


def _stored(session: AsyncSession, value: Any) -> Any:
    """As `insert_rows` must be given it."""
    if isinstance(value, datetime):
        return stored_timestamp(session, value)
    if isinstance(value, UUID) and dialect_name(session) != "postgresql":
        return _hexadecimal(value)
    return value


def _rows(session: AsyncSession, entries: Iterable[AuditEntry]) -> Iterator[tuple[Any, ...]]:
    occurred_at = stored_timestamp(session, utc_now())
    context = current_context()
    stored_uuid = _as_it_is if dialect_name(session) == "postgresql" else _hexadecimal
    for entry in entries:
        changes = None if entry.changes is None else as_json(entry.changes)
        yield (
            occurred_at, entry.space_id, entry.action, entry.resource_type, entry.resource_id, entry.resource_name,
            entry.outcome._value_, stored_uuid(entry.batch_id), *context, changes,
        )  # fmt: skip


def _as_it_is(value: UUID | None) -> UUID | None:
    return value


@lru_cache(maxsize=1)
def _hexadecimal(value: UUID | None) -> str | None:
    """SQLite keeps a UUID as 32 hexadecimal digits, which is SQLAlchemy's portable form. Batches share theirs."""
    return None if value is None else value.hex
