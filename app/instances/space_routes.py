"""`DELETE /spaces/{space_id}`: with the instances, because they go first."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.errors import problem_responses
from app.fields import ResourceId
from app.instances.space_deletion import SpaceDeletionService
from app.preconditions import IfMatch

router = APIRouter(prefix="/spaces", tags=["Spaces"], route_class=GuardedRoute)


class SpaceBlocker(BaseModel):
    """`instance_ids` are the first hundred."""

    model_config = ConfigDict(from_attributes=True)

    code: str
    message: str
    count: int
    instance_ids: list[int]


class SpaceDeletion(BaseModel):
    """Rows by table; tables without any are left out."""

    model_config = ConfigDict(from_attributes=True)

    space_id: int
    name: str
    dry_run: bool
    deleted: dict[str, int] = Field(description="What goes with the space")
    kept: Sequence[str] = Field(description="Tables that keep what they hold of it")
    blockers: list[SpaceBlocker] = Field(description="What keeps it from being deleted, even with `force`")


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _deletion(request: Request) -> SpaceDeletionService:
    service = request.app.state.space_deletion
    assert isinstance(service, SpaceDeletionService)
    return service


@router.delete(
    "/{space_id}",
    summary="Delete a space",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.SPACE_DELETE, everywhere=True),
)
async def delete_space(
    deletion: Annotated[SpaceDeletionService, Depends(_deletion)],
    space_id: ResourceId,
    if_match: IfMatch = None,
    force: Annotated[bool, Query(description="Delete it with everything in it, instead of refusing")] = False,
    dry_run: Annotated[bool, Query(description="Only tell what would go with `force`, and what blocks that")] = False,
) -> SpaceDeletion:
    """409 with what is in it, unless it is empty or forced; protected instances are never deleted.

    It is archived first, and its instances go like in a batch deletion, each in a transaction of its own. When that is
    stopped, the space stays archived with what is left, and the same call goes on. The audit trail stays.
    """
    if dry_run:
        return SpaceDeletion.model_validate(await deletion.foresee(space_id, if_match))
    return SpaceDeletion.model_validate(await deletion.delete(space_id, if_match, force=force))
