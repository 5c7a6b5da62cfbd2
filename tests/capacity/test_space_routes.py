"""Sizes of a space: the sum over its instances, in which a missed sync is no dip."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.access.permissions import Permission
from app.database import Database
from tests.capacity.measuring import days, record_days
from tests.factories import Registry
from tests.users.acting import client_with


@pytest.fixture
async def space_id(registry: Registry) -> int:
    return await registry.space("shops")


async def measured(
    registry: Registry, database: Database, space_id: int, size_by_day: Mapping[str, int], **values: Any
) -> int:
    instance_id = await registry.instance(space_id=space_id, **values)
    await record_days(database, instance_id, size_by_day)
    return instance_id


async def read(client: httpx.AsyncClient, space_id: int, first: str, last: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/spaces/{space_id}/capacity", params={"from": first, "to": last, **query})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sums(chart: Mapping[str, Any]) -> dict[str, int]:
    return {point["start"]: point["average_bytes"] for point in chart["items"]}


class TestSum:
    async def test_is_of_all_instances(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        await measured(registry, database, space_id, {"2026-11-21": 100, "2026-11-22": 110}, name="a")
        await measured(registry, database, space_id, {"2026-11-21": 1000, "2026-11-22": 1000}, name="b")
        await measured(registry, database, await registry.default_space(), {"2026-11-21": 5}, name="elsewhere")
        chart = await read(client, space_id, "2026-11-21", "2026-11-22")
        first, second = chart.pop("items")
        assert (first["start"], first["average_bytes"], first["samples"]) == ("2026-11-21", 1100, 1)
        assert (second["start"], second["average_bytes"], second["growth_bytes"]) == ("2026-11-22", 1110, None)
        stable = {"growth_percent": 0.0, "trend": "stable"}
        assert [{key: each[key] for key in each if key != "id"} for each in chart.pop("instances")] == [
            {"name": "a", "latest_bytes": 110, "growth_bytes": 10, "growth_percent": 10.0, "trend": "growing"},
            {"name": "b", "latest_bytes": 1000, "growth_bytes": 0, **stable},
        ]
        assert chart == {
            "period": "day",
            "from": "2026-11-21",
            "to": "2026-11-22",
            "unit": "bytes",
            "next_cursor": None,
            "latest_bytes": 1110,
            "latest_on": "2026-11-22",
            "growth_bytes": 10,
            "growth_percent": 0.91,
            "trend": "stable",
        }

    async def test_a_missed_sync_is_no_dip(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        await measured(registry, database, space_id, dict.fromkeys(days("2026-11-20", 4), 100))
        await measured(registry, database, space_id, {"2026-11-20": 1000, "2026-11-22": 1500})
        chart = await read(client, space_id, "2026-11-20", "2026-11-23")
        assert list(sums(chart).values()) == [1100, 1100, 1600, 1600]

    async def test_begins_with_what_was_known_before(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        await measured(registry, database, space_id, dict.fromkeys(days("2026-11-20", 4), 100))
        await measured(registry, database, space_id, {"2026-06-30": 900, "2026-07-01": 1000, "2026-11-23": 1500})
        chart = await read(client, space_id, "2026-11-21", "2026-11-23")
        assert list(sums(chart).values()) == [1100, 1100, 1600]
        assert (chart["growth_bytes"], chart["growth_percent"]) == (500, 45.45)

    async def test_a_new_instance_makes_it_grow(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        await measured(registry, database, space_id, dict.fromkeys(days("2026-11-20", 3), 100), name="a")
        await measured(registry, database, space_id, {"2026-11-22": 1000}, name="b")
        chart = await read(client, space_id, "2026-11-20", "2026-11-22")
        assert list(sums(chart).values()) == [100, 100, 1100]
        # Measured once, it has not grown itself.
        assert [each["name"] for each in chart["instances"]] == ["a"]

    async def test_a_deleted_instance_counts_up_to_the_day_before(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        await measured(registry, database, space_id, dict.fromkeys(days("2026-11-20", 5), 100), name="stays")
        gone = {"name": "gone", "deleted_at": datetime(2026, 11, 22, 23, 59, tzinfo=UTC)}
        await measured(registry, database, space_id, {"2026-11-20": 1000, "2026-11-22": 1200}, **gone)
        before = {"name": "long gone", "deleted_at": datetime(2026, 11, 1, tzinfo=UTC)}
        await measured(registry, database, space_id, {"2026-10-31": 7000}, **before)
        chart = await read(client, space_id, "2026-11-20", "2026-11-24")
        assert list(sums(chart).values()) == [1100, 1100, 100, 100, 100]
        assert [each["name"] for each in chart["instances"]] == ["stays"]
        # From the day of the deletion on, as if it had never been.
        assert list(sums(await read(client, space_id, "2026-11-23", "2026-11-24")).values()) == [100, 100]

    async def test_a_day_on_which_nothing_was_measured_is_a_gap(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        await measured(registry, database, space_id, {"2026-11-20": 100, "2026-11-23": 200})
        gone = datetime(2026, 11, 21, 12, tzinfo=UTC)
        await measured(registry, database, space_id, {"2026-11-20": 1000}, deleted_at=gone)
        assert sums(await read(client, space_id, "2026-11-20", "2026-11-24")) == {
            "2026-11-20": 1100,
            "2026-11-23": 200,
        }

    async def test_of_nothing_is_empty(self, client: httpx.AsyncClient, space_id: int) -> None:
        chart = await read(client, space_id, "2026-11-20", "2026-11-24", include_total=True)
        assert (chart["items"], chart["instances"], chart["latest_bytes"], chart["total"]) == ([], [], None, 0)

    async def test_of_huge_sizes(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        for _ in range(5):
            await measured(registry, database, space_id, {"2026-11-22": 10**15, "2026-11-23": 10**15 + 1})
        chart = await read(client, space_id, "2026-11-22", "2026-11-23")
        assert list(sums(chart).values()) == [5 * 10**15, 5 * 10**15 + 5]

    async def test_lists_the_ten_instances_that_grew_most(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        for number in range(12):
            size_by_day = {"2026-11-22": 100, "2026-11-23": 95 + number}
            await measured(registry, database, space_id, size_by_day, name=f"i-{number:02}")
        chart = await read(client, space_id, "2026-11-22", "2026-11-23")
        assert [(each["name"], each["growth_bytes"]) for each in chart["instances"]] == [
            (f"i-{number:02}", number - 5) for number in range(11, 1, -1)
        ]


class TestPeriods:
    DAYS: Mapping[str, int] = {
        "2026-12-27": 100, "2026-12-28": 200, "2026-12-31": 300, "2027-01-01": 400, "2027-01-03": 600,
        "2027-01-04": 700, "2027-03-31": 800, "2027-04-01": 900, "2028-02-29": 1000, "2028-03-01": 1100,
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("period", "expected"),
        [
            (
                "week",
                {"2026-12-21": 100, "2026-12-28": 375, "2027-01-04": 700, "2027-03-29": 850, "2028-02-28": 1050},
            ),
            (
                "month",
                {
                    "2026-12-01": 200, "2027-01-01": 567, "2027-03-01": 800, "2027-04-01": 900, "2028-02-01": 1000,
                    "2028-03-01": 1100,
                },
            ),
            ("quarter", {"2026-10-01": 200, "2027-01-01": 625, "2027-04-01": 900, "2028-01-01": 1050}),
        ],
    )  # fmt: skip
    async def test_are_those_of_an_instance(
        self,
        client: httpx.AsyncClient,
        database: Database,
        registry: Registry,
        space_id: int,
        period: str,
        expected: dict[str, int],
    ) -> None:
        instance_id = await measured(registry, database, space_id, self.DAYS)
        query = {"from": "2026-12-27", "to": "2028-03-01", "period": period}
        chart = await read(client, space_id, "2026-12-27", "2028-03-01", period=period)
        assert sums(chart) == expected
        own = (await client.get(f"/api/v1/instances/{instance_id}/capacity", params=query)).json()
        shares, databases = chart.pop("instances"), own.pop("databases")
        assert chart == own
        assert [each["growth_bytes"] for each in shares] == [each["growth_bytes"] for each in databases] == [1000]


class TestPages:
    async def test_hold_every_point_once(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, space_id: int
    ) -> None:
        await measured(registry, database, space_id, dict.fromkeys(days("2026-11-01", 5), 7))
        first = await read(client, space_id, "2026-11-01", "2026-11-30", limit=3, include_total=True)
        second = await read(client, space_id, "2026-11-01", "2026-11-30", limit=3, cursor=first["next_cursor"])
        assert [*sums(first), *sums(second)] == days("2026-11-01", 5)
        assert (first["total"], second["next_cursor"]) == (5, None)


class TestAccess:
    PATHS = ("capacity", "capacity.svg")

    async def test_what_cannot_be_reached_does_not_exist(self, app: FastAPI, registry: Registry, space_id: int) -> None:
        own = await registry.space()
        async with await client_with(app, registry, Permission.INSTANCE_READ, space_id=own) as client:
            for path in self.PATHS:
                assert (await client.get(f"/api/v1/spaces/{own}/{path}")).status_code == 200
                for other in (space_id, 999):
                    answer = await client.get(f"/api/v1/spaces/{other}/{path}")
                    assert (answer.status_code, answer.json()["code"]) == (404, 25015)

    async def test_needs_to_read_instances(
        self, app: FastAPI, stranger: httpx.AsyncClient, registry: Registry, space_id: int
    ) -> None:
        async with await client_with(app, registry, Permission.SPACE_READ, space_id=space_id) as client:
            for path in self.PATHS:
                url = f"/api/v1/spaces/{space_id}/{path}"
                assert (await stranger.get(url)).status_code == 401
                assert (await client.get(url)).status_code == 403

    @pytest.mark.parametrize("query", ["from=2026-11-23&to=2026-11-22", "period=year", "from=2010-01-01&to=2026-01-01"])
    async def test_what_makes_no_sense_is_refused(self, client: httpx.AsyncClient, space_id: int, query: str) -> None:
        for path in self.PATHS:
            answer = await client.get(f"/api/v1/spaces/{space_id}/{path}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (422, 25000)
