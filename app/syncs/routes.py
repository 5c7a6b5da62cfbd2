"""`/syncs`, and `/instances/{instance_id}/sync`."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status

from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import ParameterError, problem_responses
from app.fields import ResourceId
from app.models.sync import SyncKind, SyncState, SyncTrigger
from app.operations.schemas import Operation, accepted
from app.pagination import Page, PageQuery
from app.syncs.dependencies import Service
from app.syncs.history import SyncHistory
from app.syncs.records import RecordFilter, SessionFilter
from app.syncs.schemas import InstanceSyncBody, Sync, SyncBody, SyncDetail, SyncRecord

router = APIRouter(tags=["Syncs"], route_class=GuardedRoute)
EVERYTHING = InstanceSyncBody()


@router.post(
    "/instances/{instance_id}/sync",
    summary="Sync an instance",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Operation,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.SYNC_RUN),
)
async def sync_instance(
    session: WriteSession,
    request: Request,
    service: Service,
    instance_id: ResourceId,
    body: InstanceSyncBody = EVERYTHING,
) -> Response:
    """Asks the server for what the kinds name, and records what has changed. The answer is an operation, whose
    `sync_session_id` tells where the records will be.

    409 when the instance is deleted or disabled, 422 when it has no credential. What the server says is never an error
    of this call: it is the record's. The server is tried even where it was found unreachable a moment ago.
    """
    return accepted(await service.start_one(session, instance_id, body.kinds), request)


@router.post(
    "/syncs",
    summary="Sync many instances",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Operation,
    responses=problem_responses(404, 409, 413, 503),
    openapi_extra=requires(Permission.SYNC_RUN, limit=CallLimit.BATCH),
)
async def sync_instances(session: WriteSession, request: Request, service: Service, body: SyncBody) -> Response:
    """The instances of these ids, or the active ones that the filter selects, however many, of one space. Each is an
    item of the operation: what is missing, disabled, deleted, without a credential or cannot be reached stops no other.
    """
    _refuse_too_many(body.instance_ids or (), request.app.state.settings.max_ids)
    return accepted(await service.start(session, body.request()), request)


def _refuse_too_many(ids: Sequence[int], limit: int) -> None:
    if len(ids) > limit and len(set(ids)) > limit:
        message = f"at most {limit} ids in one request, not {len(set(ids))}; a filter selects any number of instances"
        error = {"pointer": "/body/instance_ids", "code": "too_long", "message": message}
        raise ParameterError(message, members={"errors": [error]})


@router.get(
    "/syncs",
    summary="List syncs",
    responses=problem_responses(400, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_syncs(
    session: ReadSession,
    page: PageQuery,
    state: Annotated[SyncState | None, Query()] = None,
    trigger: Annotated[SyncTrigger | None, Query()] = None,
    kind: Annotated[SyncKind | None, Query(description="Only syncs of this kind, maybe beside others")] = None,
    instance_id: Annotated[ResourceId | None, Query(description="Only syncs that came to this instance")] = None,
    space_id: Annotated[ResourceId | None, Query(description="Only syncs of this space")] = None,
) -> Page[Sync]:
    """The newest first."""
    wanted = SessionFilter(state, trigger, kind, instance_id, space_id)
    found = await SyncHistory(session).page(wanted, page)
    return Page[Sync].of([Sync.of(each) for each in found.items], found.next_cursor, found.total)


@router.get(
    "/syncs/{sync_id}",
    summary="Read a sync",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def get_sync(session: ReadSession, sync_id: ResourceId) -> SyncDetail:
    """How far it is: what became of the instances, which are slow at this moment, and which cannot be reached."""
    history = SyncHistory(session)
    found = await history.get(sync_id)
    return SyncDetail.with_progress(found, await history.progress(found))


@router.get(
    "/syncs/{sync_id}/records",
    summary="List what a sync did",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_sync_records(
    session: ReadSession,
    sync_id: ResourceId,
    page: PageQuery,
    state: Annotated[SyncState | None, Query()] = None,
    kind: Annotated[SyncKind | None, Query()] = None,
    instance_id: Annotated[ResourceId | None, Query()] = None,
) -> Page[SyncRecord]:
    """One for each instance and kind, in the order in which instances had their turn; while it runs, what there is so
    far. Instances that are missing have none."""
    found = await SyncHistory(session).records(sync_id, RecordFilter(state, kind, instance_id), page)
    items = [SyncRecord.model_validate(each) for each in found.items]
    return Page[SyncRecord].of(items, found.next_cursor, found.total)
