"""`/schedules`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, status

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.operations.schemas import Operation, accepted
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, etag
from app.syncs.dependencies import Service
from app.syncs.schedule_records import ScheduleFilter
from app.syncs.schedule_schemas import Schedule, ScheduleChange, ScheduleCreation
from app.syncs.schedule_service import ScheduleService

router = APIRouter(prefix="/schedules", tags=["Schedules"], route_class=GuardedRoute)


async def _reading(session: ReadSession, syncs: Service) -> ScheduleService:
    return ScheduleService(session, syncs)


async def _changing(session: WriteSession, syncs: Service) -> ScheduleService:
    return ScheduleService(session, syncs)


Reading = Annotated[ScheduleService, Depends(_reading)]
Changing = Annotated[ScheduleService, Depends(_changing)]


@router.get(
    "",
    summary="List schedules",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.SCHEDULE_READ),
)
async def list_schedules(
    service: Reading,
    page: PageQuery,
    space_id: Annotated[ResourceId | None, Query(description="Only schedules of this space")] = None,
    paused: Annotated[bool | None, Query()] = None,
    sort: Annotated[str, Query(max_length=50, description="`id`, `name` or `created_at`; `-` for descending")] = "name",
) -> Page[Schedule]:
    found = await service.page(ScheduleFilter(space_id, paused), sort, page)
    return Page[Schedule].of([Schedule.of(each) for each in found.items], found.next_cursor, found.total)


@router.post(
    "",
    summary="Create a schedule",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.SCHEDULE_CREATE),
)
async def create_schedule(service: Changing, request: Request, response: Response, body: ScheduleCreation) -> Schedule:
    """Syncs the active instances of a space that the filter selects, at the times of a cron expression.

    A run that was missed while no server was up is made up for once; one that would begin while the one before is still
    under way is left out. Asks for the permission `sync:run` too.
    """
    narrow_to(Permission.SYNC_RUN)
    schedule = await service.create(body.space_id, body.values())
    response.headers["Location"] = request.url_for("get_schedule", schedule_id=schedule.id).path
    response.headers["ETag"] = etag(schedule.revision)
    return Schedule.of(schedule)


@router.get(
    "/{schedule_id}",
    summary="Read a schedule",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.SCHEDULE_READ),
)
async def get_schedule(service: Reading, response: Response, schedule_id: ResourceId) -> Schedule:
    schedule = await service.get(schedule_id)
    response.headers["ETag"] = etag(schedule.revision)
    return Schedule.of(schedule)


@router.patch(
    "/{schedule_id}",
    summary="Change or pause a schedule",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.SCHEDULE_UPDATE),
)
async def change_schedule(
    service: Changing, response: Response, schedule_id: ResourceId, body: ScheduleChange, if_match: IfMatch = None
) -> Schedule:
    """One that is taken up again after a pause makes up for nothing. Asks for the permission `sync:run` too."""
    narrow_to(Permission.SYNC_RUN)
    schedule = await service.update(schedule_id, body.values(), if_match)
    response.headers["ETag"] = etag(schedule.revision)
    return Schedule.of(schedule)


@router.delete(
    "/{schedule_id}",
    summary="Delete a schedule",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 412, 503),
    openapi_extra=requires(Permission.SCHEDULE_DELETE),
)
async def delete_schedule(service: Changing, schedule_id: ResourceId, if_match: IfMatch = None) -> None:
    """What it has started goes on."""
    await service.delete(schedule_id, if_match)


@router.post(
    "/{schedule_id}/run",
    summary="Run a schedule now",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Operation,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.SCHEDULE_UPDATE, limit=CallLimit.BATCH),
)
async def run_schedule(service: Changing, request: Request, schedule_id: ResourceId) -> Response:
    """Also one that is paused; its own times stay as they are. Asks for the permission `sync:run` too."""
    await service.get(schedule_id)
    narrow_to(Permission.SYNC_RUN)
    return accepted(await service.run(schedule_id), request)
