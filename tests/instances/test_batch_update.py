"""Batch create with `on_existing=update`."""

from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent
from tests.factories import Registry
from tests.instances.importing import Report, csv_of, import_csv, instances

ALL = (
    "name,db_type,host,port,database_name,description,environment,credential,tags,sync_policy,is_active,"
    "deletion_protection"
)
FULL = "a,pg,h.example,5433,orders,what it is,testing,ops,gold|oltp,daily,no,yes"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"batch_chunk_rows": 3})


@pytest.fixture
async def stored(client: httpx.AsyncClient, registry: Registry) -> dict[str, Any]:
    """An instance `a` with a value in every column."""
    await registry.credential("ops")
    await import_csv(client, csv_of(FULL, columns=ALL))
    return (await instances(client))["a"]


async def update(client: httpx.AsyncClient, text: str, **form: Any) -> Report:
    return await import_csv(client, text, on_existing="update", **form)


def without_times(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in ("updated_at", "revision")}


class TestValues:
    async def test_the_same_is_unchanged(self, client: httpx.AsyncClient, stored: dict[str, Any]) -> None:
        report = await update(client, csv_of(FULL, columns=ALL))
        assert report.item(2) == {"line": 2, "name": "a", "status": "unchanged", "instance_id": stored["id"]}
        assert (await instances(client))["a"] == stored

    async def test_missing_columns_keep_their_values(self, client: httpx.AsyncClient, stored: dict[str, Any]) -> None:
        report = await update(client, csv_of("a,pg,h.example"))
        assert report.counts == {"rows": 1, "unchanged": 1}
        report = await update(client, csv_of("a,pg,moved.example"))
        assert report.counts == {"rows": 1, "updated": 1}
        after = (await instances(client))["a"]
        assert without_times(after) == without_times(stored) | {"host": "moved.example"}
        assert after["revision"] == stored["revision"] + 1
        assert after["updated_at"] > stored["updated_at"]

    async def test_empty_cells_set_the_defaults(self, client: httpx.AsyncClient, stored: dict[str, Any]) -> None:
        report = await update(client, csv_of("a,pg,h.example,,,,,,,,,", columns=ALL))
        assert report.counts == {"rows": 1, "updated": 1}
        after = (await instances(client))["a"]
        assert without_times(after) == without_times(stored) | {
            "port": 5432,
            "database_name": None,
            "description": None,
            "environment": "production",
            "credential_id": None,
            "tags": [],
            "sync_policy": "off",
            "is_active": True,
            "deletion_protection": False,
        }

    async def test_one_column_changes_one_field(self, client: httpx.AsyncClient, stored: dict[str, Any]) -> None:
        expected = stored
        for column, cell, field, value in (
            ("port", "6000", "port", 6000),
            ("database_name", "db2", "database_name", "db2"),
            ("description", "new", "description", "new"),
            ("environment", "staging", "environment", "staging"),
            ("credential", "", "credential_id", None),
            ("tags", "gold;new", "tags", ["gold", "new"]),
            ("sync_policy", "weekly", "sync_policy", "weekly"),
            ("is_active", "yes", "is_active", True),
            ("deletion_protection", "0", "deletion_protection", False),
        ):
            text = csv_of(f"a,pg,h.example,{cell}", columns=f"name,db_type,host,{column}")
            assert (await update(client, text)).counts == {"rows": 1, "updated": 1}
            expected = expected | {field: value}
            assert without_times((await instances(client))["a"]) == without_times(expected)
            assert (await update(client, text)).counts == {"rows": 1, "unchanged": 1}

    async def test_a_dry_run_tells_updated_from_unchanged(
        self, client: httpx.AsyncClient, registry: Registry, stored: dict[str, Any]
    ) -> None:
        before = await registry.counts()
        for host, status in (("h.example", "unchanged"), ("other", "updated")):
            report = await update(client, csv_of(f"a,pg,{host}"), dry_run=True)
            assert report.item(2) == {"line": 2, "name": "a", "status": status, "instance_id": None}
        assert await registry.counts() == before
        assert (await instances(client))["a"] == stored

    async def test_created_updated_and_unchanged_in_one_file(
        self, client: httpx.AsyncClient, stored: dict[str, Any]
    ) -> None:
        await import_csv(client, csv_of("b,pg,b", "c,pg,c"))
        rows = ["n1,pg,n1", "b,pg,b2", "n2,pg,n2", "c,pg,c", "a,pg,h.example", "n3,pg,n3", "n4,pg,n4"]
        report = await update(client, csv_of(*rows))
        assert list(report.statuses().values()) == [
            "created", "updated", "created", "unchanged", "unchanged", "created", "created",
        ]  # fmt: skip
        found = await instances(client)
        assert {report.item(line)["name"]: report.id_of(line) for line in range(2, 9)} == {
            name: item["id"] for name, item in found.items()
        }
        assert found["b"]["host"] == "b2"


