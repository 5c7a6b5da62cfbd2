"""`/api-keys`, of one's own, and `/users/{user_id}/api-keys`, to revoke what has leaked."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status

from app.access.dependencies import CurrentIdentities
from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires, signed_in
from app.caller import signed_in_user_id
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.pagination import Page, PageQuery
from app.users.api_key_records import ApiKeyPage
from app.users.api_key_schemas import ApiKey, ApiKeyCreation, NewApiKey
from app.users.api_key_service import ApiKeyService

router = APIRouter(tags=["API keys"], route_class=GuardedRoute)

SortQuery = Annotated[str, Query(max_length=50, description="`id`, `name` or `created_at`; `-` for descending")]


@router.get(
    "/api-keys",
    summary="List your API keys",
    responses=problem_responses(400, 503),
    openapi_extra=signed_in(),
)
async def list_api_keys(
    session: ReadSession, identities: CurrentIdentities, page: PageQuery, sort: SortQuery = "-id"
) -> Page[ApiKey]:
    """Expired ones too. The keys themselves are not kept and cannot be shown."""
    return _shown(await ApiKeyService(session, identities).page(signed_in_user_id(), sort, page))


@router.post(
    "/api-keys",
    summary="Make an API key",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(409, 503),
    openapi_extra=signed_in(),
)
async def create_api_key(
    session: WriteSession, identities: CurrentIdentities, request: Request, response: Response, body: ApiKeyCreation
) -> NewApiKey:
    """The answer has the key, this once. Send it as `X-API-Key`."""
    service = ApiKeyService(session, identities)
    made, key = await service.create(signed_in_user_id(), body.name, body.scopes, body.expiry)
    response.headers["Location"] = request.url_for("get_api_key", api_key_id=made.id).path
    response.headers["Cache-Control"] = "no-store"
    return NewApiKey(**ApiKey.model_validate(made).model_dump(), key=key)


@router.get(
    "/api-keys/{api_key_id}",
    summary="Read one of your API keys",
    responses=problem_responses(404, 503),
    openapi_extra=signed_in(),
)
async def get_api_key(session: ReadSession, identities: CurrentIdentities, api_key_id: ResourceId) -> ApiKey:
    return ApiKey.model_validate(await ApiKeyService(session, identities).get(signed_in_user_id(), api_key_id))


@router.delete(
    "/api-keys/{api_key_id}",
    summary="Revoke one of your API keys",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 503),
    openapi_extra=signed_in(),
)
async def revoke_api_key(session: WriteSession, identities: CurrentIdentities, api_key_id: ResourceId) -> None:
    await ApiKeyService(session, identities).revoke(signed_in_user_id(), api_key_id)


@router.get(
    "/users/{user_id}/api-keys",
    summary="List the API keys of a user",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.USER_UPDATE, everywhere=True),
)
async def list_user_api_keys(
    session: ReadSession, identities: CurrentIdentities, user_id: ResourceId, page: PageQuery, sort: SortQuery = "-id"
) -> Page[ApiKey]:
    return _shown(await ApiKeyService(session, identities).page(user_id, sort, page))


@router.delete(
    "/users/{user_id}/api-keys/{api_key_id}",
    summary="Revoke an API key of a user",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.USER_UPDATE, everywhere=True),
)
async def revoke_user_api_key(
    session: WriteSession, identities: CurrentIdentities, user_id: ResourceId, api_key_id: ResourceId
) -> None:
    """For a key that has leaked. Its owner is notified."""
    await ApiKeyService(session, identities).revoke(user_id, api_key_id)


def _shown(page: ApiKeyPage) -> Page[ApiKey]:
    return Page[ApiKey].of([ApiKey.model_validate(key) for key in page.items], page.next_cursor, page.total)
