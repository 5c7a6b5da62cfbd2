"""The API's composition root: settings, lifespan, middleware, routers and error handlers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.routing import iter_route_contexts
from fastapi_offline import FastAPIOffline
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy.exc import SQLAlchemyError

from app.access.documentation import document_access
from app.access.gate import Gate
from app.access.idempotency import IdempotentCalls, open_fingerprint_key
from app.access.listener import keep_listening
from app.access.rate_limits import RateLimits
from app.audit.attempts import FailedAttempts
from app.audit.routes import router as audit_router
from app.background import in_background
from app.caller import Call
from app.capacity.routes import router as capacity_router
from app.capacity.space_routes import router as space_capacity_router
from app.classifications.routes import router as classifications_router
from app.composition import Services
from app.config import Settings
from app.credentials.routes import router as credentials_router
from app.database import Database
from app.errors import install_error_handlers
from app.garbage import settle_garbage_collector
from app.health.routes import router as health_router
from app.housekeeping import keeping_house
from app.instances.batch_routes import router as batch_router
from app.instances.cascade import plan
from app.instances.cascade_postgresql import installed_function_matches
from app.instances.maintenance_routes import router as maintenance_router
from app.instances.orphans import OrphanService
from app.instances.problem_routes import router as problems_router
from app.instances.removal_routes import router as removal_router
from app.instances.routes import router as instances_router
from app.instances.space_deletion import SpaceDeletionService
from app.instances.space_routes import router as space_deletion_router
from app.inventory.routes import router as inventory_router
from app.logs import configure_logging
from app.middleware.stack import install_middleware
from app.migration import migration_head
from app.operations.events import OperationStreams
from app.operations.queue_dashboard import PATH as QUEUE_PATH
from app.operations.queue_dashboard import QueueDashboard, dashboard_queries
from app.operations.routes import router as operations_router
from app.operations.working import working
from app.spaces.member_routes import router as members_router
from app.spaces.routes import router as spaces_router
from app.syncs.connection_routes import router as connections_router
from app.syncs.routes import router as syncs_router
from app.syncs.schedule_routes import router as schedules_router
from app.syncs.scheduler import scheduling
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
    {
        "name": "Operations",
        "description": "Batches that go on without you: see how far they are, stop them, go on, try again.",
    },
    {"name": "Instances", "description": "Registered database servers: search, read, change, delete, export."},
    {"name": "Connections", "description": "Whether a server is reached, and if not, why not."},
    {
        "name": "Syncs",
        "description": "Ask the servers themselves: what was found, what has changed, who is not reached.",
    },
    {"name": "Classifications", "description": "Rules that put accounts into classes: who is root, who may write."},
    {"name": "Schedules", "description": "Syncs at the times of cron expressions: see when, pause, run now."},
    {
        "name": "Inventory",
        "description": "What syncs found on the servers: accounts, databases, settings, and what changed.",
    },
    {"name": "Capacity", "description": "How large databases are, how they grow, and pictures of it."},
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


def create_app(settings: Settings | None = None, *, is_alone: bool = True) -> FastAPI:
    """An application that is not alone has a worker beside it (app.worker_process), which does all but answer."""
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
    app.state.is_alone = is_alone
    install_middleware(app, settings, before_answer=partial(_note_failed_attempt, app))
    install_error_handlers(app)
    document_access(app)
    Instrumentator().expose(app, tags=["Health"], summary="Metrics for Prometheus", response_class=PlainTextResponse)
    app.include_router(_api())
    app.include_router(health_router)
    if settings.queue_dashboard == "on":
        app.mount(QUEUE_PATH, QueueDashboard())
    _resolve_routes(app)
    return app


def _resolve_routes(app: FastAPI) -> None:
    """FastAPI works out what a route takes when a path is first looked for, which would hold up the first requests."""
    for _ in iter_route_contexts(app.routes):
        pass


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = app.state.settings
    services = Services(settings)
    try:
        _take(app, services)
        app.state.migration_head = migration_head()
        await _require_deletion_function(services.database)
        _wire_access(app)
        _wire_sign_in(app)
        _wire_instances(app)
        settle_garbage_collector()
        async with _in_background(app, services):
            yield
    finally:
        app.state.operation_streams.close()
        await app.state.failed_attempts.close()
        await services.close()


@asynccontextmanager
async def _in_background(app: FastAPI, services: Services) -> AsyncIterator[None]:
    settings = services.settings
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(in_background(keep_listening(settings, services.identities)))
        if app.state.is_alone:
            await stack.enter_async_context(keeping_house(services))
            await stack.enter_async_context(scheduling(services.scheduler, settings))
            if settings.server_worker == "on":
                engine, runner = services.operation_engine, services.operation_runner
                await stack.enter_async_context(working(engine, runner, settings.worker_grace_seconds))
        yield


def _api() -> APIRouter:
    api = APIRouter(prefix="/api/v1")
    api.include_router(instances_router)
    api.include_router(removal_router)
    api.include_router(batch_router)
    api.include_router(operations_router)
    api.include_router(problems_router)
    api.include_router(maintenance_router)
    api.include_router(tags_router)
    api.include_router(credentials_router)
    api.include_router(spaces_router)
    api.include_router(members_router)
    api.include_router(space_deletion_router)
    api.include_router(connections_router)
    api.include_router(syncs_router)
    api.include_router(schedules_router)
    api.include_router(classifications_router)
    api.include_router(inventory_router)
    api.include_router(capacity_router)
    api.include_router(space_capacity_router)
    api.include_router(auth_router)
    api.include_router(users_router)
    api.include_router(roles_router)
    api.include_router(grants_router)
    api.include_router(api_keys_router)
    api.include_router(notifications_router)
    api.include_router(audit_router)
    return api


def _take(app: FastAPI, services: Services) -> None:
    """What routes and middleware find in the application's state."""
    app.state.secret_box = services.secret_box
    app.state.database = services.database
    app.state.tokens = services.tokens
    app.state.identities = services.identities
    app.state.idempotency_store = services.idempotency_store
    app.state.uploads = services.uploads
    app.state.problems = services.problems
    app.state.batch_creation = services.batch_creation
    app.state.batch_deletion = services.batch_deletion
    app.state.background_batches = services.background_batches
    app.state.data_sync = services.data_sync
    app.state.connection_tests = services.connection_tests
    app.state.scheduler = services.scheduler
    app.state.operation_engine = services.operation_engine
    app.state.operation_runner = services.operation_runner
    app.state.operation_streams = OperationStreams(services.database)
    if app.state.settings.queue_dashboard == "on":
        # The name is the library's.
        app.state.pgq_queries = dashboard_queries(services.database)
    # Here, so that whatever fails after it finds it to close.
    app.state.failed_attempts = FailedAttempts(services.database)


def _wire_access(app: FastAPI) -> None:
    settings = app.state.settings
    app.state.rate_limits = RateLimits(settings)
    app.state.gate = Gate(app.state.identities, app.state.rate_limits)
    app.state.idempotency = IdempotentCalls(app.state.idempotency_store, open_fingerprint_key(settings))


def _wire_sign_in(app: FastAPI) -> None:
    database, identities = app.state.database, app.state.identities
    limit = SignInLimit(database)
    lifetime = timedelta(seconds=app.state.settings.refresh_token_seconds)
    app.state.sessions = SessionService(database, identities, app.state.tokens, lifetime)
    app.state.sign_in = SignInService(database, app.state.sessions, limit)
    app.state.own_password = OwnPasswordService(database, identities, limit)


def _wire_instances(app: FastAPI) -> None:
    database = app.state.database
    lifetime = timedelta(seconds=app.state.settings.plan_token_seconds)
    app.state.orphans = OrphanService(database, plan, app.state.secret_box, lifetime)
    app.state.space_deletion = SpaceDeletionService(database, app.state.batch_deletion, app.state.identities)


async def _note_failed_attempt(app: FastAPI, call: Call, status: int) -> None:
    await app.state.failed_attempts.note(call, status)


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
