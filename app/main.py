"""The API's composition root: settings, lifespan, middleware, routers and error handlers."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib.metadata import version

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy.exc import SQLAlchemyError

from app.access.documentation import document_security
from app.access.gate import Gate
from app.access.identities import Identities
from app.access.listener import keep_listening
from app.access.tokens import open_access_tokens
from app.body_limit import BodyLimitMiddleware
from app.call_middleware import CallMiddleware
from app.capacity.retention import StatisticsRetention, keep_removing
from app.config import Settings
from app.credentials.encryption import open_secret_box
from app.credentials.routes import router as credentials_router
from app.database import Database
from app.errors import install_error_handlers
from app.health.routes import router as health_router
from app.instances.batch_creation import InstanceBatchCreationService
from app.instances.batch_deletion import InstanceBatchDeletionService
from app.instances.batch_routes import router as batch_router
from app.instances.cascade import plan
from app.instances.cascade_postgresql import installed_function_matches
from app.instances.file_judge import FileJudge
from app.instances.maintenance_routes import router as maintenance_router
from app.instances.orphans import OrphanService
from app.instances.plan_token import PlanTokens
from app.instances.removal_routes import router as removal_router
from app.instances.routes import router as instances_router
from app.instances.uploads import UploadDirectory
from app.logs import configure_logging
from app.migration import migration_head
from app.tags.routes import router as tags_router

log = structlog.get_logger(__name__)

# The sections of the documentation page, in the order in which a reader would look for them.
_sections = [
    {
        "name": "Batches",
        "description": "Import from CSV, and delete many: a verdict for every row and id.",
    },
    {"name": "Instances", "description": "Registered database servers: search, read, change, delete, export."},
    {"name": "Tags", "description": "Words that instances are grouped and found by."},
    {"name": "Credentials", "description": "What instances are reached with. Passwords go in and never come out."},
    {"name": "Maintenance", "description": "Rows that were left behind: see them, remove them."},
    {"name": "Health", "description": "For load balancers and monitoring."},
]
# New containers before the youngest generation is looked through; Python's default is 700.
GARBAGE_THRESHOLD = 20_000
_request_id = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    configure_logging(settings.log_level)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.secret_box = open_secret_box(settings)
        database = Database(settings)
        app.state.settings = settings
        app.state.database = database
        app.state.migration_head = migration_head()
        await _require_deletion_function(database)
        judge = FileJudge(settings.judge_processes)
        app.state.uploads = UploadDirectory(settings.data_dir)
        app.state.uploads.prepare()
        _wire_access(app)
        _wire_instances(app, judge)
        _settle_garbage_collector()
        retention = StatisticsRetention(database, settings.statistics_retention_days)
        try:
            async with (
                _in_background(keep_removing(retention, settings.retention_interval_seconds)),
                _in_background(keep_listening(settings, app.state.identities)),
            ):
                yield
        finally:
            judge.close()
            await app.state.identities.close()
            await database.dispose()

    # The documentation page brings its own scripts: a machine that databases are managed from is often cut off.
    app = FastAPIOffline(
        title="Muster",
        version=version("muster"),
        summary="Registers fleets of database instances, and retires them without leaving a row behind.",
        openapi_tags=_sections,
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimitMiddleware, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(CallMiddleware)
    app.add_middleware(
        CorrelationIdMiddleware,
        header_name="X-Request-ID",
        validator=lambda value: _request_id.fullmatch(value) is not None,
    )
    install_error_handlers(app)
    document_security(app)
    Instrumentator(excluded_handlers=["/metrics", "/health/.*"]).instrument(app).expose(
        app, tags=["Health"], summary="Metrics for Prometheus"
    )
    api = APIRouter(prefix="/api/v1")
    api.include_router(instances_router)
    api.include_router(removal_router)
    api.include_router(batch_router)
    api.include_router(maintenance_router)
    api.include_router(tags_router)
    api.include_router(credentials_router)
    app.include_router(api)
    app.include_router(health_router)
    return app


def _wire_access(app: FastAPI) -> None:
    settings, database = app.state.settings, app.state.database
    app.state.tokens = open_access_tokens(settings)
    app.state.identities = Identities(database, app.state.tokens)
    app.state.gate = Gate(app.state.identities)


def _wire_instances(app: FastAPI, judge: FileJudge) -> None:
    settings, database, box = app.state.settings, app.state.database, app.state.secret_box
    lifetime = timedelta(seconds=settings.plan_token_seconds)
    app.state.batch_creation = InstanceBatchCreationService(
        database, judge, chunk_rows=settings.batch_chunk_rows, connections=settings.import_connections
    )
    app.state.batch_deletion = InstanceBatchDeletionService(
        database, plan, PlanTokens(box, lifetime), connections=settings.deletion_connections
    )
    app.state.orphans = OrphanService(database, plan, box, lifetime)


@asynccontextmanager
async def _in_background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Has it run beside the requests, and ends it before what it works on is closed."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _settle_garbage_collector() -> None:
    """What is alive now lives as long as the process, so looking through it again and again finds nothing.

    With the defaults, the collector took a sixth of an import's time and held the event loop for 30 ms at a time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)


async def _require_deletion_function(database: Database) -> None:
    """Refuses to start when the database's deletion function is not the one of this version's plan.

    A database that cannot be reached does not stop the start: /health/ready tells, and the next start checks.
    """
    if database.is_sqlite:
        return
    try:
        async with database.read_engine.connect() as connection:
            matches = await installed_function_matches(connection)
    except (OSError, SQLAlchemyError) as error:
        log.warning("the database cannot be reached yet", error=str(error))
        return
    if not matches:
        raise RuntimeError("the database's deletion function is not this version's; run `muster migrate`")
