"""SQL of capacity statistics."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, any_, delete, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name
from app.models.base import table_of
from app.models.capacity import (
    DatabaseSizeAggregation,
    DatabaseSizeStat,
    DatabaseTableSizeStat,
    InstanceSizeAggregation,
    InstanceSizeStat,
)

# Any number will do, as long as nobody else locks it: the letters RETAIN.
RETENTION_LOCK = 0x52455441494E


@dataclass(frozen=True, slots=True)
class Statistics:
    """A table of statistics, and the column with the day (in UTC) by which its rows age."""

    table: Table
    day: Column[date]


def _statistics() -> tuple[Statistics, ...]:
    measured = (InstanceSizeStat, DatabaseSizeStat, DatabaseTableSizeStat)
    aggregated = (InstanceSizeAggregation, DatabaseSizeAggregation)
    return (
        *(Statistics(table_of(model), table_of(model).c.collected_on) for model in measured),
        *(Statistics(table_of(model), table_of(model).c.period_start) for model in aggregated),
    )


STATISTICS = _statistics()


async def is_alone(session: AsyncSession) -> bool:
    """Whether no other process removes statistics until this transaction ends. SQLite has one server a file."""
    if dialect_name(session) != "postgresql":
        return True
    locked = await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": RETENTION_LOCK})
    return bool(locked)


async def delete_older(session: AsyncSession, statistics: Statistics, day: date, limit: int) -> int:
    """Deletes up to `limit` rows from before the day, the oldest first; how many. Rows that others hold are left."""
    is_postgresql = dialect_name(session) == "postgresql"
    place: ColumnElement[Any] = literal_column("ctid" if is_postgresql else "rowid")
    oldest = (
        select(place)
        .select_from(statistics.table)
        .where(statistics.day < day)
        .order_by(statistics.day)
        .limit(limit)
        # An instance's deletion may hold them: waiting for each other would end in a deadlock.
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    # As an array: where the planner expects many rows it would read the whole table to join it with a subquery.
    chosen = place == any_(func.array(oldest)) if is_postgresql else place.in_(oldest)
    result = await session.execute(delete(statistics.table).where(chosen))
    return int(result.rowcount)  # type: ignore[attr-defined]
