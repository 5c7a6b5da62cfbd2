"""`/spaces`; their deletion, which takes what is in them along, is with the instances."""

from dataclasses import asdict
from typing import Annotated, cast

from fastapi import APIRouter, Query, Request, Response, status

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId, SearchText
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, etag
from app.spaces.records import SpaceFilter, SpaceRecord, SpaceValues
from app.spaces.schemas import Space, SpaceChange, SpaceCounts, SpaceCreation, SpaceWithCounts
from app.spaces.service import SpaceService

router = APIRouter(prefix="/spaces", tags=["Spaces"], route_class=GuardedRoute)


@router.get(
    "", summary="List spaces", responses=problem_responses(400, 503), openapi_extra=requires(Permission.SPACE_READ)
)
async def list_spaces(
    session: ReadSession,
    page: PageQuery,
    q: Annotated[SearchText | None, Query(description="Substring of the name, in any case")] = None,
    archived: Annotated[bool | None, Query(description="Only archived ones, or only others; by default all")] = None,
    sort: Annotated[str, Query(max_length=50, description="`id`, `name` or `created_at`; `-` for descending")] = "name",
) -> Page[Space]:
    """Those that you may see; for you, there are no others."""
    found = await SpaceService(session).page(SpaceFilter(q, archived), sort, page)
    items = [Space.model_validate(space) for space in found.items]
    return Page[Space].of(items, found.next_cursor, found.total)


@router.post(
    "",
    summary="Create a space",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(409, 503),
    openapi_extra=requires(Permission.SPACE_CREATE, everywhere=True),
)
async def create_space(session: WriteSession, request: Request, response: Response, body: SpaceCreation) -> Space:
    space = await SpaceService(session).create(cast("SpaceValues", body.model_dump()))
    response.headers["Location"] = request.url_for("get_space", space_id=space.id).path
    return _shown(space, response)


@router.get(
    "/{space_id}",
    summary="Read a space",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.SPACE_READ),
)
async def get_space(session: ReadSession, response: Response, space_id: ResourceId) -> SpaceWithCounts:
    """With how much there is in it."""
    service = SpaceService(session)
    space = await service.get(space_id)
    response.headers["ETag"] = etag(space.revision)
    counts = SpaceCounts.model_validate(await service.counts(space_id))
    return SpaceWithCounts(**asdict(space), counts=counts)


@router.patch(
    "/{space_id}",
    summary="Change a space",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.SPACE_UPDATE),
)
async def change_space(
    session: WriteSession, response: Response, space_id: ResourceId, body: SpaceChange, if_match: IfMatch = None
) -> Space:
    """A quota below what is there removes nothing: it keeps anything from being added."""
    values = cast("SpaceValues", body.model_dump())
    return _shown(await SpaceService(session).update(space_id, values, if_match), response)


@router.post(
    "/{space_id}/archive",
    summary="Archive a space",
    responses=problem_responses(404, 412, 503),
    openapi_extra=requires(Permission.SPACE_UPDATE),
)
async def archive_space(
    session: WriteSession, response: Response, space_id: ResourceId, if_match: IfMatch = None
) -> Space:
    """From then on nothing is added or changed in it (409); reading, exporting and deleting go on."""
    return _shown(await SpaceService(session).archive(space_id, if_match), response)


@router.post(
    "/{space_id}/unarchive",
    summary="Bring an archived space back",
    responses=problem_responses(404, 412, 503),
    openapi_extra=requires(Permission.SPACE_UPDATE),
)
async def unarchive_space(
    session: WriteSession, response: Response, space_id: ResourceId, if_match: IfMatch = None
) -> Space:
    return _shown(await SpaceService(session).unarchive(space_id, if_match), response)


def _shown(space: SpaceRecord, response: Response) -> Space:
    response.headers["ETag"] = etag(space.revision)
    return Space.model_validate(space)
