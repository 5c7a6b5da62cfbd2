"""Measurements of servers that need not exist, and what became of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.capacity.recording import SizeRecorder
from app.capacity.records import DatabaseSize, Sizes, TableSize
from app.database import Database
from app.database.transactions import run_in_transaction
from app.inventory.instance_lock import hold_instance
from app.models import Base

# Of these days nothing is too old to be kept.
FOR_EVER = 0
NOON = time(12, tzinfo=UTC)


def noon(day: str | date) -> datetime:
    return datetime.combine(date.fromisoformat(str(day)), NOON)


def sizes(databases: Mapping[str, int], tables: Sequence[TableSize] = ()) -> Sizes:
    return Sizes([DatabaseSize(name, size) for name, size in databases.items()], tables)


async def record(
    database: Database,
    instance_id: int,
    measured: Mapping[str, int] | Sizes,
    moment: str | date | datetime,
    retention_days: int = FOR_EVER,
) -> frozenset[str]:
    """The databases of which another size was recorded, by a measurement in a transaction of its own; on a day without
    a time, at noon in UTC."""
    found = measured if isinstance(measured, Sizes) else sizes(measured)
    at = moment if isinstance(moment, datetime) else noon(moment)

    async def record_held(session: AsyncSession) -> frozenset[str]:
        await hold_instance(session, instance_id)
        return await SizeRecorder(session, retention_days).record(instance_id, found, at)

    return await run_in_transaction(database.writers, record_held)


async def record_days(database: Database, instance_id: int, size_by_day: Mapping[str, int]) -> None:
    for day, size in size_by_day.items():
        await record(database, instance_id, {"shop": size}, day)


async def rows(database: Database, table_name: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of the table with these values, in order of its key."""
    table = Base.metadata.tables[table_name]
    statement = select(table).filter_by(**values).order_by(*table.primary_key)
    async with database.readers() as session:
        return [dict(row) for row in (await session.execute(statement)).mappings()]


async def summary(database: Database, period: str, start: str, name: str | None = None) -> tuple[Any, ...] | None:
    """(average, maximum, minimum, growth, percent, trend, samples) of a period of the only instance or database."""
    table, key = (
        ("instance_size_aggregations", {}) if name is None else ("database_size_aggregations", {"database_name": name})
    )
    found = await rows(database, table, period=period, period_start=date.fromisoformat(start), **key)
    if not found:
        return None
    [row] = found
    percent = row["growth_percent"]
    return (
        row["average_bytes"],
        row["maximum_bytes"],
        row["minimum_bytes"],
        row["growth_bytes"],
        None if percent is None else pytest.approx(percent),
        str(row["trend"].value),
        row["sample_count"],
    )


def days(first: str, number: int) -> list[str]:
    return [(date.fromisoformat(first) + timedelta(days=each)).isoformat() for each in range(number)]
