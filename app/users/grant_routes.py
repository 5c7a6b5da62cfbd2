"""`/users/{user_id}/roles`."""

from typing import cast

from fastapi import APIRouter

from app.access.dependencies import CurrentIdentities
from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.users.grant_records import RoleReference
from app.users.grant_schemas import HeldRole, RolesToGive
from app.users.grant_service import GrantService

router = APIRouter(prefix="/users/{user_id}/roles", tags=["Roles"], route_class=GuardedRoute)


@router.get(
    "",
    summary="List the roles of a user",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.USER_READ, everywhere=True),
)
async def list_user_roles(session: ReadSession, identities: CurrentIdentities, user_id: ResourceId) -> list[HeldRole]:
    """What is held everywhere first, then by space."""
    return [HeldRole.model_validate(each) for each in await GrantService(session, identities).of_user(user_id)]


@router.put(
    "",
    summary="Replace the roles of a user",
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.USER_UPDATE, everywhere=True),
)
async def replace_user_roles(
    session: WriteSession, identities: CurrentIdentities, user_id: ResourceId, body: RolesToGive
) -> list[HeldRole]:
    """The list is all that the user holds afterwards.

    You must hold what each role that you give or take allows, there. The last active administrator stays one.
    """
    references = [cast("RoleReference", each.model_dump(exclude_none=True)) for each in body]
    granted = await GrantService(session, identities).replace_all(user_id, references)
    return [HeldRole.model_validate(each) for each in granted]
