"""SQL of an instance's sizes over time. Whoever calls has looked the instance up."""

from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.capacity import statistics_rows
from app.capacity.periods import DayRange
from app.capacity.records import CapacityPoint, CapacityShare, CapacitySummary
from app.capacity.size_statements import summed_up
from app.models.base import table_of
from app.models.capacity import (
    AggregationPeriod,
    DatabaseSizeAggregation,
    DatabaseSizeStat,
    InstanceSizeAggregation,
    InstanceSizeStat,
)

_totals, _databases = table_of(InstanceSizeStat), table_of(DatabaseSizeStat)
_total_aggregations, _database_aggregations = table_of(InstanceSizeAggregation), table_of(DatabaseSizeAggregation)


async def points(
    session: AsyncSession, instance_id: int, period: AggregationPeriod, days: DayRange, database: str | None
) -> list[CapacityPoint]:
    """Of the instance's total, or of one of its databases."""
    table = _total_aggregations if database is None else _database_aggregations
    statement = (
        select(table)
        .where(
            table.c.instance_id == instance_id,
            table.c.period == period,
            table.c.period_start.between(days.first, days.last),
        )
        .order_by(table.c.period_start)
    )
    if database is not None:
        statement = statement.where(table.c.database_name == database)
    rows = await session.execute(statement, execution_options=SPACES_CHECKED)
    return await statistics_rows.points(period, rows.all())


async def summary(session: AsyncSession, instance_id: int, days: DayRange, database: str | None) -> CapacitySummary:
    statement = summed_up(_measured(instance_id, days, database).subquery("measured"))
    row = (await session.execute(statement, execution_options=SPACES_CHECKED)).one()
    return statistics_rows.summary(row)


def _measured(instance_id: int, days: DayRange, database: str | None) -> Select[Any]:
    table, size = (_totals, _totals.c.total_bytes) if database is None else (_databases, _databases.c.size_bytes)
    statement = select(table.c.collected_on.label("day"), size.label("size")).where(
        table.c.instance_id == instance_id, table.c.collected_on.between(days.first, days.last)
    )
    return statement if database is None else statement.where(table.c.database_name == database)


async def largest_databases(
    session: AsyncSession, instance_id: int, days: DayRange, database: str | None, limit: int
) -> list[CapacityShare]:
    """Of the last day measured, the largest first; or the one named."""
    measured = _measured_databases(instance_id, days, _shown(instance_id, days, database, limit))
    summed = summed_up(measured.subquery("measured"), ["name"]).subquery("summed")
    statement = select(summed).order_by(summed.c.last_bytes.desc(), summed.c.name)
    rows = await session.execute(statement, execution_options=SPACES_CHECKED)
    return [statistics_rows.share(row) for row in rows]


def _shown(instance_id: int, days: DayRange, database: str | None, limit: int) -> ColumnElement[bool]:
    """Which databases the list shows."""
    if database is not None:
        return _databases.c.database_name == database
    totals, latest = _totals.alias("latest_totals"), _databases.alias("latest_databases")
    last_day = (
        select(func.max(totals.c.collected_on))
        .where(totals.c.instance_id == instance_id, totals.c.collected_on.between(days.first, days.last))
        .scalar_subquery()
    )
    largest = (
        select(latest.c.database_name)
        .where(latest.c.instance_id == instance_id, latest.c.collected_on == last_day)
        .order_by(latest.c.size_bytes.desc(), latest.c.database_name)
        .limit(limit)
    )
    return _databases.c.database_name.in_(largest)


def _measured_databases(instance_id: int, days: DayRange, shown: ColumnElement[bool]) -> Select[Any]:
    return select(
        _databases.c.database_name.label("name"),
        _databases.c.collected_on.label("day"),
        _databases.c.size_bytes.label("size"),
    ).where(_databases.c.instance_id == instance_id, _databases.c.collected_on.between(days.first, days.last), shown)
