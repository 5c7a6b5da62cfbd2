"""Hears from other processes, through PostgreSQL, that rights have changed.

The connection is its own and outside the pool. Whatever was said while it was down is lost, so everybody is forgotten
at each reconnect; the time to live of what is kept bounds what a dead connection that looks alive can hide.
"""

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.access.identities import Identities
from app.access.repository import CHANNEL
from app.config import Settings
from app.database.driver_errors import lost_connection_errors

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 1.0
# A connection that a firewall dropped looks alive until something is sent over it.
PROBE_SECONDS = 15.0


async def keep_listening(settings: Settings, identities: Identities) -> None:
    """Listens until it is cancelled. On SQLite, where there is one process, there is nothing to hear."""
    url = settings.resolved_database_url
    if url.startswith("sqlite"):
        return
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": settings.connect_timeout_seconds})
    while True:
        try:
            await _listen(engine, identities)
        except (SQLAlchemyError, TimeoutError, *lost_connection_errors) as error:
            log.warning("changes of rights in other processes are not heard", error=repr(error))
        identities.forget()
        await asyncio.sleep(RECONNECT_SECONDS)


async def _listen(engine: AsyncEngine, identities: Identities) -> None:
    """Until the connection is lost, which a closed socket tells at once and a dead one by the next probe."""
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        lost = asyncio.Event()
        driver.add_termination_listener(lambda _: lost.set())
        await driver.add_listener(CHANNEL, lambda *_: identities.forget())
        identities.forget()
        while not await _is_set_within(lost, PROBE_SECONDS):
            await driver.execute("SELECT 1", timeout=PROBE_SECONDS)
    log.warning("the connection that changes of rights are heard over was lost")


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
