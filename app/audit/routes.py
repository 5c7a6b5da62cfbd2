"""`/audit`."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.audit.export import AuditExport
from app.audit.records import AuditFilter
from app.audit.schemas import AuditEntry, AuditHead
from app.audit.service import AuditService, require_space
from app.csv_answers import CSV_RESPONSES, CsvFormat, streamed
from app.database import Database
from app.database.request_sessions import ReadSession, get_database
from app.errors import problem_responses
from app.fields import ResourceId, in_utc, one_line
from app.models.audit import AuditOutcome
from app.pagination import Page, PageQuery

router = APIRouter(prefix="/audit", tags=["Audit"], route_class=GuardedRoute)


def _text(text: str) -> str:
    return one_line("filter", text)


Moment = Annotated[datetime, AfterValidator(in_utc)]
Text = Annotated[str, AfterValidator(_text)]


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _wanted(
    actor: Annotated[Text | None, Query(max_length=100, description="User name, or user id")] = None,
    api_key_prefix: Annotated[Text | None, Query(max_length=16)] = None,
    action: Annotated[
        str | None,
        Query(max_length=64, pattern="^[a-z_]+:[a-z_]*$", description="`instance:create`, or `instance:` for all"),
    ] = None,
    resource_type: Annotated[Text | None, Query(max_length=32)] = None,
    resource_id: Annotated[ResourceId | None, Query()] = None,
    outcome: Annotated[AuditOutcome | None, Query()] = None,
    batch_id: Annotated[UUID | None, Query()] = None,
    request_id: Annotated[Text | None, Query(max_length=64)] = None,
    space_id: Annotated[ResourceId | None, Query()] = None,
    since: Annotated[Moment | None, Query(description="At this moment or later; without a zone it is in UTC")] = None,
    until: Annotated[Moment | None, Query(description="Before this moment")] = None,
) -> AuditFilter:
    return AuditFilter(
        actor, api_key_prefix, action, resource_type, resource_id, outcome, batch_id, request_id, space_id, since, until
    )


Wanted = Annotated[AuditFilter, Depends(_wanted)]


@router.get(
    "",
    summary="List audit entries",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.AUDIT_READ),
)
async def list_audit_entries(
    session: ReadSession,
    wanted: Wanted,
    page: PageQuery,
    sort: Annotated[str, Query(max_length=50, description="`-id`, newest first, or `id`")] = "-id",
) -> Page[AuditEntry]:
    """Entries that belong to no space (users, roles, refused calls) are for callers who may read them everywhere.

    The entries of one resource (`resource_type` and `resource_id`) are found at once. Every other filter reads the
    trail back from the newest entry until the page is full: where few entries match, about 0.3 s for each million.
    """
    found = await AuditService(session).page(wanted, sort, page)
    items = [AuditEntry.model_validate(entry) for entry in found.items]
    return Page[AuditEntry].of(items, found.next_cursor, found.total)


@router.get(
    "/export",
    summary="Export audit entries as CSV",
    response_class=StreamingResponse,
    responses=CSV_RESPONSES | problem_responses(404, 503),
    openapi_extra=requires(Permission.AUDIT_READ),
)
async def export_audit_entries(
    database: Annotated[Database, Depends(get_database)], wanted: Wanted, format: CsvFormat = "csv"
) -> StreamingResponse:
    """Newest first, with every column; `changes` is JSON. Cells that a spreadsheet would run get a leading `'`."""
    require_space(wanted.space_id)
    return await streamed(AuditExport(database.readers).pieces(wanted), "audit.csv")


@router.get(
    "/head",
    summary="Read the head of the sealed chain",
    responses=problem_responses(503),
    openapi_extra=requires(Permission.AUDIT_READ, everywhere=True),
)
async def audit_head(session: ReadSession) -> AuditHead:
    return AuditHead.model_validate(await AuditService(session).head())
