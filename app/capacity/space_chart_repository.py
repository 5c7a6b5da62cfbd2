"""SQL of the sizes of a space's instances over time, summed. Whoever calls has looked the space up.

The sum of a day is not that of the measurements made on it: an instance that missed a day counts with its last size
from before, or a server that could not be reached would look like a dip. So each instance is told by its changes of
size, and the sum of a day is that of all changes up to it:

1. What each instance was last known to have before the range is its change on the day before it.
2. Each measurement in the range is a change by what differs from the one before.
3. With the day of its deletion an instance has nothing any more.
4. The changes of all instances are added up by day, and then over the days.

Days on which nothing was measured in the whole space are no points, but what changed on them counts.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    FromClause,
    Integer,
    Select,
    and_,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.capacity import statistics_rows
from app.capacity.periods import DayRange
from app.capacity.records import CapacityPoint, CapacityShare, CapacitySummary
from app.capacity.size_statements import period_start, summed_up, utc_day
from app.database.statements import dialect_name
from app.models.base import table_of
from app.models.capacity import AggregationPeriod, InstanceSizeStat
from app.models.instance import Instance

_instances, _totals = table_of(Instance), table_of(InstanceSizeStat)
_statistics = (
    "average_bytes", "maximum_bytes", "minimum_bytes", "growth_bytes", "growth_percent", "trend", "sample_count",
    "last_bytes", "last_day",
)  # fmt: skip


async def points(
    session: AsyncSession, space_id: int, period: AggregationPeriod, days: DayRange
) -> tuple[list[CapacityPoint], CapacitySummary]:
    """The periods, and the whole range summed up in the same way."""
    dialect = dialect_name(session)
    sums = _sums(dialect, space_id, period, days)
    by_period = summed_up(sums, ["period_start"]).subquery("by_period")
    in_all = summed_up(sums).subquery("in_all")
    statement = union_all(
        select(by_period.c.period_start, *(by_period.c[name] for name in _statistics)),
        select(cast(null(), Date), *(in_all.c[name] for name in _statistics)),
    )
    rows = (await session.execute(statement, execution_options=SPACES_CHECKED)).all()
    [whole] = (row for row in rows if row.period_start is None)
    in_order = sorted((row for row in rows if row.period_start is not None), key=lambda row: row.period_start)
    return await statistics_rows.points(period, in_order), statistics_rows.summary(whole)


def _sums(dialect: str, space_id: int, period: AggregationPeriod, days: DayRange) -> FromClause:
    """(period_start, day, size) of every day in the range on which something was measured."""
    changes = _changes(dialect, space_id, days)
    sums = (
        select(
            changes.c.day,
            func.sum(func.sum(changes.c.change)).over(order_by=changes.c.day).label("size"),
            func.sum(changes.c.measurements).label("measurements"),
        )
        .group_by(changes.c.day)
        .subquery("sums")
    )
    return (
        select(
            type_coerce(period_start(dialect, period, sums.c.day), Date).label("period_start"),
            sums.c.day,
            cast(sums.c.size, BigInteger).label("size"),
        )
        .where(sums.c.measurements > 0)
        # Read twice; named, it is worked out once.
        .cte("summed_days")
    )


def _changes(dialect: str, space_id: int, days: DayRange) -> FromClause:
    """(day, change, measurements) of each instance."""
    deleted_on = utc_day(dialect, _instances.c.deleted_at)
    known = union_all(
        _before(days, deleted_on).where(_instances.c.space_id == space_id),
        _within(days, deleted_on).where(_instances.c.space_id == space_id),
        _deleted(days, deleted_on).where(_instances.c.space_id == space_id),
    ).subquery("known")
    before = func.lag(known.c.size, 1, 0).over(partition_by=known.c.instance_id, order_by=known.c.day)
    return select(known.c.day, (known.c.size - before).label("change"), known.c.measurements).subquery("changes")


def _before(days: DayRange, deleted_on: ColumnElement[Any]) -> Select[Any]:
    earlier = _totals.alias("earlier")
    last = (
        select(earlier.c.total_bytes)
        .where(earlier.c.instance_id == _instances.c.id, earlier.c.collected_on < days.first)
        .order_by(earlier.c.collected_on.desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(
        _instances.c.id.label("instance_id"),
        literal(days.first - timedelta(days=1), Date).label("day"),
        func.coalesce(last, literal(0, BigInteger)).label("size"),
        literal(0, Integer).label("measurements"),
    ).where(or_(_instances.c.deleted_at.is_(None), deleted_on >= days.first))


def _within(days: DayRange, deleted_on: ColumnElement[Any]) -> Select[Any]:
    day = _totals.c.collected_on
    return (
        select(_totals.c.instance_id, day, _totals.c.total_bytes, literal(1, Integer))
        .join_from(_totals, _instances, _instances.c.id == _totals.c.instance_id)
        .where(day.between(days.first, days.last), or_(_instances.c.deleted_at.is_(None), deleted_on > day))
    )


def _deleted(days: DayRange, deleted_on: ColumnElement[Any]) -> Select[Any]:
    return select(_instances.c.id, deleted_on, literal(0, BigInteger), literal(0, Integer)).where(
        deleted_on.between(days.first, days.last)
    )


async def most_grown(session: AsyncSession, space_id: int, days: DayRange, limit: int) -> list[CapacityShare]:
    """Instances that are not deleted and were measured on two days or more, those that grew most first."""
    summed = summed_up(_ends(space_id, days), ["instance_id"]).subquery("summed")
    statement = (
        select(summed, _instances.c.name)
        .join_from(summed, _instances, _instances.c.id == summed.c.instance_id)
        .where(summed.c.growth_bytes.is_not(None))
        .order_by(summed.c.growth_bytes.desc(), summed.c.instance_id)
        .limit(limit)
    )
    rows = await session.execute(statement, execution_options=SPACES_CHECKED)
    return [statistics_rows.share(row, row.instance_id) for row in rows]


def _ends(space_id: int, days: DayRange) -> FromClause:
    """(instance_id, day, size) of the first and the last day measured: all that growth is made of."""
    day = _totals.c.collected_on
    ends = (
        select(_totals.c.instance_id, func.min(day).label("first"), func.max(day).label("last"))
        .join_from(_totals, _instances, _instances.c.id == _totals.c.instance_id)
        .where(_instances.c.space_id == space_id, _instances.c.deleted_at.is_(None), day.between(days.first, days.last))
        .group_by(_totals.c.instance_id)
        .subquery("ends")
    )
    is_end = and_(_totals.c.instance_id == ends.c.instance_id, or_(day == ends.c.first, day == ends.c.last))
    return (
        select(_totals.c.instance_id, day.label("day"), _totals.c.total_bytes.label("size"))
        .join_from(_totals, ends, is_end)
        .subquery("measured")
    )
