"""The API's composition root: settings, lifespan, middleware, routers and error handlers."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache, partial
from importlib.metadata import version

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy.exc import SQLAlchemyError

from app.access.documentation import document_access
from app.access.gate import Gate
from app.access.idempotency import IdempotentCalls, open_fingerprint_key
from app.access.idempotency_store import IdempotencyStore, keep_removing_old_keys
from app.access.identities import Identities
from app.access.listener import keep_listening
from app.access.rate_limits import RateLimits
from app.access.tokens import open_access_tokens
from app.audit.attempts import FailedAttempts
from app.audit.background import keep_sealing
from app.audit.retention import AuditRetention
from app.audit.routes import router as audit_router
from app.audit.sealer import AuditSealer
from app.audit.sealing_key import open_sealing
from app.background import in_background, keep_removing
from app.caller import Call
from app.capacity.retention import StatisticsRetention
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
from app.instances.space_deletion import SpaceDeletionService
from app.instances.space_routes import router as space_deletion_router
from app.instances.uploads import UploadDirectory
from app.logs import configure_logging
from app.middleware.stack import install_middleware
from app.migration import migration_head
from app.spaces.member_routes import router as members_router
from app.spaces.routes import router as spaces_router
from app.tags.routes import router as tags_router
from app.users.api_key_routes import router as api_keys_router
from app.users.auth_routes import router as auth_router
from app.users.grant_routes import router as grants_router
from app.users.notification_routes import router as notifications_router
from app.users.own_password import OwnPasswordService
from app.users.role_routes import router as roles_router
from app.users.routes import router as users_router
from app.users.sessions import SessionService
from app.users.sign_in import SignInService
from app.users.sign_in_limit import SignInLimit

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
    {"name": "Spaces", "description": "Tenants: what is in one does not exist for who may not reach it."},
    {"name": "Sign-in", "description": "Tokens for a user name and a password, and what concerns oneself."},
    {"name": "Users", "description": "Who can sign in. What a user owns goes with the user."},
    {"name": "Roles", "description": "What there is to be allowed, roles that bundle it, and who holds which where."},
    {"name": "API keys", "description": "For scripts: each is shown once, and can do at most what its owner can."},
    {"name": "Notifications", "description": "What you are told of."},
    {"name": "Audit", "description": "Who did what, from where, and when: sealed, so that nobody can rewrite it."},
    {"name": "Maintenance", "description": "Rows that were left behind: see them, remove them."},
    {"name": "Health", "description": "For load balancers and monitoring."},
]
# New containers before the youngest generation is looked through; Python's default is 700.
GARBAGE_THRESHOLD = 20_000


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    configure_logging(settings.log_level)
    # The documentation page brings its own scripts: a machine that databases are managed from is often cut off.
    app = FastAPIOffline(
        title="Muster",
        version=version("muster"),
        summary="Registers fleets of database instances, and retires them without leaving a row behind.",
        openapi_tags=_sections,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    install_middleware(app, settings, before_answer=partial(_note_failed_attempt, app))
    install_error_handlers(app)
    document_access(app)
    Instrumentator().expose(app, tags=["Health"], summary="Metrics for Prometheus", response_class=PlainTextResponse)
    app.include_router(_api())
    app.include_router(health_router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = app.state.settings
    app.state.secret_box = open_secret_box(settings)
    database = Database(settings)
    app.state.database = database
    app.state.migration_head = migration_head()
    await _require_deletion_function(database)
    app.state.uploads = UploadDirectory(settings.data_dir)
    app.state.uploads.prepare()
    _wire_access(app)
    _wire_sign_in(app)
    _wire_audit(app)
    # Last: it starts a process, which nothing must leave behind.
    judge = FileJudge(settings.judge_processes)
    _wire_instances(app, judge)
    _settle_garbage_collector()
    retention = StatisticsRetention(database, settings.statistics_retention_days)
    interval = settings.retention_interval_seconds
    try:
        async with (
            in_background(keep_removing(retention.remove, interval, "old statistics")),
            in_background(keep_sealing(app.state.audit_sealer, settings.audit_seal_seconds)),
            in_background(keep_removing(app.state.audit_retention.remove, interval, "old audit entries")),
            in_background(keep_listening(settings, app.state.identities)),
            in_background(keep_removing_old_keys(app.state.idempotency_store)),
        ):
            yield
    finally:
        judge.close()
        await app.state.failed_attempts.close()
        await app.state.identities.close()
        await database.dispose()


def _api() -> APIRouter:
    api = APIRouter(prefix="/api/v1")
    api.include_router(instances_router)
    api.include_router(removal_router)
    api.include_router(batch_router)
    api.include_router(maintenance_router)
    api.include_router(tags_router)
    api.include_router(credentials_router)
    api.include_router(spaces_router)
    api.include_router(members_router)
    api.include_router(space_deletion_router)
    api.include_router(auth_router)
    api.include_router(users_router)
    api.include_router(roles_router)
    api.include_router(grants_router)
    api.include_router(api_keys_router)
    api.include_router(notifications_router)
    api.include_router(audit_router)
    return api


def _wire_access(app: FastAPI) -> None:
    settings, database = app.state.settings, app.state.database
    app.state.tokens = open_access_tokens(settings)
    app.state.identities = Identities(database, app.state.tokens)
    app.state.rate_limits = RateLimits(settings)
    app.state.gate = Gate(app.state.identities, app.state.rate_limits)
    app.state.idempotency_store = IdempotencyStore(database)
    app.state.idempotency = IdempotentCalls(app.state.idempotency_store, open_fingerprint_key(settings))


def _wire_sign_in(app: FastAPI) -> None:
    database, identities = app.state.database, app.state.identities
    limit = SignInLimit(database)
    lifetime = timedelta(seconds=app.state.settings.refresh_token_seconds)
    app.state.sessions = SessionService(database, identities, app.state.tokens, lifetime)
    app.state.sign_in = SignInService(database, app.state.sessions, limit)
    app.state.own_password = OwnPasswordService(database, identities, limit)


def _wire_audit(app: FastAPI) -> None:
    settings, database = app.state.settings, app.state.database
    sealing = open_sealing(settings)
    app.state.failed_attempts = FailedAttempts(database)
    app.state.audit_sealer = AuditSealer(database, sealing)
    app.state.audit_retention = AuditRetention(database, sealing, settings.audit_retention_days)


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
    app.state.space_deletion = SpaceDeletionService(database, app.state.batch_deletion, app.state.identities)


async def _note_failed_attempt(app: FastAPI, call: Call, status: int) -> None:
    await app.state.failed_attempts.note(call, status)


@cache
def _settle_garbage_collector() -> None:
    """What is alive now lives as long as the process, so looking through it again and again finds nothing.

    Once a process: a second application's start would make the first one's remains immortal.

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
