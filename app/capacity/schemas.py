"""Answers of the capacity calls."""

from datetime import date, datetime
from typing import Any, Literal, Self

from pydantic import MISSING, BaseModel, ConfigDict, Field

from app.capacity.paging import PointsPage
from app.capacity.records import Chart
from app.models.capacity import AggregationPeriod, Trend
from app.pagination import Page


class CapacityPoint(BaseModel):
    """A period. One without a measurement is left out."""

    model_config = ConfigDict(from_attributes=True)

    start: date = Field(description="Its first day, in UTC; a week's is a Monday")
    end: date = Field(description="Its last day, which belongs to it")
    average_bytes: int
    maximum_bytes: int
    minimum_bytes: int
    growth_bytes: int | None = Field(description="The last size less the first; null with one day measured")
    growth_percent: float | None = Field(description="Of the first size; null where that is 0")
    trend: Trend = Field(description="`stable` up to 5 % either way")
    samples: int = Field(description="Days measured")


class _Share(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    latest_bytes: int
    growth_bytes: int | None
    growth_percent: float | None
    trend: Trend


class DatabaseCapacity(_Share):
    pass


class InstanceCapacityGrowth(_Share):
    id: int


class _Capacity(BaseModel):
    """`from` and `to` are those of whole periods; growth and trend are of all days between them."""

    model_config = ConfigDict(validate_by_name=True)

    period: AggregationPeriod
    first: date = Field(alias="from", description="The first day, in UTC")
    last: date = Field(alias="to", description="The last day, which belongs to the range")
    unit: Literal["bytes"] = "bytes"
    items: list[CapacityPoint] = Field(description="The points, in order of time")
    next_cursor: str | None
    total: int | MISSING = Field(MISSING, description="All points; only with `include_total=true`")
    latest_bytes: int | None = Field(description="The last size in the range; null where nothing was measured")
    latest_on: date | None = Field(description="The day on which it was measured")
    growth_bytes: int | None = Field(description="From the first day measured to the last")
    growth_percent: float | None
    trend: Trend | None

    @classmethod
    def of(cls, chart: Chart, page: PointsPage) -> Self:
        """The chart with one page of its points."""
        return cls(
            period=chart.period,
            first=chart.days.first,
            last=chart.days.last,
            items=[CapacityPoint.model_validate(point) for point in page.items],
            next_cursor=page.next_cursor,
            total=MISSING if page.total is None else page.total,
            **chart.summary._asdict(),
            **cls._shares(chart),
        )

    @classmethod
    def _shares(cls, chart: Chart) -> dict[str, Any]:
        raise NotImplementedError


class InstanceCapacity(_Capacity):
    databases: list[DatabaseCapacity] = Field(description="The ten largest, or the one that was asked for")

    @classmethod
    def _shares(cls, chart: Chart) -> dict[str, Any]:
        return {"databases": [DatabaseCapacity.model_validate(share) for share in chart.shares]}


class SpaceCapacity(_Capacity):
    instances: list[InstanceCapacityGrowth] = Field(description="The ten that grew most")

    @classmethod
    def _shares(cls, chart: Chart) -> dict[str, Any]:
        return {"instances": [InstanceCapacityGrowth.model_validate(share) for share in chart.shares]}


class LargestTable(BaseModel):
    """What the server does not tell is null."""

    model_config = ConfigDict(from_attributes=True)

    database_name: str
    schema_name: str = Field(description="Empty where the server has no schemas inside of databases")
    table_name: str
    size_bytes: int = Field(description="With its indexes")
    data_bytes: int | None
    index_bytes: int | None
    row_estimate: int | None = Field(description="As the server itself estimates")


class LargestTables(Page[LargestTable]):
    collected_at: datetime | None = Field(description="When they were measured; null where none ever was")
