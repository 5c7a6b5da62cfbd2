"""Import and deletion of many instances."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import Response, StreamingResponse

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.errors import ParameterError, problem_responses
from app.fields import ResourceId
from app.instances.batch_creation import InstanceBatchCreationService
from app.instances.batch_deletion import InstanceBatchDeletionService
from app.instances.batch_schemas import (
    BatchCreateReport,
    BatchDeleteReport,
    BatchDeletion,
    Encoding,
    PrecheckBody,
    PrecheckReport,
)
from app.instances.cascade import DeletionMode
from app.instances.creation_batch import CreationRequest
from app.instances.deletion_batch import DeletionRequest
from app.instances.settlement import OnExisting
from app.instances.uploads import UploadDirectory

router = APIRouter(prefix="/instances", tags=["Batches"], route_class=GuardedRoute)


def _creation(request: Request) -> InstanceBatchCreationService:
    service = request.app.state.batch_creation
    assert isinstance(service, InstanceBatchCreationService)
    return service


def _uploads(request: Request) -> UploadDirectory:
    uploads = request.app.state.uploads
    assert isinstance(uploads, UploadDirectory)
    return uploads


def batch_deletion(request: Request) -> InstanceBatchDeletionService:
    service = request.app.state.batch_deletion
    assert isinstance(service, InstanceBatchDeletionService)
    return service


def require_mode(mode: DeletionMode) -> None:
    """Raises Forbidden for a caller who may delete instances, but not for good; nor are there any for the rest of the
    call outside of the spaces where they may."""
    if mode is DeletionMode.HARD:
        narrow_to(Permission.INSTANCE_PURGE)


Deletion = Annotated[InstanceBatchDeletionService, Depends(batch_deletion)]


@router.post(
    "/batch-create",
    summary="Import instances from a CSV",
    response_model=BatchCreateReport,
    responses=problem_responses(404, 409, 413, 415, 422, 503),
    openapi_extra=requires(Permission.INSTANCE_CREATE, limit=CallLimit.BATCH),
)
async def batch_create(
    creation: Annotated[InstanceBatchCreationService, Depends(_creation)],
    uploads: Annotated[UploadDirectory, Depends(_uploads)],
    file: Annotated[UploadFile, File(description="The CSV: a header, then one row an instance")],
    space_id: Annotated[ResourceId | None, Form()] = None,
    dry_run: Annotated[bool, Form(description="Judge and report, write nothing")] = False,
    on_existing: Annotated[OnExisting, Form(description="What becomes of a row whose name is known")] = OnExisting.SKIP,
    atomic: Annotated[bool, Form(description="All rows or none")] = False,
    encoding: Annotated[Encoding, Form()] = "auto",
    ignore_unknown_columns: Annotated[bool, Form()] = False,
    background: Annotated[Literal["auto", "true", "false"], Form()] = "auto",
) -> Response:
    """Judges every row, then writes the good ones in chunks of 5,000, one transaction each (all in one if `atomic`).

    The report holds a verdict for every row, with line, column and reason. A row that is refused stops no other.
    `on_existing=update` asks for the permission `instance:update` too.
    """
    if on_existing is OnExisting.UPDATE:
        narrow_to(Permission.INSTANCE_UPDATE)
    _refuse_background(background == "true")
    request = CreationRequest(space_id, dry_run, on_existing, atomic, encoding, ignore_unknown_columns)
    async with uploads.keep(file) as path:
        report = await creation.create(path, request)
    return _in_pieces(report.pieces())


@router.post(
    "/batch-delete/precheck",
    summary="See what a deletion would remove, and what blocks it",
    response_model=PrecheckReport,
    responses=problem_responses(413, 503),
    openapi_extra=requires(Permission.INSTANCE_DELETE, limit=CallLimit.BATCH),
)
async def precheck(request: Request, deletion: Deletion, body: PrecheckBody) -> Response:
    """Changes nothing. `plan_token` makes a deletion do what is shown here, or nothing.

    Mode `hard` asks for the permission `instance:purge` too.
    """
    require_mode(body.mode)
    found = await deletion.precheck(_distinct(body.instance_ids, request), body.mode)
    return _in_pieces(found.pieces())


@router.post(
    "/batch-delete",
    summary="Delete instances",
    response_model=BatchDeleteReport,
    responses=problem_responses(412, 413, 503),
    openapi_extra=requires(Permission.INSTANCE_DELETE, limit=CallLimit.BATCH),
)
async def batch_delete(request: Request, deletion: Deletion, body: BatchDeletion) -> Response:
    """Each instance in a transaction of its own: what blocks or breaks one stops no other.

    `soft` hides instances and keeps what is known of them; `hard` removes every row that refers to them. The answer is
    200 with the report, whatever became of the items. Mode `hard` asks for the permission `instance:purge` too.
    """
    require_mode(body.mode)
    _refuse_background(body.background is True)
    report = await deletion.delete(
        DeletionRequest(_distinct(body.instance_ids, request), body.mode, body.force, body.dry_run, body.plan_token)
    )
    return _in_pieces(report.pieces())


def _distinct(ids: list[int], request: Request) -> tuple[int, ...]:
    """Each id once, in the order given; no more than the configured limit."""
    limit = request.app.state.settings.max_ids
    if len(ids) > limit:
        message = f"at most {limit} ids in one request, not {len(ids)}"
        raise ParameterError(
            message, members={"errors": [{"pointer": "/body/instance_ids", "code": "too_long", "message": message}]}
        )
    return tuple(dict.fromkeys(ids))


def _refuse_background(asked: bool) -> None:
    if asked:
        message = "background operations are not available in this version; without it the call answers when it is done"
        error = {"pointer": "/body/background", "code": "unknown_value", "message": message}
        raise ParameterError(message, members={"errors": [error]})


def _in_pieces(pieces: list[bytes]) -> Response:
    """A report can be megabytes: it is sent as it was made, piece by piece."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    length = {"Content-Length": str(sum(map(len, pieces)))}
    return StreamingResponse(body(), media_type="application/json", headers=length)
