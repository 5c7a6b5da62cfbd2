"""`/credentials`."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request, Response, status

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.credentials.encryption import SecretBox
from app.credentials.records import CredentialFilter, CredentialValues
from app.credentials.schemas import Credential, CredentialChange, CredentialCreation
from app.credentials.service import CredentialService
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId, SearchText
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, etag

router = APIRouter(prefix="/credentials", tags=["Credentials"], route_class=GuardedRoute)


async def get_secret_box(request: Request) -> SecretBox:
    box = request.app.state.secret_box
    assert isinstance(box, SecretBox)
    return box


Box = Annotated[SecretBox, Depends(get_secret_box)]


@router.get(
    "",
    summary="List credentials",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.CREDENTIAL_READ),
)
async def list_credentials(
    session: ReadSession,
    page: PageQuery,
    space_id: Annotated[ResourceId | None, Query(description="Only credentials of this space")] = None,
    q: Annotated[SearchText | None, Query(description="Substring of the name, in any case")] = None,
    sort: Annotated[str, Query(max_length=50, description="`id`, `name` or `created_at`; `-` for descending")] = "name",
) -> Page[Credential]:
    found = await CredentialService(session).page(CredentialFilter(space_id, q), sort, page)
    items = [Credential.model_validate(credential) for credential in found.items]
    return Page[Credential].of(items, found.next_cursor, found.total)


@router.post(
    "",
    summary="Create a credential",
    description="The password is stored encrypted and never given out again: answers tell `has_password`.",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.CREDENTIAL_CREATE),
)
async def create_credential(
    session: WriteSession, box: Box, request: Request, response: Response, body: CredentialCreation
) -> Credential:
    values = cast("CredentialValues", body.model_dump(exclude={"space_id"}))
    credential = await CredentialService(session, box).create(body.space_id, values)
    response.headers["Location"] = request.url_for("get_credential", credential_id=credential.id).path
    response.headers["ETag"] = etag(credential.revision)
    return Credential.model_validate(credential)


@router.get(
    "/{credential_id}",
    summary="Read a credential",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.CREDENTIAL_READ),
)
async def get_credential(session: ReadSession, response: Response, credential_id: ResourceId) -> Credential:
    credential = await CredentialService(session).get(credential_id)
    response.headers["ETag"] = etag(credential.revision)
    return Credential.model_validate(credential)


@router.patch(
    "/{credential_id}",
    summary="Change a credential",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.CREDENTIAL_UPDATE),
)
async def change_credential(
    session: WriteSession,
    box: Box,
    response: Response,
    credential_id: ResourceId,
    body: CredentialChange,
    if_match: IfMatch = None,
) -> Credential:
    values = cast("CredentialValues", body.model_dump())
    credential = await CredentialService(session, box).update(credential_id, values, if_match)
    response.headers["ETag"] = etag(credential.revision)
    return Credential.model_validate(credential)


@router.delete(
    "/{credential_id}",
    summary="Delete a credential",
    description="Refused with 409 while instances use it; deleted instances count, because they can be restored.",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.CREDENTIAL_DELETE),
)
async def delete_credential(session: WriteSession, credential_id: ResourceId, if_match: IfMatch = None) -> None:
    await CredentialService(session).delete(credential_id, if_match)
