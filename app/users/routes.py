"""`/users`."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import SecretStr

from app.access.dependencies import CurrentIdentities
from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId, SearchText
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, etag
from app.users.records import UserFilter, UserValues
from app.users.schemas import User, UserChange, UserCreation, UserDeletion
from app.users.service import UserService

router = APIRouter(prefix="/users", tags=["Users"], route_class=GuardedRoute)


@router.get(
    "",
    summary="List users",
    responses=problem_responses(400, 503),
    openapi_extra=requires(Permission.USER_READ, everywhere=True),
)
async def list_users(
    session: ReadSession,
    identities: CurrentIdentities,
    page: PageQuery,
    q: Annotated[
        SearchText | None, Query(description="Substring of user name, displayed name or address, in any case")
    ] = None,
    is_active: Annotated[bool | None, Query(description="Only those who can, or cannot, sign in")] = None,
    sort: Annotated[
        str, Query(max_length=50, description="`id`, `username` or `created_at`; `-` for descending")
    ] = "username",
) -> Page[User]:
    found = await UserService(session, identities).page(UserFilter(q, is_active), sort, page)
    return Page[User].of([User.model_validate(user) for user in found.items], found.next_cursor, found.total)


@router.post(
    "",
    summary="Create a user",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(409, 503),
    openapi_extra=requires(Permission.USER_CREATE, everywhere=True),
)
async def create_user(
    session: WriteSession, identities: CurrentIdentities, request: Request, response: Response, body: UserCreation
) -> User:
    """A new user may do nothing until somebody gives them a role."""
    user = await UserService(session, identities).create(_values(body.model_dump()))
    response.headers["Location"] = request.url_for("get_user", user_id=user.id).path
    response.headers["ETag"] = etag(user.revision)
    return User.model_validate(user)


@router.get(
    "/{user_id}",
    summary="Read a user",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.USER_READ, everywhere=True),
)
async def get_user(
    session: ReadSession, identities: CurrentIdentities, response: Response, user_id: ResourceId
) -> User:
    user = await UserService(session, identities).get(user_id)
    response.headers["ETag"] = etag(user.revision)
    return User.model_validate(user)


@router.patch(
    "/{user_id}",
    summary="Change, disable or enable a user",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.USER_UPDATE, everywhere=True),
)
async def change_user(
    session: WriteSession,
    identities: CurrentIdentities,
    response: Response,
    user_id: ResourceId,
    body: UserChange,
    if_match: IfMatch = None,
) -> User:
    """Nobody disables themselves or the last active administrator (409), or sets the password of a user who may do
    what they may not (403)."""
    user = await UserService(session, identities).update(user_id, _values(body.model_dump()), if_match)
    response.headers["ETag"] = etag(user.revision)
    return User.model_validate(user)


@router.delete(
    "/{user_id}",
    summary="Delete a user with everything they own",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.USER_DELETE, everywhere=True),
)
async def delete_user(
    session: WriteSession,
    identities: CurrentIdentities,
    user_id: ResourceId,
    if_match: IfMatch = None,
    dry_run: Annotated[bool, Query(description="Only tell what would go and what would stay")] = False,
) -> UserDeletion:
    """Sessions, API keys, roles, notifications and whatever else belongs to the user goes; the audit trail stays, with
    the name as text. Nobody deletes themselves or the last active administrator (409)."""
    deletion = await UserService(session, identities).delete(user_id, if_match, dry_run=dry_run)
    return UserDeletion.model_validate(deletion)


def _values(body: dict[str, Any]) -> UserValues:
    """As the service takes them; it hashes the password at once."""
    if isinstance(password := body.get("password"), SecretStr):
        body["password"] = password.get_secret_value()
    return cast("UserValues", body)
