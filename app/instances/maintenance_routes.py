"""`/maintenance`: rows that were left behind, to see and to remove."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.errors import problem_responses
from app.instances.orphans import OrphanService

router = APIRouter(prefix="/maintenance", tags=["Maintenance"], route_class=GuardedRoute)


class OrphansInTable(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    table: str
    planned: bool
    rows: int


class OrphanReport(BaseModel):
    """`token` lets this report's rows, and no others, be removed."""

    model_config = ConfigDict(from_attributes=True)

    token: str
    expires_at: datetime
    tables: list[OrphansInTable]
    total: int


class Cleaning(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=1, max_length=1_000_000, description="`token` of the report")]


class CleanedTable(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    table: str
    rows_deleted: int
    error: str | None


class CleaningReport(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    tables: list[CleanedTable]
    total: int


def _orphans(request: Request) -> OrphanService:
    service = request.app.state.orphans
    assert isinstance(service, OrphanService)
    return service


Orphans = Annotated[OrphanService, Depends(_orphans)]


@router.get(
    "/orphans",
    summary="Rows whose instance does not exist",
    responses=problem_responses(503),
    openapi_extra=requires(Permission.MAINTENANCE_READ, everywhere=True),
)
async def report_orphans(orphans: Orphans) -> OrphanReport:
    """Per table, whether or not the table is in the deletion plan. Tables without orphans are left out."""
    return OrphanReport.model_validate(await orphans.report())


@router.post(
    "/orphans/clean",
    summary="Remove what the report showed",
    responses=problem_responses(412, 503),
    openapi_extra=requires(Permission.MAINTENANCE_CLEAN, everywhere=True, limit=CallLimit.BATCH),
)
async def clean_orphans(orphans: Orphans, body: Cleaning) -> CleaningReport:
    """Refused with 412 when the orphans are not those of the report any more."""
    return CleaningReport.model_validate(await orphans.clean(body.token))