class TestEndpoints:
    async def test_without_the_port_column_the_stored_port_counts(
        self, client: httpx.AsyncClient, stored: dict[str, Any]
    ) -> None:
        report = await update(client, csv_of("a,pg,moved", "b,pg,moved", "c,pg,moved"))
        assert report.statuses() == {2: "updated", 3: "created", 4: "invalid"}
        assert report.errors(4) == [("host", "duplicate_in_file")]
        found = await instances(client)
        assert (found["a"]["port"], found["b"]["port"]) == (5433, 5432)
        report = await import_csv(
            client, csv_of("x,pg,moved,5433", "y,pg,moved,5432", columns="name,db_type,host,port")
        )
        assert [report.errors(line) for line in (2, 3)] == [[("host", "endpoint_exists")]] * 2

    async def test_two_updates_to_one_endpoint(self, client: httpx.AsyncClient) -> None:
        text = csv_of("a,pg,a,1", "b,pg,b,1", "c,pg,c,2", columns="name,db_type,host,port")
        await import_csv(client, text)
        report = await update(client, csv_of("a,pg,new", "b,pg,new", "c,pg,new"))
        assert report.statuses() == {2: "updated", 3: "invalid", 4: "updated"}
        assert report.errors(3) == [("host", "duplicate_in_file")]

    async def test_the_stored_service_of_oracle_counts(self, client: httpx.AsyncClient) -> None:
        columns = "name,db_type,host,database_name"
        await import_csv(client, csv_of("a,oracle,h,ONE", "b,oracle,h,TWO", columns=columns))
        report = await update(client, csv_of("a,oracle,h", "b,oracle,h"))
        assert report.counts == {"rows": 2, "unchanged": 2}
        report = await update(client, csv_of("a,oracle,h,TWO", columns=columns))
        assert report.errors(2) == [("host", "endpoint_exists")]

    async def test_another_type_moves_the_endpoint(self, client: httpx.AsyncClient) -> None:
        await import_csv(client, csv_of("a,mysql,h"))
        assert (await update(client, csv_of("a,mariadb,h"))).counts == {"rows": 1, "updated": 1}
        assert (await import_csv(client, csv_of("b,mysql,h"))).counts == {"rows": 1, "created": 1}
        assert (await import_csv(client, csv_of("c,mariadb,h"))).errors(2) == [("host", "endpoint_exists")]


class TestAudit:
    async def test_before_and_after_hold_what_changed(
        self, client: httpx.AsyncClient, database: Database, stored: dict[str, Any]
    ) -> None:
        text = csv_of("a,pg,h.example,gold|new,staging", columns="name,db_type,host,tags,environment")
        await update(client, text)
        async with database.readers() as session:
            [event] = await session.scalars(select(AuditEvent).where(AuditEvent.action == "instance:update"))
        assert (event.resource_id, event.resource_name) == (stored["id"], "a")
        assert event.changes == {
            "before": {"environment": "testing", "tags": ["gold", "oltp"]},
            "after": {"environment": "staging", "tags": ["gold", "new"]},
        }
