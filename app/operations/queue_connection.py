"""The connection that a worker hears of jobs over: its own, outside the pool, and made again whenever it is lost.

The library ends with its connection: it would wait for the operations under way, which go on without it, and their
heartbeats would stop meanwhile. Here a statement waits until the database is back, and an outage is a pause.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self, TypeVar

import asyncpg
import structlog
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import Driver, NotifyCallback
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.database.driver_errors import as_sqlalchemy, is_disconnect

log = structlog.get_logger(__name__)

T = TypeVar("T")

RECONNECT_SECONDS = 1.0


class QueueConnection(Driver):
    """The library's port to the database, over a connection of `engine`, whose pool keeps none.

    A statement without an answer within `answer_seconds` tells that the connection is dead. `restore` is called with
    each new connection, asyncpg's, before anything else is sent.
    """

    def __init__(
        self, engine: AsyncEngine, *, answer_seconds: float, restore: Callable[[Any], Awaitable[None]]
    ) -> None:
        self._engine = engine
        self._answer_seconds = answer_seconds
        self._restore = restore
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._listeners: list[tuple[str, Callable[..., None]]] = []
        self._lock = asyncio.Lock()
        self._gives_up = asyncio.Event()
        self._is_away = False
        self._shutdown = asyncio.Event()

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        async def send(driver: Any) -> list[dict[str, object]]:
            return [dict(row) for row in await driver.fetch(query, *args, timeout=self._answer_seconds)]

        return await self._sent(send)

    async def execute(self, query: str, *args: object) -> str:
        async def send(driver: Any) -> str:
            return str(await driver.execute(query, *args, timeout=self._answer_seconds))

        return await self._sent(send)

    async def notify(self, channel: str, payload: str) -> None:
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        def hear(_: object, __: object, ___: object, payload: str) -> None:
            callback(payload)

        async def send(driver: Any) -> None:
            await driver.add_listener(channel, hear)

        await self._sent(send)
        self._listeners.append((channel, hear))

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return TaskManager()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # The library enters and leaves it once a run; whoever made it closes it.
        pass

    def give_up(self) -> None:
        """From now on what cannot be sent is raised."""
        self._gives_up.set()

    async def close(self) -> None:
        self.give_up()
        async with self._lock:
            await self._drop()

    async def _sent(self, send: Callable[[Any], Awaitable[T]]) -> T:
        async with self._lock:
            while True:
                try:
                    answer = await send(await self._connected())
                except Exception as error:
                    if self._gives_up.is_set() or not self._is_outage(error):
                        raise
                    self._note_outage(error)
                    await self._drop()
                    await self._pause()
                else:
                    return answer

    async def _connected(self) -> Any:
        if self._driver is None or self._driver.is_closed():
            await self._drop()
            self._connection = await self._engine.connect()
            driver: Any = (await self._connection.get_raw_connection()).driver_connection
            for channel, hear in self._listeners:
                await driver.add_listener(channel, hear)
            await self._restore(driver)
            self._driver = driver
            if self._is_away:
                log.info("the queue's connection is back")
            self._is_away = False
        return self._driver

    def _is_outage(self, error: Exception) -> bool:
        if isinstance(error, asyncpg.InterfaceError) and self._driver is not None and not self._driver.is_closed():
            # The driver was used wrongly: another connection would change nothing.
            return False
        return is_disconnect(as_sqlalchemy(error, "a statement of the queue"))

    def _note_outage(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("the queue's connection was lost; trying again until it is back", error=repr(error))
        self._is_away = True

    async def _drop(self) -> None:
        connection, self._connection, driver, self._driver = self._connection, None, self._driver, None
        if driver is not None:
            driver.terminate()
        if connection is not None:
            # It is gone already: what it says to that is of no interest.
            with suppress(Exception):
                await connection.invalidate()
                await connection.close()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gives_up.wait(), RECONNECT_SECONDS)
