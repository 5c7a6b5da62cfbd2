"""`/spaces/{space_id}/capacity`: the same over all instances of a space."""

from fastapi import APIRouter, Response

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.capacity.paging import page_of
from app.capacity.records import CapacityQuery
from app.capacity.routes import (
    SVG_RESPONSES,
    FromQuery,
    PeriodQuery,
    PointsQuery,
    SizeQuery,
    ToQuery,
    picture_of,
)
from app.capacity.schemas import SpaceCapacity
from app.capacity.service import CapacityService
from app.database.request_sessions import ReadSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.models.capacity import AggregationPeriod

router = APIRouter(prefix="/spaces", tags=["Capacity"], route_class=GuardedRoute)


@router.get(
    "/{space_id}/capacity",
    summary="Read the sizes of a space over time",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def space_capacity(
    session: ReadSession,
    space_id: ResourceId,
    page: PointsQuery,
    period: PeriodQuery = AggregationPeriod.DAY,
    first: FromQuery = None,
    last: ToQuery = None,
) -> SpaceCapacity:
    """The sum over its instances. One that was not measured on a day counts with its last size from before, so that a
    missed sync is no dip; one that is deleted counts up to the day before."""
    chart = await CapacityService(session).of_space(space_id, CapacityQuery(period, first, last))
    return SpaceCapacity.of(chart, page_of(chart.points, page))


@router.get(
    "/{space_id}/capacity.svg",
    summary="Draw the sizes of a space over time",
    response_class=Response,
    responses=SVG_RESPONSES | problem_responses(404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def space_capacity_picture(
    session: ReadSession,
    space_id: ResourceId,
    size: SizeQuery,
    period: PeriodQuery = AggregationPeriod.DAY,
    first: FromQuery = None,
    last: ToQuery = None,
) -> Response:
    """The sum over its instances, as a line with a band from the smallest size to the largest."""
    return picture_of(await CapacityService(session).of_space(space_id, CapacityQuery(period, first, last)), size)
