"""The API's composition root: settings, lifespan, middleware, routers and error handlers."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import APIRouter, FastAPI

from app.config import Settings
from app.database import Database
from app.errors import install_error_handlers
from app.health.routes import router as health_router
from app.logs import configure_logging
from app.migration import migration_head

log = structlog.get_logger(__name__)

_request_id = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    configure_logging(settings.log_level)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(settings)
        app.state.settings = settings
        app.state.database = database
        app.state.migration_head = migration_head()
        try:
            yield
        finally:
            await database.dispose()

    app = FastAPI(
        title="Muster",
        version="0.1.0",
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
    )
    app.add_middleware(
        CorrelationIdMiddleware,
        header_name="X-Request-ID",
        validator=lambda value: _request_id.fullmatch(value) is not None,
    )
    install_error_handlers(app)
    api = APIRouter(prefix="/api/v1")
    app.include_router(api)
    app.include_router(health_router)
    return app
