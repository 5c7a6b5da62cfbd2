"""Measurements become rows of their day, and the periods with that day say what the rows say."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, event

from app.capacity import recording
from app.capacity.recording import MAX_BYTES, USUAL_RETENTION_DAYS, SizeRecorder
from app.capacity.records import DatabaseSize, Sizes, TableSize
from app.capacity.retention import StatisticsRetention
from app.config import Settings
from app.database import Database
from app.models import Base
from tests.capacity.measuring import days, record, record_days, rows, sizes, summary
from tests.factories import Registry

AGGREGATIONS = ("instance_size_aggregations", "database_size_aggregations")


@contextmanager
def counted_statements(database: Database) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


@pytest.fixture
async def instance_id(registry: Registry) -> int:
    return await registry.instance()


class TestDay:
    async def test_has_a_row_for_each_database_and_the_total(self, database: Database, instance_id: int) -> None:
        found = Sizes([DatabaseSize("shop", 700, 500, 200), DatabaseSize("blog", 50)])
        await record(database, instance_id, found, "2026-11-23")
        [total] = await rows(database, "instance_size_stats")
        assert (total["collected_on"], total["total_bytes"], total["database_count"]) == (date(2026, 11, 23), 750, 2)
        assert total["collected_at"] == datetime(2026, 11, 23, 12, tzinfo=UTC)
        stored = await rows(database, "database_size_stats")
        assert [(row["database_name"], row["size_bytes"], row["data_bytes"], row["index_bytes"]) for row in stored] == [
            ("blog", 50, None, None),
            ("shop", 700, 500, 200),
        ]

    async def test_a_second_run_updates_it(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100, "blog": 10, "wiki": 5}, "2026-11-23")
        later = datetime(2026, 11, 23, 18, tzinfo=UTC)
        await record(database, instance_id, {"shop": 120, "blog": 10, "new": 1}, later)
        [total] = await rows(database, "instance_size_stats")
        assert (total["total_bytes"], total["database_count"], total["collected_at"]) == (131, 3, later)
        assert await summary(database, "month", "2026-11-01") == (131, 131, 131, None, None, "stable", 1)
        assert await summary(database, "day", "2026-11-23", "shop") == (120, 120, 120, None, None, "stable", 1)

    async def test_a_run_that_finds_nothing_new_is_the_last_one(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100}, "2026-11-23")
        later = datetime(2026, 11, 23, 18, tzinfo=UTC)
        await record(database, instance_id, {"shop": 100}, later)
        [total] = await rows(database, "instance_size_stats")
        assert total["collected_at"] == later

    async def test_other_index_bytes_alone_are_an_update(self, database: Database, instance_id: int) -> None:
        for index_bytes in (1, 2):
            found = Sizes([DatabaseSize("shop", 10, 5, index_bytes)])
            await record(database, instance_id, found, "2026-11-23")
        assert [row["index_bytes"] for row in await rows(database, "database_size_stats")] == [2]

    async def test_a_measurement_from_before_the_stored_one_changes_nothing(
        self, database: Database, instance_id: int
    ) -> None:
        await record(database, instance_id, {"shop": 100}, datetime(2026, 11, 23, 18, tzinfo=UTC))
        early = datetime(2026, 11, 23, 6, tzinfo=UTC)
        await record(database, instance_id, {"shop": 90, "old": 1}, early)
        assert [row["size_bytes"] for row in await rows(database, "database_size_stats")] == [100]
        assert await summary(database, "day", "2026-11-23") == (100, 100, 100, None, None, "stable", 1)

    async def test_a_database_that_is_gone_leaves_the_total(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100, "blog": 10}, "2026-11-23")
        await record(database, instance_id, {"shop": 100}, datetime(2026, 11, 23, 18, tzinfo=UTC))
        assert await summary(database, "day", "2026-11-23") == (100, 100, 100, None, None, "stable", 1)
        # Its sizes stay.
        assert await summary(database, "month", "2026-11-01", "blog") == (10, 10, 10, None, None, "stable", 1)

    async def test_a_server_without_databases_is_empty(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {}, "2026-11-23")
        assert await summary(database, "quarter", "2026-10-01") == (0, 0, 0, None, None, "stable", 1)

    async def test_of_two_databases_with_one_name_the_first_stands(self, database: Database, instance_id: int) -> None:
        found = Sizes([DatabaseSize("shop", 1), DatabaseSize("shop", 2)])
        await record(database, instance_id, found, "2026-11-23")
        assert [row["total_bytes"] for row in await rows(database, "instance_size_stats")] == [1]

    async def test_other_instances_are_not_touched(
        self, database: Database, registry: Registry, instance_id: int
    ) -> None:
        other = await registry.instance()
        await record(database, other, {"shop": 7}, "2026-11-22")
        await record(database, instance_id, {"shop": 9}, "2026-11-23")
        for table in AGGREGATIONS:
            found = await rows(database, table, instance_id=other)
            assert [row["average_bytes"] for row in found] == [7] * 4


class TestResized:
    """What `record` returns: databases of which another size is recorded than the last one up to the day."""

    async def test_are_all_at_first(self, database: Database, instance_id: int) -> None:
        assert await record(database, instance_id, {"shop": 100, "blog": 0}, "2026-11-20") == {"shop", "blog"}

    async def test_are_those_that_differ_from_an_earlier_day(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100, "blog": 10, "wiki": 5}, "2026-11-20")
        await record(database, instance_id, {"shop": 100, "blog": 20}, "2026-11-21")
        measured = {"shop": 100, "blog": 10, "wiki": 5, "new": 1}
        assert await record(database, instance_id, measured, "2026-11-23") == {"blog", "new"}
        # Each has its row of the day all the same.
        stored = await rows(database, "database_size_stats", collected_on=date(2026, 11, 23))
        assert {row["database_name"]: row["size_bytes"] for row in stored} == measured

    async def test_are_those_that_differ_from_the_days_own(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100, "blog": 10}, "2026-11-22")
        await record(database, instance_id, {"shop": 200, "blog": 10}, "2026-11-23")
        later = datetime(2026, 11, 23, 18, tzinfo=UTC)
        assert await record(database, instance_id, {"shop": 100, "blog": 10}, later) == {"shop"}
        assert await record(database, instance_id, {"shop": 100, "blog": 10}, later) == frozenset()

    @pytest.mark.parametrize(
        "other", [DatabaseSize("shop", 10, 5, 2), DatabaseSize("shop", 10), DatabaseSize("shop", 9, 5, 1)]
    )
    async def test_have_another_part_of_data_or_indexes(
        self, database: Database, instance_id: int, other: DatabaseSize
    ) -> None:
        await record(database, instance_id, Sizes([DatabaseSize("shop", 10, 5, 1)]), "2026-11-22")
        assert await record(database, instance_id, Sizes([other]), "2026-11-23") == {"shop"}

    async def test_of_a_day_that_comes_late_are_compared_with_days_before_it(
        self, database: Database, instance_id: int
    ) -> None:
        await record_days(database, instance_id, {"2026-11-20": 100, "2026-11-22": 300})
        assert await record(database, instance_id, {"shop": 100}, "2026-11-21") == frozenset()
        assert await record(database, instance_id, {"shop": 100}, "2026-11-19") == {"shop"}

    async def test_are_none_where_nothing_is_recorded(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100}, datetime(2026, 11, 23, 18, tzinfo=UTC))
        early = datetime(2026, 11, 23, 6, tzinfo=UTC)
        assert await record(database, instance_id, {"shop": 90, "old": 1}, early) == frozenset()

    async def test_are_the_instances_own(self, database: Database, registry: Registry, instance_id: int) -> None:
        await record(database, await registry.instance(), {"shop": 100}, "2026-11-22")
        assert await record(database, instance_id, {"shop": 100}, "2026-11-23") == {"shop"}


class TestZones:
    """The day is the one in UTC, whatever zone the moment is told in."""

    @pytest.mark.parametrize(
        ("moment", "day"),
        [
            (datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "2026-12-31"),
            (datetime(2027, 1, 1, tzinfo=UTC), "2027-01-01"),
            (datetime(2026, 12, 31, 18, 59, tzinfo=timezone(timedelta(hours=-5))), "2026-12-31"),
            (datetime(2026, 12, 31, 19, 0, tzinfo=timezone(timedelta(hours=-5))), "2027-01-01"),
            (datetime(2027, 1, 1, 13, 59, tzinfo=timezone(timedelta(hours=14))), "2026-12-31"),
            (datetime(2027, 1, 1, 14, 0, tzinfo=timezone(timedelta(hours=14))), "2027-01-01"),
            (datetime(2028, 2, 29, 23, 30, tzinfo=timezone(timedelta(hours=-1))), "2028-03-01"),
            (datetime(2028, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2028-02-29"),
        ],
    )
    async def test_the_day_is_that_of_utc(
        self, database: Database, instance_id: int, moment: datetime, day: str
    ) -> None:
        await record(database, instance_id, {"shop": 1}, moment)
        [total] = await rows(database, "instance_size_stats")
        assert (total["collected_on"].isoformat(), total["collected_at"]) == (day, moment)
        assert await summary(database, "day", day) is not None

    async def test_the_same_moment_in_two_zones_is_one_measurement(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 1}, datetime(2026, 12, 31, 12, tzinfo=UTC))
        same = datetime(2027, 1, 1, 2, tzinfo=timezone(timedelta(hours=14)))
        assert await record(database, instance_id, {"shop": 2}, same) == {"shop"}
        assert [row["size_bytes"] for row in await rows(database, "database_size_stats")] == [2]


class TestPeriods:
    async def test_a_week_goes_over_the_end_of_the_year(self, database: Database, instance_id: int) -> None:
        await record_days(
            database, instance_id, {"2026-12-31": 100, "2027-01-01": 130, "2027-01-03": 160, "2027-01-04": 500}
        )
        assert await summary(database, "week", "2026-12-28") == (130, 160, 100, 60, 60.0, "growing", 3)
        assert await summary(database, "week", "2027-01-04") == (500, 500, 500, None, None, "stable", 1)
        for period, start in (("month", "2026-12-01"), ("quarter", "2026-10-01")):
            assert await summary(database, period, start) == (100, 100, 100, None, None, "stable", 1)
        for period in ("month", "quarter"):
            # 790 / 3; 370 of 130.
            expected = (263, 500, 130, 370, 284.6153846, "growing", 3)
            assert await summary(database, period, "2027-01-01") == expected
            assert await summary(database, period, "2027-01-01", "shop") == expected

    async def test_a_quarter_ends_with_its_month(self, database: Database, instance_id: int) -> None:
        await record_days(database, instance_id, {"2026-09-01": 400, "2026-09-30": 200, "2026-10-01": 300})
        assert await summary(database, "quarter", "2026-07-01") == (300, 400, 200, -200, -50.0, "shrinking", 2)
        assert await summary(database, "quarter", "2026-10-01") == (300, 300, 300, None, None, "stable", 1)
        assert await summary(database, "month", "2026-09-01") == (300, 400, 200, -200, -50.0, "shrinking", 2)
        assert await summary(database, "week", "2026-09-28") == (250, 300, 200, 100, 50.0, "growing", 2)

    async def test_the_leap_day_is_in_february(self, database: Database, instance_id: int) -> None:
        await record_days(database, instance_id, {"2028-02-28": 100, "2028-02-29": 104, "2028-03-01": 120})
        assert await summary(database, "month", "2028-02-01") == (102, 104, 100, 4, 4.0, "stable", 2)
        assert await summary(database, "month", "2028-03-01") == (120, 120, 120, None, None, "stable", 1)
        assert await summary(database, "week", "2028-02-28") == (108, 120, 100, 20, 20.0, "growing", 3)
        assert await summary(database, "quarter", "2028-01-01") == (108, 120, 100, 20, 20.0, "growing", 3)
        assert await summary(database, "day", "2028-02-29") == (104, 104, 104, None, None, "stable", 1)

    async def test_a_day_that_comes_late_counts_in_its_place(self, database: Database, instance_id: int) -> None:
        await record_days(database, instance_id, {"2026-11-20": 100, "2026-11-22": 300})
        await record(database, instance_id, {"shop": 800}, "2026-11-21")
        assert await summary(database, "month", "2026-11-01") == (400, 800, 100, 200, 200.0, "growing", 3)
        await record(database, instance_id, {"shop": 400}, "2026-11-01")
        assert await summary(database, "month", "2026-11-01") == (400, 800, 100, -100, -25.0, "shrinking", 4)

    async def test_a_day_that_comes_late_for_an_ended_quarter(self, database: Database, instance_id: int) -> None:
        await record_days(database, instance_id, {"2026-09-29": 100, "2026-11-22": 300})
        await record(database, instance_id, {"shop": 150}, "2026-09-30")
        assert await summary(database, "quarter", "2026-07-01") == (125, 150, 100, 50, 50.0, "growing", 2)
        assert await summary(database, "quarter", "2026-10-01") == (300, 300, 300, None, None, "stable", 1)

    async def test_missing_days_count_as_nothing(self, database: Database, instance_id: int) -> None:
        await record_days(database, instance_id, {"2026-11-02": 10, "2026-11-29": 40})
        assert await summary(database, "month", "2026-11-01") == (25, 40, 10, 30, 300.0, "growing", 2)
        assert await summary(database, "day", "2026-11-03") is None
        assert await summary(database, "week", "2026-11-09") is None

    async def test_a_database_that_comes_and_goes(self, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100}, "2026-11-20")
        await record(database, instance_id, {"shop": 100, "blog": 60}, "2026-11-21")
        await record(database, instance_id, {"blog": 80}, "2026-11-22")
        # 100, 160, 80.
        assert await summary(database, "month", "2026-11-01") == (113, 160, 80, -20, -20.0, "shrinking", 3)
        assert await summary(database, "month", "2026-11-01", "blog") == (70, 80, 60, 20, 33.3333333, "growing", 2)
        assert await summary(database, "month", "2026-11-01", "shop") == (100, 100, 100, 0, 0.0, "stable", 2)

    async def test_are_what_the_days_say_in_whatever_order_they_come(
        self, database: Database, registry: Registry
    ) -> None:
        size_by_day = {day: 100 + 7 * place % 31 for place, day in enumerate(days("2026-12-20", 20))}
        first, second = await registry.instance(), await registry.instance()
        await record_days(database, first, size_by_day)
        await record_days(database, second, dict(reversed(size_by_day.items())))
        for table in AGGREGATIONS:
            in_order, in_reverse = [await rows(database, table, instance_id=key) for key in (first, second)]
            assert [row | {"instance_id": second} for row in in_order] == in_reverse
            # From the 20th of December, a Sunday, to the 8th of January.
            assert len(in_order) == 20 + 4 + 2 + 2

    async def test_two_who_record_at_once_see_each_other(self, database: Database, instance_id: int) -> None:
        await asyncio.gather(
            *(record(database, instance_id, {"shop": number}, day) for number, day in enumerate(days("2026-11-01", 20)))
        )
        assert await summary(database, "month", "2026-11-01") == (10, 19, 0, 19, None, "growing", 20)

    async def test_two_who_record_the_same_day_at_once(self, database: Database, instance_id: int) -> None:
        moments = [datetime(2026, 11, 23, hour, tzinfo=UTC) for hour in range(12)]
        found = await asyncio.gather(
            *(record(database, instance_id, {"shop": moment.hour}, moment) for moment in reversed(moments))
        )
        # The first to record has nothing to compare with; those who come after it with an earlier moment say nothing.
        assert all(each in (frozenset(), {"shop"}) for each in found) and {"shop"} in found
        assert await summary(database, "week", "2026-11-23", "shop") == (11, 11, 11, None, None, "stable", 1)


class TestNumbers:
    @pytest.mark.parametrize(
        ("first", "last", "expected"),
        [
            (100, 105, (5, 5.0, "stable")),
            (100, 95, (-5, -5.0, "stable")),
            (1000, 1051, (51, 5.1, "growing")),
            (1000, 949, (-51, -5.1, "shrinking")),
            (19, 20, (1, 5.2631579, "growing")),
            (21, 22, (1, 4.7619048, "stable")),
            (0, 10, (10, None, "growing")),
            (10, 0, (-10, -100.0, "shrinking")),
            (0, 0, (0, None, "stable")),
            (10**15, 105 * 10**13, (5 * 10**13, 5.0, "stable")),
            (10**15, 105 * 10**13 + 1, (5 * 10**13 + 1, 5.0, "growing")),
        ],
    )
    async def test_growth(
        self, database: Database, instance_id: int, first: int, last: int, expected: tuple[int, float | None, str]
    ) -> None:
        await record_days(database, instance_id, {"2026-11-02": first, "2026-11-03": last})
        for name in (None, "shop"):
            found = await summary(database, "week", "2026-11-02", name)
            assert found is not None
            assert found[3:6] == expected

    async def test_huge_sizes_are_exact(self, database: Database, instance_id: int) -> None:
        base = 10**15
        await record_days(
            database, instance_id, {day: base + place for place, day in enumerate(days("2026-11-01", 30))}
        )
        # The mean of 0 to 29 is 14.5, which is rounded up.
        expected = (base + 15, base + 29, base, 29, 29e-13, "stable", 30)
        assert await summary(database, "month", "2026-11-01") == expected

    async def test_sizes_that_are_none_are_bounded(self, database: Database, instance_id: int) -> None:
        found = Sizes(
            [DatabaseSize("a", 2**80, -1, -1), DatabaseSize("b", -5), DatabaseSize("c", Decimal(7))],  # type: ignore[arg-type]
            [TableSize("a", "", "t", 2**80, row_estimate=-1)],
        )
        await record(database, instance_id, found, "2026-11-23")
        stored = await rows(database, "database_size_stats")
        assert [(row["size_bytes"], row["data_bytes"]) for row in stored] == [(MAX_BYTES, None), (0, None), (7, None)]
        assert [row["total_bytes"] for row in await rows(database, "instance_size_stats")] == [MAX_BYTES]
        [table] = await rows(database, "database_table_size_stats")
        assert (table["size_bytes"], table["row_estimate"]) == (MAX_BYTES, None)


class TestNames:
    NAMES = ('it\'s "quoted" `so`', "\N{ROCKET}", "数据库" * 21 + "库", "a b\tc", "'; DROP TABLE x; --", "%_\\")

    async def test_are_stored_as_they_are(self, database: Database, instance_id: int) -> None:
        measured = {name: 10 + place for place, name in enumerate(self.NAMES)}
        for _ in range(2):
            resized = await record(database, instance_id, measured, "2026-11-23")
        assert resized == frozenset()
        stored = {row["database_name"]: row["size_bytes"] for row in await rows(database, "database_size_stats")}
        assert stored == measured
        assert await summary(database, "day", "2026-11-23", self.NAMES[0]) == (10, 10, 10, None, None, "stable", 1)

    async def test_that_cannot_be_stored_are_replaced_and_stay_apart(
        self, database: Database, instance_id: int
    ) -> None:
        measured = {"a\x00b": 1, "c\ud800": 2, "x" * 300 + "1": 3, "x" * 300 + "2": 4}
        tables = [TableSize(name, "s\x00", "t\ud800" * 200, size) for name, size in measured.items()]
        for _ in range(2):
            resized = await record(database, instance_id, sizes(measured, tables), "2026-11-23")
        assert resized == frozenset()
        assert len(await rows(database, "database_size_stats")) == 4
        assert len(await rows(database, "database_table_size_stats")) == 4


class TestTables:
    async def test_one_row_for_each_and_day(self, database: Database, instance_id: int) -> None:
        orders = TableSize("shop", "public", "orders", 100, 70, 30, 1000)
        await record(database, instance_id, sizes({"shop": 200}, [orders]), "2026-11-22")
        await record(database, instance_id, sizes({"shop": 200}, [orders]), "2026-11-23")
        grown = TableSize("shop", "public", "orders", 150, 100, 50, 1500)
        later = datetime(2026, 11, 23, 18, tzinfo=UTC)
        await record(database, instance_id, sizes({"shop": 200}, [grown, orders]), later)
        stored = await rows(database, "database_table_size_stats")
        assert [
            (row["collected_on"].day, row["size_bytes"], row["data_bytes"], row["index_bytes"], row["row_estimate"])
            for row in stored
        ] == [(22, 100, 70, 30, 1000), (23, 150, 100, 50, 1500)]
        assert stored[1]["collected_at"] == later

    async def test_ten_thousand_at_once(self, database: Database, instance_id: int) -> None:
        found = [TableSize("shop", "public", f"table {number}", number) for number in range(10_000)]
        await record(database, instance_id, sizes({"shop": 1}, found), "2026-11-23")
        assert len(await rows(database, "database_table_size_stats")) == 10_000


class TestStatements:
    async def test_are_few_whatever_the_number_of_databases(self, database: Database, instance_id: int) -> None:
        tables = [TableSize("d-1", "", f"t-{number}", number) for number in range(100)]
        measured = {f"d-{number}": number for number in range(1000)}
        expected = 7 if database.is_sqlite else 4
        for day in ("2026-11-22", "2026-11-23"):
            with counted_statements(database) as statements:
                await record(database, instance_id, sizes(measured, tables), day)
            assert len([each for each in statements if each != "BEGIN IMMEDIATE"]) == expected
        with counted_statements(database) as statements:
            await record(database, instance_id, sizes(measured), "2026-11-23")
        # The lock, what the day has, and the total; nothing is summed up again.
        assert len([each for each in statements if each != "BEGIN IMMEDIATE"]) == 3


class TestRetention:
    """What is too old to be kept whole is not summed up from its rest."""

    KEPT = 40

    @pytest.fixture
    def today(self, monkeypatch: pytest.MonkeyPatch) -> date:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> "Clock":
                return cls(2026, 11, 23, 12, tzinfo=tz)

        monkeypatch.setattr(recording, "datetime", Clock)
        return date(2026, 11, 23)

    def test_is_the_settings(self) -> None:
        assert Settings.model_fields["statistics_retention_days"].default == USUAL_RETENTION_DAYS == 400

    async def test_a_period_that_lost_days_is_left_as_it_was(
        self, database: Database, instance_id: int, today: date
    ) -> None:
        await record_days(database, instance_id, {"2026-10-05": 100, "2026-10-15": 200, "2026-11-20": 300})
        before = [await rows(database, table) for table in AGGREGATIONS]
        kept_from = today - timedelta(days=self.KEPT)
        assert kept_from == date(2026, 10, 14)
        # Retention has removed the measurements, and not come to the aggregations yet.
        async with database.writers.begin() as session:
            for name in ("instance_size_stats", "database_size_stats"):
                table = Base.metadata.tables[name]
                await session.execute(delete(table).where(table.c.collected_on < kept_from))
        await record(database, instance_id, {"shop": 700}, "2026-10-20", self.KEPT)
        after = [await rows(database, table) for table in AGGREGATIONS]
        for was, now in zip(before, after, strict=True):
            eaten = [row for row in was if row["period_start"] < kept_from]
            assert [row for row in now if row["period_start"] < kept_from] == eaten
            # October and its quarter, and the day and the week of the fifth.
            assert len(eaten) == 5
        assert await summary(database, "month", "2026-10-01") == (150, 200, 100, 100, 100.0, "growing", 2)
        assert await summary(database, "day", "2026-10-20") == (700, 700, 700, None, None, "stable", 1)

    async def test_a_period_that_was_removed_does_not_come_back(
        self, database: Database, instance_id: int, today: date
    ) -> None:
        await record_days(database, instance_id, {"2026-10-05": 100, "2026-10-15": 200, "2026-11-20": 300})
        await StatisticsRetention(database, self.KEPT).remove(today)
        await record(database, instance_id, {"shop": 700}, "2026-10-20", self.KEPT)
        assert await summary(database, "month", "2026-10-01") is None
        assert await summary(database, "quarter", "2026-10-01") is None
        assert await summary(database, "week", "2026-10-19") == (700, 700, 700, None, None, "stable", 1)

    async def test_a_period_that_begins_with_the_first_day_kept_is_whole(
        self, database: Database, instance_id: int, today: date
    ) -> None:
        kept = (today - date(2026, 10, 1)).days
        await record(database, instance_id, {"shop": 1}, "2026-10-20", kept)
        assert await summary(database, "quarter", "2026-10-01") is not None
        await record(database, instance_id, {"shop": 2}, "2026-10-21", kept - 1)
        assert await summary(database, "quarter", "2026-10-01") == (1, 1, 1, None, None, "stable", 1)

    @pytest.mark.usefixtures("today")
    @pytest.mark.parametrize("kept", [0, 10**6, 10**12])
    async def test_that_keeps_everything_sums_up_everything(
        self, database: Database, instance_id: int, kept: int
    ) -> None:
        await record(database, instance_id, {"shop": 1}, "1999-12-31", kept)
        for period, start in (("day", "1999-12-31"), ("week", "1999-12-27"), ("quarter", "1999-10-01")):
            assert await summary(database, period, start) is not None

    @pytest.mark.usefixtures("today")
    async def test_by_default_is_the_usual_one(self, database: Database, instance_id: int) -> None:
        moment = datetime(2025, 10, 20, 12, tzinfo=UTC)
        async with database.writers.begin() as session:
            await SizeRecorder(session).record(instance_id, sizes({"shop": 1}), moment)
        assert await summary(database, "day", "2025-10-20") is not None
        # It begins 418 days before.
        assert await summary(database, "quarter", "2025-10-01") is None
