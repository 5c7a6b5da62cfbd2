"""Liveness, readiness and the connection pool, outside /api/v1."""

from typing import Annotated

from alembic.migration import MigrationContext
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from sqlalchemy import Connection

from app.access.routing import CallLimit, GuardedRoute, public
from app.database import Database
from app.database.request_sessions import get_database
from app.errors import DatabaseUnavailable

router = APIRouter(prefix="/health", tags=["Health"], route_class=GuardedRoute)


class Health(BaseModel):
    status: str


class PoolHealth(BaseModel):
    """`utilization` is `checked_out / (size + max_overflow)`; `available` counts what can still be opened."""

    size: int
    checked_out: int
    available: int
    overflow: int
    utilization: float


@router.get(
    "/live",
    summary="Is the process alive",
    openapi_extra=public("tells nothing but that the process answers", limit=CallLimit.UNLIMITED),
)
async def live() -> Health:
    return Health(status="live")


@router.get(
    "/ready",
    summary="Can it serve: database reachable and migrated",
    openapi_extra=public("tells nothing but whether it can serve", limit=CallLimit.UNLIMITED),
)
async def ready(request: Request, database: Annotated[Database, Depends(get_database)]) -> Health:
    async with database.read_engine.connect() as connection:
        current = await connection.run_sync(_current_revision)
    head = request.app.state.migration_head
    if current != head:
        raise DatabaseUnavailable(f"the database is at migration {current}, not at {head}; run `muster migrate`")
    return Health(status="ready")


@router.get(
    "/pool",
    summary="The request connections in use",
    openapi_extra=public("counts of connections, for monitoring", limit=CallLimit.UNLIMITED),
)
async def pool(request: Request, database: Annotated[Database, Depends(get_database)]) -> PoolHealth:
    connections = database.pool
    limit = connections.size() + database.max_overflow
    checked_out = connections.checkedout()
    return PoolHealth(
        size=connections.size(),
        checked_out=checked_out,
        available=limit - checked_out,
        overflow=max(0, connections.overflow()),
        utilization=round(checked_out / limit, 4),
    )


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
