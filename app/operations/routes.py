"""`/operations`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.access.gate import Gate
from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.caller import signed_in_user_id
from app.errors import problem_responses
from app.fields import ResourceId
from app.models.operation import OperationKind, OperationState
from app.operations.dependencies import ChangingService, ReadingService, Streams
from app.operations.events import OperationEvent
from app.operations.records import OperationFilter
from app.operations.schemas import Operation, OperationItem, accepted
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, IfNoneMatch, etag, is_known

router = APIRouter(prefix="/operations", tags=["Operations"], route_class=GuardedRoute)
SEEN_ALL = "The operation has ended, and its last event was seen: do not come back"
_unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "The client has it as it is"}}
_seen_all: dict[int | str, dict[str, Any]] = {204: {"description": SEEN_ALL}}


@router.get(
    "",
    summary="List operations",
    responses=problem_responses(400, 503),
    openapi_extra=requires(Permission.OPERATION_READ),
)
async def list_operations(
    service: ReadingService,
    page: PageQuery,
    kind: Annotated[OperationKind | None, Query()] = None,
    state: Annotated[OperationState | None, Query()] = None,
    sort: Annotated[str, Query(max_length=50, description="`-id`, newest first, or `id`, `created_at`")] = "-id",
) -> Page[Operation]:
    """Your own, and where you hold `operation:read_all`, everybody's."""
    found = await service.page(OperationFilter(kind, state), sort, page)
    return Page[Operation].of([Operation.of(each) for each in found.items], found.next_cursor, found.total)


@router.get(
    "/{operation_id}",
    summary="Read an operation",
    response_model=Operation,
    responses=_unchanged | problem_responses(404, 503),
    openapi_extra=requires(Permission.OPERATION_READ),
)
async def get_operation(
    service: ReadingService, response: Response, operation_id: ResourceId, if_none_match: IfNoneMatch = None
) -> Operation | Response:
    """How far it is, or what came of it. Its state tells: `succeeded`, everything is as it should be; `partial`, some
    rows or ids were refused; `failed`, nothing was done, or it could not go on; `cancelled`, it was stopped between."""
    operation = await service.get(operation_id)
    tag = {"ETag": etag(operation.revision)}
    if is_known(if_none_match, operation.revision):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=tag)
    response.headers.update(tag)
    return Operation.of(operation)


@router.get(
    "/{operation_id}/items",
    summary="List what became of each row or id",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.OPERATION_READ),
)
async def list_operation_items(
    service: ReadingService,
    operation_id: ResourceId,
    page: PageQuery,
    status: Annotated[
        str | None, Query(max_length=16, pattern="^[a-z_]+$", description="Such as `created`, `invalid`, `failed`")
    ] = None,
) -> Page[OperationItem]:
    """In the order of the file or of the ids; while it runs, what there is so far."""
    found = await service.items(operation_id, status, page)
    items = [OperationItem.of(each, found.kind) for each in found.items]
    return Page[OperationItem].of(items, found.next_cursor, found.total)


@dataclass(frozen=True, slots=True)
class _Watched:
    """What the stream begins with, and what follows."""

    events: AsyncIterator[OperationEvent]


async def _watched(
    request: Request,
    response: Response,
    streams: Streams,
    operation_id: ResourceId,
    last_event_id: Annotated[
        str | None, Header(max_length=100, description="The `id` of the last event that was seen, as browsers send it")
    ] = None,
) -> AsyncIterator[_Watched]:
    gate = request.app.state.gate
    assert isinstance(gate, Gate)
    with streams.place(signed_in_user_id()):
        first = await streams.event(operation_id)
        if first.name == "done" and first.id == last_event_id:
            response.status_code = status.HTTP_204_NO_CONTENT
        readmit = partial(gate.readmit, request, Permission.OPERATION_READ)
        yield _Watched(streams.events(first, last_event_id, readmit))


@router.get(
    "/{operation_id}/events",
    summary="Follow an operation",
    response_class=EventSourceResponse,
    responses=_seen_all | problem_responses(404, 503),
    openapi_extra=requires(Permission.OPERATION_READ),
)
async def follow_operation(watched: Annotated[_Watched, Depends(_watched)]) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `progress` whenever something has changed, at most twice a second, and `done` at the end;
    with the operation as data, and its revision as id.

    The stream ends with `done`, or after 15 minutes, or with your right to see the operation. Come back with
    `Last-Event-ID` and you are sent what is newer, or 204 when nothing more will come.
    """
    async for event in watched.events:
        yield ServerSentEvent(data=Operation.of(event.operation), event=event.name, id=event.id)


@router.post(
    "/{operation_id}/cancel",
    summary="Cancel an operation",
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.OPERATION_CANCEL),
)
async def cancel_operation(service: ChangingService, response: Response, operation_id: ResourceId) -> Operation:
    """It stops within a second, between two rows or ids; what is done stays done. One that has not begun ends at once.
    409 when it has ended already."""
    operation = await service.cancel(operation_id)
    response.headers["ETag"] = etag(operation.revision)
    return Operation.of(operation)


@router.post(
    "/{operation_id}/resume",
    summary="Go on with an operation that was stopped",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Operation,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.OPERATION_CANCEL),
)
async def resume_operation(service: ChangingService, request: Request, operation_id: ResourceId) -> Response:
    """What has an item is not done again. 409 unless it was cancelled, or failed before its end."""
    return accepted(await service.resume(operation_id), request)


@router.post(
    "/{operation_id}/retry",
    summary="Do again what failed in an operation",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Operation,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.OPERATION_CANCEL),
)
async def retry_operation(service: ChangingService, request: Request, operation_id: ResourceId) -> Response:
    """Items whose status is `failed`; what is invalid or blocked would be so again. 409 when nothing failed."""
    return accepted(await service.retry(operation_id), request)


@router.delete(
    "/{operation_id}",
    summary="Delete an operation",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.OPERATION_DELETE),
)
async def delete_operation(service: ChangingService, operation_id: ResourceId, if_match: IfMatch = None) -> None:
    """With its items, but nothing that it has done. 409 while it runs."""
    await service.remove(operation_id, if_match)
