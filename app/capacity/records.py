"""Sizes as adapters measure them, and as readers see them summed up. All are bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from app.capacity.periods import DayRange
from app.models.capacity import AggregationPeriod, Trend


@dataclass(frozen=True, slots=True)
class DatabaseSize:
    name: str
    size_bytes: int
    # Where the server tells data from indexes.
    data_bytes: int | None = None
    index_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TableSize:
    database_name: str
    # Empty where the server has no schemas inside of databases.
    schema_name: str
    table_name: str
    size_bytes: int
    data_bytes: int | None = None
    index_bytes: int | None = None
    row_estimate: int | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one server at one moment; `tables` are the largest of each database, the largest first."""

    databases: Sequence[DatabaseSize]
    tables: Sequence[TableSize] = ()

    @property
    def total_bytes(self) -> int:
        return sum(each.size_bytes for each in self.databases)


@dataclass(frozen=True, slots=True)
class StoredSizes:
    """What is stored of an instance when a day of it is measured: the day's last measurement, if there was one, with
    sizes of databases by name, and by name the last size up to that day, whichever day it is of."""

    measured_at: datetime | None
    total_bytes: int | None
    of_day: Mapping[str, DatabaseSize]
    last: Mapping[str, DatabaseSize]


class CapacityPoint(NamedTuple):
    """A period with at least one day measured; `start` and `end` are its first and its last day."""

    start: date
    end: date
    average_bytes: int
    maximum_bytes: int
    minimum_bytes: int
    growth_bytes: int | None
    growth_percent: float | None
    trend: Trend
    samples: int


class CapacitySummary(NamedTuple):
    """Of a whole range: growth is from the first day measured in it to the last. All is None where none was."""

    latest_bytes: int | None
    latest_on: date | None
    growth_bytes: int | None
    growth_percent: float | None
    trend: Trend | None


class CapacityShare(NamedTuple):
    """One of what makes up the sum: a database of the instance, or an instance of the space. `id` is the instance's."""

    id: int | None
    name: str
    latest_bytes: int
    growth_bytes: int | None
    growth_percent: float | None
    trend: Trend


@dataclass(frozen=True, slots=True)
class CapacityQuery:
    """Days are in UTC, and both count. Without a last one the range ends today; without a first one it
    has its usual length."""

    period: AggregationPeriod
    first: date | None = None
    last: date | None = None
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """`points` in order of time. `days` are those of whole periods."""

    name: str
    period: AggregationPeriod
    days: DayRange
    points: Sequence[CapacityPoint]
    summary: CapacitySummary
    shares: Sequence[CapacityShare]


@dataclass(frozen=True, slots=True)
class TablePage:
    """The largest first. `collected_at` is None where nothing was measured."""

    items: Sequence[TableSize]
    collected_at: datetime | None
    next_cursor: str | None
    total: int | None
