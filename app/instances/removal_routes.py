"""Deletion and restoring of one instance, which is deleted the same way as many."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database import Database
from app.database.request_sessions import get_database
from app.errors import problem_responses
from app.fields import ResourceId
from app.instances.batch_routes import Deletion, require_mode
from app.instances.batch_schemas import DeletedItem
from app.instances.cascade import DeletionMode
from app.instances.restoration import InstanceRestorationService
from app.instances.schemas import Instance
from app.instances.service import InstanceService
from app.preconditions import IfMatch, etag

router = APIRouter(prefix="/instances", tags=["Instances"], route_class=GuardedRoute)


@router.delete(
    "/{instance_id}",
    summary="Delete an instance",
    response_model=DeletedItem,
    response_model_exclude_unset=True,
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.INSTANCE_DELETE),
)
async def delete_instance(
    deletion: Deletion,
    instance_id: ResourceId,
    mode: Annotated[DeletionMode, Query()] = DeletionMode.SOFT,
    force: Annotated[bool, Query(description="Overrides the blockers that can be")] = False,
    if_match: IfMatch = None,
) -> DeletedItem:
    """The same as a batch of one, but answers 404 when it is missing, and 409 with the blockers when it is blocked.

    Mode `hard` asks for the permission `instance:purge` too.
    """
    require_mode(mode)
    outcome = await deletion.delete_one(instance_id, mode, force=force, if_match=if_match)
    return DeletedItem.model_validate(outcome.as_json())


@router.post(
    "/{instance_id}/restore",
    summary="Undo a soft deletion",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.INSTANCE_UPDATE),
)
async def restore_instance(
    database: Annotated[Database, Depends(get_database)],
    response: Response,
    instance_id: ResourceId,
    if_match: IfMatch = None,
) -> Instance:
    """409 when it is not deleted, or when its name or endpoint was taken meanwhile."""
    await InstanceRestorationService(database).restore(instance_id, if_match)
    async with database.readers() as session:
        restored = await InstanceService(session).get(instance_id)
    response.headers["ETag"] = etag(restored.revision)
    return Instance.model_validate(restored)
