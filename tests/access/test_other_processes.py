"""What one process changes, the others know at once: two applications on one PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.main import create_app
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as

# Far below the 30 s after which everybody is looked up anew in any case.
DEADLINE_SECONDS = 5.0
PAUSE_SECONDS = 0.02


@pytest.fixture
def database_kind() -> str:
    """SQLite has one process."""
    return "postgresql"


@pytest.fixture
async def other_app(settings: Settings, app: FastAPI) -> AsyncIterator[FastAPI]:
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def viewer(registry: Registry) -> int:
    return await registry.user(role="viewer")


@pytest.fixture
async def there(app: FastAPI, other_app: FastAPI, viewer: int) -> AsyncIterator[httpx.AsyncClient]:
    """A viewer's client of the other process, which knows it already and listens."""
    async with client_of(other_app, await signed_in_as(app, viewer)) as client:
        await listening(other_app, 2)
        assert await status_there(client) == 200
        yield client


async def status_there(client: httpx.AsyncClient) -> int:
    return (await client.get("/api/v1/tags")).status_code


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await is_so():  # noqa: ASYNC110 - it happens elsewhere, where no event can be set
            await asyncio.sleep(PAUSE_SECONDS)


async def on_server(settings: Settings, statement: str) -> list[asyncpg.Record]:
    """By hand, so that nobody is notified."""
    connection = await asyncpg.connect(settings.resolved_database_url.replace("+asyncpg", ""))
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def listeners(settings: Settings) -> list[int]:
    rows = await on_server(
        settings,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' ORDER BY pid",
    )
    return [row["pid"] for row in rows]


async def listening(app: FastAPI, count: int) -> None:
    async def so_many() -> bool:
        return len(await listeners(app.state.settings)) == count

    await until(so_many)


class TestChanges:
    async def test_are_heard_at_once(self, client: httpx.AsyncClient, there: httpx.AsyncClient, viewer: int) -> None:
        await client.put(f"/api/v1/users/{viewer}/roles", json=[])

        async def is_refused() -> bool:
            return await status_there(there) == 403

        await until(is_refused)


class TestLostConnection:
    async def test_forgets_everybody_and_listens_again(
        self, client: httpx.AsyncClient, there: httpx.AsyncClient, viewer: int, settings: Settings, registry: Registry
    ) -> None:
        old = await listeners(settings)
        # What is changed while nobody listens is not heard, and must not need to be.
        await on_server(settings, f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{old}) AS pid")
        await on_server(settings, "DELETE FROM role_grants WHERE space_id IS NULL AND user_id = " + str(viewer))

        async def is_refused() -> bool:
            return await status_there(there) == 403

        async def are_new() -> bool:
            return len(set(await listeners(settings)) - set(old)) == 2

        await until(is_refused)
        await until(are_new)
        await client.put(f"/api/v1/users/{viewer}/roles", json=[{"role": "viewer"}])

        async def is_let_in() -> bool:
            return await status_there(there) == 200

        await until(is_let_in)
