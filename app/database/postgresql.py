"""The engine for PostgreSQL."""

from typing import Any

import orjson
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from app.config import Settings


def postgresql_engine(url: str, settings: Settings) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=settings.pool_size,
        max_overflow=settings.pool_max_overflow,
        pool_recycle=settings.pool_recycle_seconds,
        pool_timeout=settings.pool_timeout_seconds,
        # The connection used last is the one whose caches, here and in the server, are warm.
        pool_use_lifo=True,
        json_deserializer=orjson.loads,
        connect_args={"timeout": settings.connect_timeout_seconds},
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def refuse_closed(connection: Any, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        # A server that went away has closed its socket, and asyncpg has seen it: asking costs nothing, where a
        # pre-ping would cost every request a round trip. The pool answers by opening another connection.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine
