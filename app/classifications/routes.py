"""`/classifications`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, status

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.classifications.records import ClassificationFilter
from app.classifications.schemas import (
    Classification,
    ClassificationChange,
    ClassificationCreation,
    ClassificationVersion,
    Evaluation,
    EvaluationReport,
)
from app.classifications.service import ClassificationService
from app.database import Database
from app.database.request_sessions import get_database
from app.errors import problem_responses
from app.fields import ResourceId
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, etag

router = APIRouter(prefix="/classifications", tags=["Classifications"], route_class=GuardedRoute)


async def _service(database: Annotated[Database, Depends(get_database)]) -> ClassificationService:
    return ClassificationService(database)


Service = Annotated[ClassificationService, Depends(_service)]


@router.get(
    "",
    summary="List classifications",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.CLASSIFICATION_READ),
)
async def list_classifications(
    service: Service,
    page: PageQuery,
    space_id: Annotated[ResourceId | None, Query(description="Only those of this space")] = None,
    is_enabled: Annotated[bool | None, Query()] = None,
    sort: Annotated[
        str, Query(max_length=50, description="`priority`, `id`, `name` or `created_at`; `-` for descending")
    ] = "priority",
) -> Page[Classification]:
    found = await service.page(ClassificationFilter(space_id, is_enabled), sort, page)
    items = [Classification.model_validate(each) for each in found.items]
    return Page[Classification].of(items, found.next_cursor, found.total)


@router.post(
    "",
    summary="Create a classification",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.CLASSIFICATION_CREATE),
)
async def create_classification(
    service: Service, request: Request, response: Response, body: ClassificationCreation
) -> Classification:
    """The accounts that are known are put into the class before the answer, and those that syncs find with each sync.

    Whoever may make a rule learns from it what accounts there are: it asks for the permission `instance:read` too.
    """
    narrow_to(Permission.INSTANCE_READ)
    created = await service.create(body.space_id, body.values())
    response.headers["Location"] = request.url_for("get_classification", classification_id=created.id).path
    response.headers["ETag"] = etag(created.revision)
    return Classification.model_validate(created)


@router.post(
    "/evaluate",
    summary="Try a rule",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.CLASSIFICATION_READ, limit=CallLimit.BATCH),
)
async def evaluate_rule(service: Service, body: Evaluation) -> EvaluationReport:
    """Which of a space's accounts the rule would match. Nothing is saved. Asks for the permission `instance:read` too.

    422 tells the place in a rule that cannot be understood.
    """
    narrow_to(Permission.INSTANCE_READ)
    return EvaluationReport.model_validate(await service.preview(body.rule, body.space_id, body.limit))


@router.get(
    "/{classification_id}",
    summary="Read a classification",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.CLASSIFICATION_READ),
)
async def get_classification(service: Service, response: Response, classification_id: ResourceId) -> Classification:
    found = await service.get(classification_id)
    response.headers["ETag"] = etag(found.revision)
    return Classification.model_validate(found)


@router.get(
    "/{classification_id}/versions",
    summary="List the rules that a classification had",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.CLASSIFICATION_READ),
)
async def list_classification_versions(service: Service, classification_id: ResourceId) -> list[ClassificationVersion]:
    """The present one first."""
    return [ClassificationVersion.model_validate(each) for each in await service.versions(classification_id)]


@router.patch(
    "/{classification_id}",
    summary="Change a classification",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.CLASSIFICATION_UPDATE),
)
async def change_classification(
    service: Service,
    response: Response,
    classification_id: ResourceId,
    body: ClassificationChange,
    if_match: IfMatch = None,
) -> Classification:
    """Another rule is another version. Disabled, it has nobody in its class. Asks for the permission `instance:read`
    too."""
    narrow_to(Permission.INSTANCE_READ)
    changed = await service.update(classification_id, body.values(), if_match)
    response.headers["ETag"] = etag(changed.revision)
    return Classification.model_validate(changed)


@router.delete(
    "/{classification_id}",
    summary="Delete a classification",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 412, 503),
    openapi_extra=requires(Permission.CLASSIFICATION_DELETE),
)
async def delete_classification(service: Service, classification_id: ResourceId, if_match: IfMatch = None) -> None:
    """With every version of its rule."""
    await service.delete(classification_id, if_match)
