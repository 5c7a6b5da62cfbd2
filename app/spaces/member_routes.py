"""`/spaces/{space_id}/members`: who holds which role in a space."""

from typing import Annotated

from fastapi import APIRouter, Query, status

from app.access.dependencies import CurrentIdentities
from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.pagination import Page, PageQuery
from app.spaces.members import SpaceMembers
from app.spaces.schemas import Member, MemberRoles

router = APIRouter(prefix="/spaces/{space_id}/members", tags=["Spaces"], route_class=GuardedRoute)


@router.get(
    "",
    summary="List the members of a space",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.MEMBER_READ),
)
async def list_members(
    session: ReadSession,
    identities: CurrentIdentities,
    space_id: ResourceId,
    page: PageQuery,
    sort: Annotated[str, Query(max_length=50, description="`id` or `username`; `-` for descending")] = "username",
) -> Page[Member]:
    """Those who hold a role in this space. Who holds one everywhere is not listed."""
    found = await SpaceMembers(session, identities).page(space_id, sort, page)
    return Page[Member].of([Member.model_validate(each) for each in found.items], found.next_cursor, found.total)


@router.put(
    "/{user_id}",
    summary="Give a user roles in a space",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.MEMBER_UPDATE),
)
async def put_member(
    session: WriteSession, identities: CurrentIdentities, space_id: ResourceId, user_id: ResourceId, body: MemberRoles
) -> Member:
    """They are all that the user holds in the space afterwards; what is held elsewhere stays.

    You must hold, in this space, what each role that you give or take allows.
    """
    member = await SpaceMembers(session, identities).put(space_id, user_id, body.references())
    return Member.model_validate(member)


@router.delete(
    "/{user_id}",
    summary="Take every role that a user has in a space",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.MEMBER_UPDATE),
)
async def delete_member(
    session: WriteSession, identities: CurrentIdentities, space_id: ResourceId, user_id: ResourceId
) -> None:
    await SpaceMembers(session, identities).remove(space_id, user_id)
