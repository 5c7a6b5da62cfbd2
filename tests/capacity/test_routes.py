"""Sizes over time as the API answers them: of an instance, and its largest tables."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import insert

from app.access.permissions import Permission
from app.capacity.records import TableSize
from app.database import Database
from app.models import Base
from tests.capacity.measuring import days, record, record_days, sizes
from tests.factories import Registry
from tests.users.acting import client_with


@pytest.fixture
async def instance_id(registry: Registry) -> int:
    return await registry.instance(name="pg-01")


async def read(client: httpx.AsyncClient, instance_id: int, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/instances/{instance_id}/capacity", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def starts(chart: Mapping[str, Any]) -> list[str]:
    return [point["start"] for point in chart["items"]]


class TestChart:
    async def test_is_ready_to_plot(self, client: httpx.AsyncClient, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"shop": 100, "blog": 20}, "2026-11-01")
        await record(database, instance_id, {"shop": 110, "blog": 22}, "2026-11-30")
        query = {"from": "2026-11-10", "to": "2026-11-20", "period": "month"}
        assert await read(client, instance_id, **query) == {
            "period": "month",
            "from": "2026-11-01",
            "to": "2026-11-30",
            "unit": "bytes",
            "items": [
                {
                    "start": "2026-11-01",
                    "end": "2026-11-30",
                    "average_bytes": 126,
                    "maximum_bytes": 132,
                    "minimum_bytes": 120,
                    "growth_bytes": 12,
                    "growth_percent": 10.0,
                    "trend": "growing",
                    "samples": 2,
                }
            ],
            "next_cursor": None,
            "latest_bytes": 132,
            "latest_on": "2026-11-30",
            "growth_bytes": 12,
            "growth_percent": 10.0,
            "trend": "growing",
            "databases": [
                {"name": "shop", "latest_bytes": 110, "growth_bytes": 10, "growth_percent": 10.0, "trend": "growing"},
                {"name": "blog", "latest_bytes": 22, "growth_bytes": 2, "growth_percent": 10.0, "trend": "growing"},
            ],
        }

    async def test_leaves_out_what_was_not_measured(
        self, client: httpx.AsyncClient, database: Database, instance_id: int
    ) -> None:
        await record_days(database, instance_id, {"2028-02-28": 1, "2028-02-29": 2, "2028-03-02": 3})
        chart = await read(client, instance_id, **{"from": "2028-02-29", "to": "2028-03-03"})
        assert starts(chart) == ["2028-02-29", "2028-03-02"]
        assert (chart["growth_bytes"], chart["latest_bytes"], chart["latest_on"]) == (1, 3, "2028-03-02")

    async def test_of_nothing_is_empty(self, client: httpx.AsyncClient, instance_id: int) -> None:
        chart = await read(client, instance_id)
        assert (chart["items"], chart["databases"], chart["next_cursor"]) == ([], [], None)
        names = ("latest_bytes", "latest_on", "growth_bytes", "growth_percent", "trend")
        assert [chart[name] for name in names] == [None] * 5

    async def test_of_one_sample_has_no_growth(
        self, client: httpx.AsyncClient, database: Database, instance_id: int
    ) -> None:
        await record_days(database, instance_id, {"2026-11-23": 5})
        chart = await read(client, instance_id, **{"from": "2026-11-23", "to": "2026-11-23"})
        assert (chart["growth_bytes"], chart["growth_percent"], chart["trend"]) == (None, None, "stable")
        assert chart["latest_bytes"] == 5

    async def test_of_one_database(self, client: httpx.AsyncClient, database: Database, instance_id: int) -> None:
        await record(database, instance_id, {"a&b <c>": 100, "blog": 20}, "2026-11-22")
        await record(database, instance_id, {"blog": 22}, "2026-11-23")
        query = {"from": "2026-11-16", "to": "2026-11-22", "period": "week"}
        chart = await read(client, instance_id, database="a&b <c>", **query)
        assert [point["maximum_bytes"] for point in chart["items"]] == [100]
        assert [each["name"] for each in chart["databases"]] == ["a&b <c>"]
        # It is gone, and its sizes stay.
        assert (chart["latest_bytes"], chart["latest_on"]) == (100, "2026-11-22")
        assert (await read(client, instance_id, database="none", **query))["items"] == []

    async def test_lists_the_ten_largest_databases_of_the_last_day(
        self, client: httpx.AsyncClient, database: Database, instance_id: int
    ) -> None:
        await record(database, instance_id, {"gone": 10**9, "d-03": 1}, "2026-11-21")
        await record(database, instance_id, {f"d-{number:02}": 10 * number for number in range(15)}, "2026-11-22")
        chart = await read(client, instance_id, **{"from": "2026-11-21", "to": "2026-11-23"})
        assert [each["name"] for each in chart["databases"]] == [f"d-{number:02}" for number in range(14, 4, -1)]

    async def test_of_huge_sizes(self, client: httpx.AsyncClient, database: Database, instance_id: int) -> None:
        await record_days(database, instance_id, {"2026-11-22": 10**15, "2026-11-23": 2 * 10**15})
        chart = await read(client, instance_id, period="week", **{"from": "2026-11-22", "to": "2026-11-23"})
        assert [point["average_bytes"] for point in chart["items"]] == [10**15, 2 * 10**15]
        assert (chart["growth_bytes"], chart["growth_percent"]) == (10**15, 100.0)

    async def test_of_a_deleted_instance_can_be_read(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        instance_id = await registry.instance(deleted_at=datetime.now(UTC))
        await record_days(database, instance_id, {"2026-11-23": 5})
        assert starts(await read(client, instance_id, **{"from": "2026-11-23", "to": "2026-11-23"})) == ["2026-11-23"]


class TestRange:
    @pytest.mark.parametrize(
        ("period", "first_of", "periods"),
        [
            ("day", lambda today: today - timedelta(days=29), 30),
            ("week", lambda today: today - timedelta(days=today.weekday(), weeks=25), 26),
            ("month", lambda today: date(today.year - 1 + today.month // 12, today.month % 12 + 1, 1), 12),
        ],
    )
    async def test_is_usual_unless_told(
        self, client: httpx.AsyncClient, database: Database, instance_id: int, period: str, first_of: Any, periods: int
    ) -> None:
        today = datetime.now(UTC).date()
        await record_days(database, instance_id, {today.isoformat(): 5})
        chart = await read(client, instance_id, period=period)
        assert chart["from"] == first_of(today).isoformat()
        assert len(chart["items"]) == 1
        assert chart["to"] == chart["items"][0]["end"]

    async def test_ends_today_or_where_it_is_told(self, client: httpx.AsyncClient, instance_id: int) -> None:
        chart = await read(client, instance_id, to="2028-03-01")
        assert (chart["from"], chart["to"]) == ("2028-02-01", "2028-03-01")
        chart = await read(client, instance_id, period="quarter", to="2028-03-01")
        assert (chart["from"], chart["to"]) == ("2026-04-01", "2028-03-31")

    @pytest.mark.parametrize(
        ("moment", "day"),
        [
            ("2026-12-31", "2026-12-31"),
            ("2026-12-31T23:59:59Z", "2026-12-31"),
            ("2027-01-01T00:00:00+01:00", "2026-12-31"),
            ("2026-12-31T20:00:00-05:00", "2027-01-01"),
            ("2026-12-31T20:00:00", "2026-12-31"),
        ],
    )
    async def test_takes_moments_as_their_day_in_utc(
        self, client: httpx.AsyncClient, instance_id: int, moment: str, day: str
    ) -> None:
        chart = await read(client, instance_id, **{"from": moment, "to": moment})
        assert (chart["from"], chart["to"]) == (day, day)

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ("from=2026-11-23&to=2026-11-22", "/query/from"),
            ("from=2010-01-01&to=2026-11-22", "/query/from"),
            ("from=9998-01-01", "/query/from"),
            ("from=x", "/query/from"),
            ("from=2027-02-29", "/query/from"),
            ("from=", "/query/from"),
            ("from=%00", "/query/from"),
            ("to=1969-12-31", "/query/to"),
            ("to=9999-01-01", "/query/to"),
            ("to=0001-01-01T00:00:00%2B14:00", "/query/to"),
            ("to=1700000000", "/query/to"),
            ("period=year", "/query/period"),
            ("period=", "/query/period"),
            ("limit=0", "/query/limit"),
            ("limit=201", "/query/limit"),
            ("database=a%00", "/query/database"),
            ("database=" + "a" * 256, "/query/database"),
        ],
    )
    async def test_that_makes_no_sense_is_refused(
        self, client: httpx.AsyncClient, instance_id: int, query: str, pointer: str
    ) -> None:
        for path in ("capacity", "capacity.svg"):
            if path == "capacity.svg" and "limit" in query:
                continue
            answer = await client.get(f"/api/v1/instances/{instance_id}/{path}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (422, 25000), answer.text
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_of_five_thousand_points_is_the_longest(
        self, client: httpx.AsyncClient, database: Database, instance_id: int
    ) -> None:
        point = {"instance_id": instance_id, "period": "day", "average_bytes": 1, "maximum_bytes": 1}
        point |= {"minimum_bytes": 1, "trend": "stable", "sample_count": 1}
        async with database.engine.begin() as connection:
            await connection.execute(
                insert(Base.metadata.tables["instance_size_aggregations"]),
                [point | {"period_start": date.fromisoformat(day)} for day in days("2010-01-01", 5000)],
            )
        chart = await read(client, instance_id, **{"from": "2010-01-01", "to": "2023-09-09"})
        assert len(chart["items"]) == 5000
        answer = await client.get(f"/api/v1/instances/{instance_id}/capacity?from=2010-01-01&to=2023-09-10")
        assert answer.status_code == 422
        assert "5001 points; at most 5000" in answer.json()["detail"]


class TestPages:
    async def test_hold_every_point_once(self, client: httpx.AsyncClient, database: Database, instance_id: int) -> None:
        everything = [day for day in days("2026-11-01", 9) if day != "2026-11-04"]
        await record_days(database, instance_id, dict.fromkeys(everything, 5))
        query: dict[str, Any] = {"from": "2026-11-01", "to": "2026-11-30", "limit": 3}
        found, cursor = [], {}
        while True:
            chart = await read(client, instance_id, **query, **cursor)
            found.append(starts(chart))
            assert "total" not in chart
            # The summary is of the whole range, on every page.
            assert chart["latest_on"] == "2026-11-09"
            if chart["next_cursor"] is None:
                break
            cursor = {"cursor": chart["next_cursor"]}
        assert [len(each) for each in found] == [3, 3, 2]
        assert [each for page in found for each in page] == everything

    async def test_count_when_asked(self, client: httpx.AsyncClient, database: Database, instance_id: int) -> None:
        await record_days(database, instance_id, dict.fromkeys(days("2026-11-01", 5), 5))
        chart = await read(client, instance_id, limit=2, include_total=True, to="2026-11-30")
        assert (chart["total"], len(chart["items"])) == (5, 2)

    async def test_refuse_a_cursor_that_is_not_ours(self, client: httpx.AsyncClient, instance_id: int) -> None:
        for path in ("capacity", "capacity/tables"):
            for cursor in ("x", "\x00", "WyJ4IiwxXQ", "e30", "W10", "bnVsbA"):
                answer = await client.get(f"/api/v1/instances/{instance_id}/{path}", params={"cursor": cursor})
                assert (answer.status_code, answer.json()["code"]) == (400, 25000), (path, cursor)


class TestTables:
    TABLES = tuple(TableSize("shop", "public", name, size) for name, size in (("a", 5), ("b", 9), ("c", 5), ("d", 7)))

    async def tables(self, client: httpx.AsyncClient, instance_id: int, **query: Any) -> dict[str, Any]:
        answer = await client.get(f"/api/v1/instances/{instance_id}/capacity/tables", params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def test_are_the_largest_of_the_last_measurement(
        self, client: httpx.AsyncClient, database: Database, instance_id: int
    ) -> None:
        await record(database, instance_id, sizes({"shop": 30}, [TableSize("shop", "", "old", 99)]), "2026-11-22")
        await record(database, instance_id, sizes({"shop": 30}, [TableSize("shop", "", "gone", 99)]), "2026-11-23")
        later = datetime(2026, 11, 23, 18, tzinfo=UTC)
        orders = TableSize("shop", "public", "orders", 9, 6, 3, 100)
        await record(database, instance_id, sizes({"shop": 30}, [orders]), later)
        assert await self.tables(client, instance_id) == {
            "items": [
                {
                    "database_name": "shop",
                    "schema_name": "public",
                    "table_name": "orders",
                    "size_bytes": 9,
                    "data_bytes": 6,
                    "index_bytes": 3,
                    "row_estimate": 100,
                }
            ],
            "next_cursor": None,
            "collected_at": "2026-11-23T18:00:00Z",
        }
        earlier = await self.tables(client, instance_id, date="2026-11-22")
        assert [item["table_name"] for item in earlier["items"]] == ["old"]
        assert (await self.tables(client, instance_id, date="2026-11-21"))["items"] == []

    async def test_pages_go_on_in_the_measurement_they_began_in(
        self, client: httpx.AsyncClient, database: Database, instance_id: int
    ) -> None:
        await record(database, instance_id, sizes({"shop": 30}, self.TABLES), "2026-11-22")
        page = await self.tables(client, instance_id, limit=2, include_total=True)
        names = [item["table_name"] for item in page["items"]]
        assert page["total"] == 4
        await record(database, instance_id, sizes({"shop": 30}, self.TABLES[:1]), "2026-11-23")
        page = await self.tables(client, instance_id, limit=2, cursor=page["next_cursor"])
        assert names + [item["table_name"] for item in page["items"]] == ["b", "d", "a", "c"]
        assert page["next_cursor"] is None

    async def test_of_one_database(self, client: httpx.AsyncClient, database: Database, instance_id: int) -> None:
        found = [*self.TABLES, TableSize("blog", "", "posts", 1)]
        await record(database, instance_id, sizes({"shop": 30, "blog": 1}, found), "2026-11-22")
        page = await self.tables(client, instance_id, database="blog")
        assert [item["table_name"] for item in page["items"]] == ["posts"]

    async def test_of_nothing(self, client: httpx.AsyncClient, instance_id: int) -> None:
        expected = {"items": [], "next_cursor": None, "collected_at": None}
        assert await self.tables(client, instance_id) == expected
        assert await self.tables(client, instance_id, include_total=True) == expected | {"total": 0}


class TestAccess:
    PATHS = ("capacity", "capacity.svg", "capacity/tables")

    async def test_of_an_instance_that_does_not_exist(self, client: httpx.AsyncClient) -> None:
        for path in self.PATHS:
            answer = await client.get(f"/api/v1/instances/999/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, 25013)

    async def test_what_is_in_another_space_does_not_exist(
        self, app: FastAPI, database: Database, registry: Registry
    ) -> None:
        own, other = await registry.space(), await registry.space()
        mine, theirs = await registry.instance(space_id=own), await registry.instance(space_id=other)
        for instance_id in (mine, theirs):
            await record(database, instance_id, sizes({"shop": 5}, TestTables.TABLES), "2026-11-23")
        async with await client_with(app, registry, Permission.INSTANCE_READ, space_id=own) as client:
            assert len((await read(client, mine, to="2026-11-23"))["items"]) == 1
            for path in self.PATHS:
                assert (await client.get(f"/api/v1/instances/{mine}/{path}")).status_code == 200
                answer = await client.get(f"/api/v1/instances/{theirs}/{path}")
                assert (answer.status_code, answer.json()["code"]) == (404, 25013)

    async def test_needs_to_read_instances(
        self, app: FastAPI, stranger: httpx.AsyncClient, registry: Registry, instance_id: int
    ) -> None:
        async with await client_with(app, registry, Permission.TAG_READ) as client:
            for path in self.PATHS:
                url = f"/api/v1/instances/{instance_id}/{path}"
                assert (await stranger.get(url)).status_code == 401
                assert (await client.get(url)).status_code == 403
