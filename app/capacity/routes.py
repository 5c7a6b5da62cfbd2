"""`/instances/{instance_id}/capacity`: sizes over time, as numbers and as a picture, and the largest tables."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import MISSING, BeforeValidator

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.capacity.paging import PointsRequest, page_of
from app.capacity.periods import day_in_utc
from app.capacity.picture import CONTENT_SECURITY_POLICY, Size, draw
from app.capacity.records import CapacityQuery, Chart
from app.capacity.schemas import InstanceCapacity, LargestTable, LargestTables
from app.capacity.service import CapacityService
from app.database.request_sessions import ReadSession
from app.errors import problem_responses
from app.fields import ResourceId, one_line
from app.models.capacity import AggregationPeriod
from app.pagination import MAX_PAGE_ITEMS, PageQuery

router = APIRouter(prefix="/instances", tags=["Capacity"], route_class=GuardedRoute)

SVG_MEDIA_TYPE = "image/svg+xml"
# A route's `responses=`.
SVG_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture", "content": {SVG_MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


def _name(text: str) -> str:
    return one_line("database", text)


Day = Annotated[date, BeforeValidator(day_in_utc)]
PeriodQuery = Annotated[AggregationPeriod, Query(description="What a point sums up; days, weeks and so on are in UTC")]
FromQuery = Annotated[
    Day | None,
    Query(alias="from", description="A day in UTC, or a moment; by default 30 days, 26 weeks, 12 months or 8 quarters"),
]
ToQuery = Annotated[
    Day | None, Query(alias="to", description="A day in UTC, which belongs to the range; by default today")
]
DatabaseQuery = Annotated[
    str | None, BeforeValidator(_name), Query(max_length=255, description="Only this database, by its exact name")
]


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _points_request(
    limit: Annotated[
        int | None, Query(ge=1, le=MAX_PAGE_ITEMS, description="Points on a page; by default all are on one")
    ] = None,
    cursor: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")] = None,
    include_total: Annotated[bool, Query(description="Tell how many points there are in all")] = False,
) -> PointsRequest:
    return PointsRequest(limit, cursor, include_total)


async def _size(
    width: Annotated[int, Query(ge=200, le=4000, description="In pixels")] = 800,
    height: Annotated[int, Query(ge=120, le=2000, description="In pixels")] = 320,
) -> Size:
    return Size(width, height)


PointsQuery = Annotated[PointsRequest, Depends(_points_request)]
SizeQuery = Annotated[Size, Depends(_size)]


def picture_of(chart: Chart, size: Size) -> Response:
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(draw(chart, size), media_type=SVG_MEDIA_TYPE, headers=headers)


@router.get(
    "/{instance_id}/capacity",
    summary="Read sizes over time",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def instance_capacity(
    session: ReadSession,
    instance_id: ResourceId,
    page: PointsQuery,
    period: PeriodQuery = AggregationPeriod.DAY,
    first: FromQuery = None,
    last: ToQuery = None,
    database: DatabaseQuery = None,
) -> InstanceCapacity:
    """A point for each period of the range in which the instance was measured; what is missing is a gap.

    Periods that the range cuts are there as a whole, and `from` and `to` of the answer say so.
    """
    query = CapacityQuery(period, first, last, database)
    chart = await CapacityService(session).of_instance(instance_id, query)
    return InstanceCapacity.of(chart, page_of(chart.points, page))


@router.get(
    "/{instance_id}/capacity.svg",
    summary="Draw sizes over time",
    response_class=Response,
    responses=SVG_RESPONSES | problem_responses(404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def instance_capacity_picture(
    session: ReadSession,
    instance_id: ResourceId,
    size: SizeQuery,
    period: PeriodQuery = AggregationPeriod.DAY,
    first: FromQuery = None,
    last: ToQuery = None,
    database: DatabaseQuery = None,
) -> Response:
    """The average of each period as a line, with a band from the smallest size to the largest. Gaps stay gaps."""
    query = CapacityQuery(period, first, last, database)
    return picture_of(await CapacityService(session).of_instance(instance_id, query), size)


@router.get(
    "/{instance_id}/capacity/tables",
    summary="List the largest tables",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def largest_tables(
    session: ReadSession,
    instance_id: ResourceId,
    page: PageQuery,
    database: DatabaseQuery = None,
    day: Annotated[Day | None, Query(alias="date", description="As last measured up to this day, in UTC")] = None,
) -> LargestTables:
    """As last measured, the largest first. Tables that are smaller than the largest of their database are not kept."""
    found = await CapacityService(session).largest_tables(instance_id, database, day, page)
    items = [LargestTable.model_validate(table) for table in found.items]
    total = MISSING if found.total is None else found.total
    return LargestTables(items=items, next_cursor=found.next_cursor, total=total, collected_at=found.collected_at)
