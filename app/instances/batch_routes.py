"""Import and deletion of many instances."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import Response, StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.gate import narrow_to
from app.access.idempotency import keep_answer_within
from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.errors import ParameterError, problem_responses
from app.fields import ResourceId
from app.instances.background_batches import BackgroundBatches, Complete
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
from app.instances.kept_judgement import judgement_paths
from app.instances.settlement import OnExisting
from app.instances.uploads import Uploads
from app.operations.records import OperationRecord
from app.operations.schemas import Operation, accepted

# More is background work, unless the caller says otherwise.
MAX_ROWS_AT_ONCE = 10_000
MAX_IDS_AT_ONCE = 500

router = APIRouter(prefix="/instances", tags=["Batches"], route_class=GuardedRoute)
_in_background: dict[int | str, dict[str, Any]] = {
    202: {"model": Operation, "description": "It goes on in the background; `Location` tells where to look"}
}


def _creation(request: Request) -> InstanceBatchCreationService:
    service = request.app.state.batch_creation
    assert isinstance(service, InstanceBatchCreationService)
    return service


def _uploads(request: Request) -> Uploads:
    uploads = request.app.state.uploads
    assert isinstance(uploads, Uploads)
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


def _batches(request: Request) -> BackgroundBatches:
    batches = request.app.state.background_batches
    assert isinstance(batches, BackgroundBatches)
    return batches


Batches = Annotated[BackgroundBatches, Depends(_batches)]
Deletion = Annotated[InstanceBatchDeletionService, Depends(batch_deletion)]


@router.post(
    "/batch-create",
    summary="Import instances from a CSV",
    response_model=BatchCreateReport,
    responses=_in_background | problem_responses(404, 409, 413, 415, 422, 503),
    openapi_extra=requires(Permission.INSTANCE_CREATE, limit=CallLimit.BATCH),
)
async def batch_create(
    request: Request,
    batches: Batches,
    creation: Annotated[InstanceBatchCreationService, Depends(_creation)],
    uploads: Annotated[Uploads, Depends(_uploads)],
    file: Annotated[UploadFile, File(description="A CSV or an Excel workbook: a header, then one row an instance")],
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
    `on_existing=update` asks for the permission `instance:update` too. In the background (`auto`: over 10,000 rows) the
    answer is 202 with an operation, whose items are these verdicts.
    """
    if on_existing is OnExisting.UPDATE:
        narrow_to(Permission.INSTANCE_UPDATE)
    asked = CreationRequest(space_id, dry_run, on_existing, atomic, encoding, ignore_unknown_columns)
    async with uploads.receive(file) as upload:
        judged = await creation.judge(upload.path, judgement_paths(uploads, upload.id), asked)
        if _is_for_later(background, judged.file.rows, MAX_ROWS_AT_ONCE):
            return await _accepted(request, partial(batches.start_import, upload, judged, asked))
        report = await creation.create(judged, asked)
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
    responses=_in_background | problem_responses(412, 413, 503),
    openapi_extra=requires(Permission.INSTANCE_DELETE, limit=CallLimit.BATCH),
)
async def batch_delete(request: Request, batches: Batches, deletion: Deletion, body: BatchDeletion) -> Response:
    """Each instance in a transaction of its own: what blocks or breaks one stops no other.

    `soft` hides instances and keeps what is known of them; `hard` removes every row that refers to them. The answer is
    200 with the report, whatever became of the items. Mode `hard` asks for the permission `instance:purge` too.
    """
    require_mode(body.mode)
    ids = _distinct(body.instance_ids, request)
    asked = DeletionRequest(ids, body.mode, body.force, body.dry_run, body.plan_token)
    # A trial deletes nothing, and is one look whatever the number of ids.
    if not body.dry_run and _is_for_later(body.background, len(ids), MAX_IDS_AT_ONCE):
        return await _accepted(request, partial(batches.start_deletion, asked))
    report = await deletion.delete(asked)
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


def _is_for_later(background: str | bool, size: int, at_once: int) -> bool:
    return size > at_once if background == "auto" else background in (True, "true")


async def _accepted(request: Request, start: Callable[[Complete], Awaitable[OperationRecord]]) -> Response:
    """202 with the operation, kept in its transaction for whoever sends the same again."""

    async def complete(session: AsyncSession, operation: OperationRecord) -> None:
        await keep_answer_within(session, request, accepted(operation, request))

    return accepted(await start(complete), request)


def _in_pieces(pieces: list[bytes]) -> Response:
    """A report can be megabytes: it is sent as it was made, piece by piece."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    length = {"Content-Length": str(sum(map(len, pieces)))}
    return StreamingResponse(body(), media_type="application/json", headers=length)
