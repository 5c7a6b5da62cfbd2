"""`/permissions` and `/roles`."""

from typing import Annotated, cast

from fastapi import APIRouter, Query, Request, Response, status

from app.access.dependencies import CurrentIdentities
from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires, signed_in
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, etag
from app.users.role_records import RoleValues
from app.users.role_schemas import PermissionShown, Role, RoleChange, RoleCreation
from app.users.role_service import RoleService

router = APIRouter(tags=["Roles"], route_class=GuardedRoute)


@router.get(
    "/permissions",
    summary="List what there is to be allowed",
    responses=problem_responses(503),
    openapi_extra=signed_in(),
)
async def list_permissions(session: ReadSession) -> list[PermissionShown]:
    return [PermissionShown.model_validate(each) for each in await RoleService(session).permissions()]


@router.get(
    "/roles", summary="List roles", responses=problem_responses(400, 503), openapi_extra=requires(Permission.ROLE_READ)
)
async def list_roles(
    session: ReadSession,
    page: PageQuery,
    sort: Annotated[str, Query(max_length=50, description="`id`, `name` or `created_at`; `-` for descending")] = "name",
) -> Page[Role]:
    found = await RoleService(session).page(sort, page)
    return Page[Role].of([Role.model_validate(role) for role in found.items], found.next_cursor, found.total)


@router.post(
    "/roles",
    summary="Create a role",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(409, 503),
    openapi_extra=requires(Permission.ROLE_CREATE, everywhere=True),
)
async def create_role(session: WriteSession, request: Request, response: Response, body: RoleCreation) -> Role:
    role = await RoleService(session).create(cast("RoleValues", body.model_dump()))
    response.headers["Location"] = request.url_for("get_role", role_id=role.id).path
    response.headers["ETag"] = etag(role.revision)
    return Role.model_validate(role)


@router.get(
    "/roles/{role_id}",
    summary="Read a role",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.ROLE_READ),
)
async def get_role(session: ReadSession, response: Response, role_id: ResourceId) -> Role:
    role = await RoleService(session).get(role_id)
    response.headers["ETag"] = etag(role.revision)
    return Role.model_validate(role)


@router.patch(
    "/roles/{role_id}",
    summary="Change a role",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.ROLE_UPDATE, everywhere=True),
)
async def change_role(
    session: WriteSession,
    identities: CurrentIdentities,
    response: Response,
    role_id: ResourceId,
    body: RoleChange,
    if_match: IfMatch = None,
) -> Role:
    """Built-in roles cannot be changed. What you add and what the role has must be allowed to you everywhere."""
    role = await RoleService(session, identities).update(role_id, cast("RoleValues", body.model_dump()), if_match)
    response.headers["ETag"] = etag(role.revision)
    return Role.model_validate(role)


@router.delete(
    "/roles/{role_id}",
    summary="Delete a role",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.ROLE_DELETE, everywhere=True),
)
async def delete_role(
    session: WriteSession, identities: CurrentIdentities, role_id: ResourceId, if_match: IfMatch = None
) -> None:
    """A built-in role cannot be deleted, nor one that somebody holds."""
    await RoleService(session, identities).delete(role_id, if_match)
