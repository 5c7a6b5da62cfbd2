"""Rows of statistics, as the statements of `summed_up` and the aggregations' tables give them, as records."""

from collections.abc import Sequence
from typing import Any

from app.capacity.periods import span
from app.capacity.records import CapacityPoint, CapacityShare, CapacitySummary
from app.models.capacity import AggregationPeriod, Trend
from app.turns import in_turns

PERCENT_DIGITS = 2


async def points(period: AggregationPeriod, rows: Sequence[Any]) -> list[CapacityPoint]:
    return [
        CapacityPoint(
            row.period_start,
            span(period, row.period_start).last,
            row.average_bytes,
            row.maximum_bytes,
            row.minimum_bytes,
            row.growth_bytes,
            percent(row),
            Trend(row.trend),
            row.sample_count,
        )
        async for row in in_turns(rows)
    ]


def summary(row: Any) -> CapacitySummary:
    if row is None or row.sample_count == 0:
        return CapacitySummary(None, None, None, None, None)
    return CapacitySummary(row.last_bytes, row.last_day, row.growth_bytes, percent(row), Trend(row.trend))


def share(row: Any, instance_id: int | None = None) -> CapacityShare:
    return CapacityShare(instance_id, row.name, row.last_bytes, row.growth_bytes, percent(row), Trend(row.trend))


def percent(row: Any) -> float | None:
    value: float | None = row.growth_percent
    return None if value is None else round(value, PERCENT_DIGITS)
