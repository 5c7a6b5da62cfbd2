"""SQL that removes old operations."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, any_, delete, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name, is_listed
from app.models.base import table_of
from app.models.operation import Operation, OperationItem, OperationState

_operations = table_of(Operation)
_items = table_of(OperationItem)
_has_ended = _operations.c.state.in_([state for state in OperationState if state.is_end])


async def remove_items(session: AsyncSession, operation_ids: Sequence[int], before: datetime, limit: int) -> int:
    """Up to `limit` items of those of the operations that ended before the moment still; how many."""
    old = await _locked(session, operation_ids, before)
    if not old:
        return 0
    is_postgresql = dialect_name(session) == "postgresql"
    place: ColumnElement[Any] = literal_column("ctid" if is_postgresql else "rowid")
    chosen = select(place).select_from(_items).where(is_listed(session, _items.c.operation_id, old)).limit(limit)
    # As an array: where the planner expects many rows it would read the whole table to join it with a subquery.
    condition = place == any_(func.array(chosen.scalar_subquery())) if is_postgresql else place.in_(chosen)
    result = await session.execute(delete(_items).where(condition))
    return int(result.rowcount)  # type: ignore[attr-defined]


async def remove(session: AsyncSession, operation_ids: Sequence[int], before: datetime) -> int:
    """Those of the operations that ended before the moment still, with what items they have; how many."""
    old = await _locked(session, operation_ids, before)
    if old:
        await session.execute(delete(_operations).where(is_listed(session, _operations.c.id, old)))
    return len(old)


async def _locked(session: AsyncSession, operation_ids: Sequence[int], before: datetime) -> list[int]:
    """Locked, so that nobody takes one up again meanwhile."""
    statement = (
        select(_operations.c.id)
        .where(is_listed(session, _operations.c.id, operation_ids), _operations.c.finished_at < before, _has_ended)
        .order_by(_operations.c.id)
        .with_for_update()
    )
    return list(await session.scalars(statement))
