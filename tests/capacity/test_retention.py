"""Old statistics are removed by date, in steps, beside everything else."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import event, insert, select, text

from app import background
from app.background import keep_removing
from app.capacity import repository, retention
from app.capacity.retention import StatisticsRetention
from app.config import Settings
from app.database import Database
from app.main import create_app
from app.models import Base
from tests.factories import Registry
from tests.instances.fleet import fleet

TODAY = date(2026, 11, 22)
TABLES = [statistics.table.name for statistics in repository.STATISTICS]
AGGREGATED = {"average_bytes": 1, "maximum_bytes": 1, "minimum_bytes": 1, "trend": "stable", "sample_count": 1}


def row(table: str, day: date, instance_id: int) -> dict[str, Any]:
    named = {"database_name": "shop"} if table.startswith("database") else {}
    match table:
        case "instance_size_stats":
            own = {"total_bytes": 1, "database_count": 1}
        case "database_table_size_stats":
            own = {"schema_name": "", "table_name": "orders", "size_bytes": 1}
        case "database_size_stats":
            own = {"size_bytes": 1}
        case _:
            own = {"period": "day", **AGGREGATED}
    dated = {"period_start" if "period" in own else "collected_on": day}
    return {"instance_id": instance_id, **named, **own, **dated}


async def fill(database: Database, instance_id: int, table: str, days: Sequence[date]) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(insert(Base.metadata.tables[table]), [row(table, day, instance_id) for day in days])


async def days_left(database: Database, table: str) -> list[date]:
    [statistics] = [each for each in repository.STATISTICS if each.table.name == table]
    async with database.read_engine.connect() as connection:
        return list((await connection.execute(select(statistics.day).order_by(statistics.day))).scalars())


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


class TestTables:
    def test_are_all_that_hold_sizes_by_date(self) -> None:
        dated = [
            name
            for name, table in Base.metadata.tables.items()
            if {"collected_on", "period_start"} & set(table.c.keys())
        ]
        assert sorted(TABLES) == sorted(dated)
        assert len(TABLES) == 5

    @pytest.mark.parametrize("statistics", repository.STATISTICS, ids=TABLES)
    def test_have_an_index_by_date(self, statistics: repository.Statistics) -> None:
        assert [index for index in statistics.table.indexes if next(iter(index.columns)) is statistics.day]


class TestRemove:
    @pytest.mark.parametrize("table", TABLES)
    async def test_keeps_as_many_days_as_it_is_told(self, database: Database, registry: Registry, table: str) -> None:
        await fill(database, await registry.instance(), table, [ago(days) for days in (0, 1, 29, 30, 31, 400)])
        assert await StatisticsRetention(database, 30).remove(TODAY) == {table: 2}
        assert await days_left(database, table) == [ago(days) for days in (30, 29, 1, 0)]

    async def test_counts_by_table(self, database: Database, registry: Registry) -> None:
        instance_id = await registry.instance()
        expected = {table: number for number, table in enumerate(TABLES[1:], 1)}
        for table, rows in expected.items():
            await fill(database, instance_id, table, [ago(100 + number) for number in range(rows)])
        assert await StatisticsRetention(database, 30).remove(TODAY) == expected

    async def test_nothing_is_too_old(self, database: Database, registry: Registry) -> None:
        await fill(database, await registry.instance(), "instance_size_stats", [TODAY])
        assert await StatisticsRetention(database, 1).remove(TODAY) == {}

    @pytest.mark.parametrize("days", [0, 10**6, 10**12])
    async def test_for_ever(self, database: Database, registry: Registry, days: int) -> None:
        kept = [date(1970, 1, 1), TODAY]
        await fill(database, await registry.instance(), "instance_size_stats", kept)
        assert await StatisticsRetention(database, days).remove(TODAY) == {}
        assert await days_left(database, "instance_size_stats") == kept

    async def test_today_is_that_of_utc(self, database: Database, registry: Registry) -> None:
        today = datetime.now(UTC).date()
        await fill(
            database, await registry.instance(), "instance_size_stats", [today - timedelta(days=d) for d in (9, 12)]
        )
        assert await StatisticsRetention(database, 10).remove() == {"instance_size_stats": 1}

    async def test_touches_nothing_else(self, database: Database, registry: Registry) -> None:
        await fleet(database, [2])
        before = await registry.counts()
        removed = await StatisticsRetention(database, 1).remove(TODAY)
        assert removed == dict.fromkeys(TABLES, 2)
        assert await registry.counts() == before | dict.fromkeys(TABLES, 0)


class TestSteps:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retention, "STEP_ROWS", 10)
        monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.01)

    @pytest.mark.parametrize(("rows", "steps"), [(9, [9]), (10, [10, 0]), (11, [10, 1]), (25, [10, 10, 5])])
    async def test_each_is_a_transaction_of_its_own(
        self, database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch, rows: int, steps: list[int]
    ) -> None:
        await fill(database, await registry.instance(), TABLES[0], [ago(50 + number) for number in range(rows)])
        taken, begun = [], []
        delete = repository.delete_older

        async def noted(session: Any, statistics: Any, day: date, limit: int) -> int:
            taken.append(await delete(session, statistics, day, limit))
            return taken[-1]

        monkeypatch.setattr(repository, "delete_older", noted)
        event.listen(database.engine.sync_engine, "begin", begun.append)
        assert await StatisticsRetention(database, 30).remove(TODAY) == {TABLES[0]: rows}
        assert taken == [*steps, 0, 0, 0, 0]
        assert len(begun) == len(taken)

    async def test_the_oldest_go_first(self, database: Database, registry: Registry) -> None:
        await fill(database, await registry.instance(), TABLES[0], [ago(50 + number) for number in range(15)])
        async with database.writers.begin() as session:
            assert await repository.delete_older(session, repository.STATISTICS[0], ago(30), 10) == 10
        assert await days_left(database, TABLES[0]) == [ago(50 + number) for number in reversed(range(5))]

    async def test_others_write_in_between(self, database: Database, registry: Registry) -> None:
        instance_id = await registry.instance()
        await fill(database, instance_id, TABLES[0], [ago(50 + number) for number in range(100)])
        removal = asyncio.create_task(StatisticsRetention(database, 30).remove(TODAY))
        written = 0
        while not removal.done():
            await registry.insert("instance_databases", instance_id=instance_id, name=f"d-{written}")
            written += 1
            await asyncio.sleep(0)
        assert written > 2
        assert await removal == {TABLES[0]: 100}


@pytest.mark.parametrize("database_kind", ["postgresql"])
class TestSeveralProcesses:
    async def test_one_at_a_time(self, database: Database, registry: Registry) -> None:
        await fill(database, await registry.instance(), TABLES[0], [ago(50)])
        async with database.engine.begin() as elsewhere:
            lock = {"key": repository.RETENTION_LOCK}
            await elsewhere.execute(text("SELECT pg_advisory_xact_lock(:key)"), lock)
            assert await StatisticsRetention(database, 30).remove(TODAY) == {}
        assert await StatisticsRetention(database, 30).remove(TODAY) == {TABLES[0]: 1}

    async def test_rows_that_others_hold_are_left(self, database: Database, registry: Registry) -> None:
        await fill(database, await registry.instance(), TABLES[0], [ago(50), ago(51)])
        async with database.engine.begin() as elsewhere:
            held = f"SELECT FROM {TABLES[0]} WHERE collected_on = '{ago(50)}' FOR UPDATE"
            await elsewhere.execute(text(held))
            async with asyncio.timeout(10):
                assert await StatisticsRetention(database, 30).remove(TODAY) == {TABLES[0]: 1}
        assert await days_left(database, TABLES[0]) == [ago(50)]


class TestInTheServer:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"retention_interval_seconds": 0.05, "statistics_retention_days": 30})

    async def test_it_runs_again_and_again(self, database: Database, registry: Registry) -> None:
        instance_id = await registry.instance()
        for _ in range(2):
            await fill(database, instance_id, TABLES[0], [date(2020, 1, 1)])
            async with asyncio.timeout(10):
                while await days_left(database, TABLES[0]):  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(0.02)

    async def test_it_ends_with_the_server(self, settings: Settings) -> None:
        application = create_app(settings)
        async with application.router.lifespan_context(application):
            await asyncio.sleep(0.2)
            during = asyncio.all_tasks()
        assert len(asyncio.all_tasks()) < len(during)

    async def test_a_failure_is_logged_and_ends_nothing(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs = asyncio.Semaphore(0)

        class Failing(StatisticsRetention):
            async def remove(self, today: date | None = None) -> dict[str, int]:
                runs.release()
                raise OSError("the database went away")

        log = Mock()
        monkeypatch.setattr(background, "log", log)
        task = asyncio.create_task(keep_removing(Failing(database, 30).remove, 0.01, "old statistics"))
        async with asyncio.timeout(10):
            for _ in range(3):
                await runs.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log.error.call_args.args == ("old statistics could not be removed",)
