"""`/tags`."""

from typing import Annotated, cast

from fastapi import APIRouter, Query, Request, Response, status

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId, SearchText
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, etag
from app.tags.records import TagFilter, TagValues
from app.tags.schemas import Tag, TagChange, TagCreation
from app.tags.service import TagService

router = APIRouter(prefix="/tags", tags=["Tags"], route_class=GuardedRoute)


@router.get(
    "", summary="List tags", responses=problem_responses(400, 404, 503), openapi_extra=requires(Permission.TAG_READ)
)
async def list_tags(
    session: ReadSession,
    page: PageQuery,
    space_id: Annotated[ResourceId | None, Query(description="Only tags of this space")] = None,
    q: Annotated[SearchText | None, Query(description="Substring of the name, in any case")] = None,
    sort: Annotated[str, Query(max_length=50, description="`id`, `name` or `created_at`; `-` for descending")] = "name",
) -> Page[Tag]:
    found = await TagService(session).page(TagFilter(space_id, q), sort, page)
    items = [Tag.model_validate(tag) for tag in found.items]
    return Page[Tag].of(items, found.next_cursor, found.total)


@router.post(
    "",
    summary="Create a tag",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.TAG_CREATE),
)
async def create_tag(session: WriteSession, request: Request, response: Response, body: TagCreation) -> Tag:
    tag = await TagService(session).create(body.space_id, cast("TagValues", body.model_dump(exclude={"space_id"})))
    response.headers["Location"] = request.url_for("get_tag", tag_id=tag.id).path
    response.headers["ETag"] = etag(tag.revision)
    return Tag.model_validate(tag)


@router.get(
    "/{tag_id}",
    summary="Read a tag",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.TAG_READ),
)
async def get_tag(session: ReadSession, response: Response, tag_id: ResourceId) -> Tag:
    tag = await TagService(session).get(tag_id)
    response.headers["ETag"] = etag(tag.revision)
    return Tag.model_validate(tag)


@router.patch(
    "/{tag_id}",
    summary="Change a tag",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.TAG_UPDATE),
)
async def change_tag(
    session: WriteSession, response: Response, tag_id: ResourceId, body: TagChange, if_match: IfMatch = None
) -> Tag:
    tag = await TagService(session).update(tag_id, cast("TagValues", body.model_dump()), if_match)
    response.headers["ETag"] = etag(tag.revision)
    return Tag.model_validate(tag)


@router.delete(
    "/{tag_id}",
    summary="Delete a tag",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.TAG_DELETE),
)
async def delete_tag(
    session: WriteSession,
    tag_id: ResourceId,
    if_match: IfMatch = None,
    force: Annotated[bool, Query(description="Take it off the instances that carry it, instead of refusing")] = False,
) -> None:
    await TagService(session).delete(tag_id, if_match, force=force)
