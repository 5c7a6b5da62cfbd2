"""Old operations are removed with their items, in steps, beside everything else."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text

from app.config import Settings
from app.database import Database
from app.models import Base
from app.operations import retention, retention_repository
from app.operations.retention import OperationRetention
from tests.factories import Registry
from tests.operations.rows import operation_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
tables = Base.metadata.tables


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


async def ended(registry: Registry, user_id: int, days: float, state: str = "succeeded", items: int = 0) -> int:
    """An operation that ended so many days ago, with items."""
    operation_id = await operation_of(registry, user_id, state=state, finished_at=ago(days))
    await fill(registry, operation_id, items)
    return operation_id


async def fill(registry: Registry, operation_id: int, items: int) -> None:
    rows = [{"operation_id": operation_id, "position": number, "status": "created"} for number in range(items)]
    if rows:
        async with registry._database.engine.begin() as connection:
            await connection.execute(insert(tables["operation_items"]), rows)


async def left(database: Database) -> list[int]:
    async with database.readers() as session:
        return list(await session.scalars(select(tables["operations"].c.id).order_by(tables["operations"].c.id)))


async def items_left(database: Database) -> int:
    async with database.readers() as session:
        return (await session.execute(select(func.count()).select_from(tables["operation_items"]))).scalar_one()


class TestRemove:
    async def test_keeps_as_many_days_as_it_is_told(self, database: Database, registry: Registry, admin: int) -> None:
        ids = [await ended(registry, admin, days, items=2) for days in (0, 1, 29.9, 30.1, 31, 400)]
        assert await OperationRetention(database, 30).remove(NOW) == 3
        assert await left(database) == ids[:3]
        assert await items_left(database) == 6

    @pytest.mark.parametrize("state", ["succeeded", "partial", "failed", "cancelled"])
    async def test_takes_every_end(self, database: Database, registry: Registry, admin: int, state: str) -> None:
        await ended(registry, admin, 31, state)
        assert await OperationRetention(database, 30).remove(NOW) == 1

    @pytest.mark.parametrize("state", ["queued", "running"])
    async def test_leaves_what_has_not_ended(
        self, database: Database, registry: Registry, admin: int, state: str
    ) -> None:
        operation_id = await operation_of(registry, admin, state=state, created_at=ago(400), started_at=ago(400))
        assert await OperationRetention(database, 30).remove(NOW) == 0
        assert await left(database) == [operation_id]

    @pytest.mark.parametrize("days", [0, 10**6, 10**8])
    async def test_for_ever(self, database: Database, registry: Registry, admin: int, days: int) -> None:
        operation_id = await ended(registry, admin, 10_000)
        assert await OperationRetention(database, days).remove(NOW) == 0
        assert await left(database) == [operation_id]

    async def test_now_is_now(self, database: Database, registry: Registry, admin: int) -> None:
        for hours in (25, 23):
            await operation_of(registry, admin, finished_at=datetime.now(UTC) - timedelta(hours=hours))
        assert await OperationRetention(database, 1).remove() == 1

    async def test_touches_nothing_else(self, database: Database, registry: Registry, admin: int) -> None:
        await registry.dependents(await registry.instance())
        before = await registry.counts()
        await ended(registry, admin, 31, items=3)
        assert await OperationRetention(database, 30).remove(NOW) == 1
        assert await registry.counts() == before


class TestSteps:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retention, "STEP_OPERATIONS", 2)
        monkeypatch.setattr(retention, "STEP_ITEMS", 10)
        monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.01)

    async def test_each_is_a_transaction_of_its_own(
        self, database: Database, registry: Registry, admin: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The oldest two operations and their items, then the third."""
        for days, items in ((31, 4), (33, 20), (32, 7)):
            await ended(registry, admin, days, items=items)
        taken: list[int] = []
        begun: list[Any] = []
        remove_items = retention_repository.remove_items

        async def noted(session: Any, **values: Any) -> int:
            taken.append(await remove_items(session, **values))
            return taken[-1]

        monkeypatch.setattr(retention_repository, "remove_items", noted)

        @event.listens_for(database.engine.sync_engine, "begin")
        def note(connection: Any) -> None:
            if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
                begun.append(connection)

        assert await OperationRetention(database, 30).remove(NOW) == 3
        assert taken == [10, 10, 7, 4]
        assert len(begun) == len(taken) + 2
        assert (await left(database), await items_left(database)) == ([], 0)

    async def test_one_that_was_taken_up_again_is_left(
        self, database: Database, registry: Registry, admin: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the look for what is old and its removal."""
        taken_up, old = [await ended(registry, admin, 31, items=1) for _ in "ab"]
        remove_items = retention_repository.remove_items

        async def late(session: Any, **values: Any) -> int:
            table = tables["operations"]
            await session.execute(table.update().where(table.c.id == taken_up).values(state="queued", finished_at=None))
            return await remove_items(session, **values)

        monkeypatch.setattr(retention_repository, "remove_items", late)
        assert await OperationRetention(database, 30).remove(NOW) == 1
        assert (await left(database), await items_left(database)) == ([taken_up], 1)
        assert old not in await left(database)

    async def test_others_write_in_between(self, database: Database, registry: Registry, admin: int) -> None:
        await ended(registry, admin, 31, items=100)
        removal = asyncio.create_task(OperationRetention(database, 30).remove(NOW))
        written = 0
        while not removal.done():
            await registry.insert("tags", space_id=await registry.default_space(), name=f"t-{written}")
            written += 1
            await asyncio.sleep(0)
        assert written > 2
        assert await removal == 1


@pytest.mark.parametrize("database_kind", ["postgresql"])
class TestSeveralProcesses:
    async def test_at_the_same_time(self, database: Database, registry: Registry, admin: int) -> None:
        for _ in range(30):
            await ended(registry, admin, 31, items=3)
        removals = [OperationRetention(database, 30).remove(NOW) for _ in range(3)]
        assert sum(await asyncio.gather(*removals)) == 30
        assert (await left(database), await items_left(database)) == ([], 0)

    async def test_waits_for_who_takes_one_up_again(self, database: Database, registry: Registry, admin: int) -> None:
        operation_id = await ended(registry, admin, 31, "failed", items=1)
        async with database.engine.begin() as elsewhere:
            await elsewhere.execute(text("SELECT FROM operations FOR UPDATE"))
            removal = asyncio.create_task(OperationRetention(database, 30).remove(NOW))
            waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            async with asyncio.timeout(10):
                while not (await elsewhere.execute(waits)).scalar_one():  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(0.02)
            await elsewhere.execute(text("UPDATE operations SET state = 'queued', finished_at = NULL"))
        assert await removal == 0
        assert (await left(database), await items_left(database)) == ([operation_id], 1)


class TestInTheServer:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"retention_interval_seconds": 0.05, "operation_retention_days": 30})

    async def test_it_runs_again_and_again(self, database: Database, registry: Registry, admin: int) -> None:
        end = partial(operation_of, registry, admin, finished_at=datetime(2020, 1, 1, tzinfo=UTC))
        for _ in range(2):
            await end()
            async with asyncio.timeout(10):
                while await left(database):  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(0.02)
