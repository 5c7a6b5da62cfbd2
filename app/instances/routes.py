"""`/instances`: single ones, lists, statistics, tagging, export.

Import and deletion are in batch_routes and removal_routes.
"""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.csv_answers import CSV_MEDIA_TYPE, CSV_RESPONSES, CsvFormat, attachment, streamed
from app.database import Database
from app.database.request_sessions import ReadSession, WriteSession, get_database
from app.database.transactions import run_in_transaction
from app.errors import problem_responses
from app.fields import ResourceId, SearchText
from app.instances.export import ExportColumns, InstanceExport, template
from app.instances.fields import MAX_TAGS
from app.instances.records import InstanceFilter, InstancePage, InstanceStatus
from app.instances.schemas import (
    BatchTagging,
    BatchTaggingReport,
    DatabaseTypeField,
    EnvironmentField,
    Instance,
    InstanceChange,
    InstanceCreation,
    Statistics,
    TagName,
)
from app.instances.service import InstanceService
from app.instances.tagging import InstanceTagging
from app.pagination import Page, PageQuery
from app.preconditions import IfMatch, IfNoneMatch, etag, is_known

router = APIRouter(prefix="/instances", tags=["Instances"], route_class=GuardedRoute)

SpaceQuery = Annotated[ResourceId | None, Query(description="Only instances of this space")]
_not_modified: dict[int | str, dict[str, Any]] = {
    status.HTTP_304_NOT_MODIFIED: {"description": "The client has this revision already"}
}


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _wanted(
    q: Annotated[SearchText | None, Query(description="Substring of name or host, in any case")] = None,
    db_type: Annotated[DatabaseTypeField | None, Query()] = None,
    environment: Annotated[EnvironmentField | None, Query()] = None,
    status: Annotated[InstanceStatus | None, Query(description="By default all that are not deleted")] = None,
    tag: Annotated[
        list[TagName] | None, Query(max_length=MAX_TAGS, description="Name of a tag; with several, all must match")
    ] = None,
    credential_id: Annotated[ResourceId | None, Query()] = None,
    space_id: SpaceQuery = None,
) -> InstanceFilter:
    return InstanceFilter(q, db_type, environment, status, tag or (), credential_id, space_id)


Wanted = Annotated[InstanceFilter, Depends(_wanted)]


@router.get(
    "",
    summary="List instances",
    response_model=Page[Instance],
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_instances(
    session: ReadSession,
    wanted: Wanted,
    page: PageQuery,
    sort: Annotated[str, Query(max_length=50, description="`id`, `name` or `created_at`; `-` for descending")] = "id",
) -> Response:
    return _as_json(await InstanceService(session).page(wanted, sort, page))


def _as_json(page: InstancePage) -> Response:
    """The busiest answer there is: written straight from the records, it takes a third of the time of models."""
    body: dict[str, object] = {"items": [item._asdict() for item in page.items], "next_cursor": page.next_cursor}
    if page.total is not None:
        body["total"] = page.total
    return Response(orjson.dumps(body, option=orjson.OPT_UTC_Z), media_type="application/json")


@router.post(
    "",
    summary="Register an instance",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.INSTANCE_CREATE),
)
async def create_instance(
    session: WriteSession, request: Request, response: Response, body: InstanceCreation
) -> Instance:
    created = await InstanceService(session).create(body.space_id, body.fields())
    response.headers["Location"] = request.url_for("get_instance", instance_id=created.id).path
    response.headers["ETag"] = etag(created.revision)
    return Instance.model_validate(created)


@router.get(
    "/statistics",
    summary="Count instances",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def instance_statistics(session: ReadSession, space_id: SpaceQuery = None) -> Statistics:
    return Statistics.model_validate(await InstanceService(session).statistics(space_id))


@router.get(
    "/export",
    summary="Export instances as CSV",
    response_class=StreamingResponse,
    responses=CSV_RESPONSES | problem_responses(404, 503),
    openapi_extra=requires(Permission.INSTANCE_EXPORT),
)
async def export_instances(
    database: Annotated[Database, Depends(get_database)],
    session: ReadSession,
    wanted: Wanted,
    format: CsvFormat = "csv",
    columns: Annotated[ExportColumns, Query(description="`all` adds what an import does not take")] = (
        ExportColumns.IMPORT
    ),
) -> Response:
    """In order of id, with the columns of the import and without secrets: what is exported can be imported again.

    A cell that a spreadsheet would run (it begins with `=`, `+`, `-`, `@`, tab or return) gets a leading `'`, which the
    import takes off again.
    """
    await InstanceService(session).require_space(wanted.space_id)
    return await streamed(InstanceExport(database.readers).pieces(wanted, columns), "instances.csv")


@router.get(
    "/import-template",
    summary="Download a CSV to fill in",
    response_class=Response,
    responses=CSV_RESPONSES | problem_responses(),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def import_template(format: CsvFormat = "csv") -> Response:
    """The header and an example row for each database type."""
    return Response(template(), media_type=CSV_MEDIA_TYPE, headers=attachment("import-template.csv"))


@router.post(
    "/batch-tags",
    summary="Add and remove tags of many instances",
    responses=problem_responses(413, 503),
    openapi_extra=requires(Permission.INSTANCE_UPDATE, limit=CallLimit.BATCH),
)
async def batch_tags(
    request: Request, database: Annotated[Database, Depends(get_database)], body: BatchTagging
) -> BatchTaggingReport:
    """One transaction: all of it is done, or none. Tags that a space does not have yet are made."""
    max_ids: int = request.app.state.settings.max_ids
    report = await run_in_transaction(
        database.writers,
        lambda session: InstanceTagging(session, max_ids).apply(body.instance_ids, body.add, body.remove),
    )
    return BatchTaggingReport.model_validate(report)


@router.get(
    "/{instance_id}",
    summary="Read an instance",
    response_model=Instance,
    responses=_not_modified | problem_responses(404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def get_instance(
    session: ReadSession, response: Response, instance_id: ResourceId, if_none_match: IfNoneMatch = None
) -> Instance | Response:
    """Also one that is deleted, which `deleted_at` tells."""
    instance = await InstanceService(session).get(instance_id)
    response.headers["ETag"] = etag(instance.revision)
    if is_known(if_none_match, instance.revision):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etag(instance.revision)})
    return Instance.model_validate(instance)


@router.patch(
    "/{instance_id}",
    summary="Change an instance",
    responses=problem_responses(404, 409, 412, 503),
    openapi_extra=requires(Permission.INSTANCE_UPDATE),
)
async def change_instance(
    session: WriteSession,
    response: Response,
    instance_id: ResourceId,
    body: InstanceChange,
    if_match: IfMatch = None,
) -> Instance:
    """Only what is sent changes; null sets the default. A deleted instance is not changed (409)."""
    changed = await InstanceService(session).update(instance_id, body.applied_to, if_match)
    response.headers["ETag"] = etag(changed.revision)
    return Instance.model_validate(changed)
