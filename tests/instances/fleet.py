"""Many instances with rows below them, made in one transaction, and what a database holds, read by its catalogue."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import count
from typing import Any

import httpx
from sqlalchemy import Table, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import Database
from app.instances.cascade import plan
from app.models import Base
from tests.catalogue import listed_tables
from tests.factories import SINGLE_ROWS

BELOW = tuple(table.name for table in plan.tables())
ONE_AT_MOST = dict.fromkeys(SINGLE_ROWS, 1)
# Every table below an instance gets as many.
Rows = Mapping[str, int]
_tables = Base.metadata.tables
_numbers = count(1)
_DAY = date(2026, 1, 1)


async def fleet(database: Database, rows: Sequence[Rows | int]) -> list[int]:
    """An instance for each item, with that many rows in every table below (or in the tables named); their ids.

    The tables in `SINGLE_ROWS` take one row at most. Permissions need accounts and assignments need permissions: there
    are never more of them.
    """
    async with database.engine.begin() as connection:
        space_id = (await connection.execute(select(_tables["spaces"].c.id).order_by("id").limit(1))).scalar_one()
        ids = await _inserted(connection, "instances", [_instance(space_id) for _ in rows])
        each = [dict.fromkeys(BELOW, item) if isinstance(item, int) else item for item in rows]
        await _fill(connection, space_id, dict(zip(ids, each, strict=True)))
    return ids


def _instance(space_id: int) -> dict[str, Any]:
    name = f"server-{next(_numbers)}"
    key = f"mysql:{name}:3306"
    return {"space_id": space_id, "name": name, "db_type": "mysql", "host": name, "port": 3306, "endpoint_key": key}


async def _fill(connection: AsyncConnection, space_id: int, rows_by_id: Mapping[int, Rows]) -> None:
    def below(table: str) -> list[tuple[int, int]]:
        """(instance id, number of the row), for every row that the table is to have."""
        return [(key, number) for key, rows in rows_by_id.items() for number in range(rows.get(table, 0))]

    async def simple(table: str, **values: Any) -> None:
        """Rows in which `{}` stands for the row's number, and a date for the first day."""
        await _inserted(
            connection,
            table,
            [
                {"instance_id": key} | {name: _numbered(value, number) for name, value in values.items()}
                for key, number in below(table)
            ],
        )

    [class_id] = await _inserted(
        connection, "account_classifications", [{"space_id": space_id, "name": f"c-{next(_numbers)}", "rule": {}}]
    )
    accounts = below("instance_accounts")
    account_ids = await _inserted(
        connection, "instance_accounts", [{"instance_id": key, "username": f"u-{number}"} for key, number in accounts]
    )
    account_id = dict(zip(accounts, account_ids, strict=True))
    permissions = [row for row in below("account_permissions") if row in account_id]
    permission_ids = await _inserted(
        connection,
        "account_permissions",
        [{"instance_id": row[0], "account_id": account_id[row], "digest": "0"} for row in permissions],
    )
    permission_id = dict(zip(permissions, permission_ids, strict=True))
    await _inserted(
        connection,
        "account_classification_assignments",
        [
            {
                "instance_id": row[0],
                "permission_id": permission_id[row],
                "classification_id": class_id,
                "rule_version": 1,
            }
            for row in below("account_classification_assignments")
            if row in permission_id
        ],
    )
    most = max((number for _, number in below("instance_tags") + below("sync_instance_records")), default=-1) + 1
    tags = await _inserted(
        connection, "tags", [{"space_id": space_id, "name": f"t-{next(_numbers)}"} for _ in range(most)]
    )
    sessions = await _inserted(
        connection,
        "sync_sessions",
        [{"space_id": space_id, "kinds": [], "trigger": "manual", "state": "succeeded"} for _ in range(most)],
    )
    await simple("instance_tags", tag_id=tags)
    await simple("sync_instance_records", session_id=sessions, kind="accounts", state="succeeded")
    average = {"average_bytes": 1, "maximum_bytes": 1, "minimum_bytes": 1, "trend": "stable", "sample_count": 1}
    period = {"period": "day", "period_start": _DAY, **average}
    await simple("account_change_logs", username="u-{}", change_type="added", diff="+")
    await simple("instance_databases", name="d-{}")
    await simple(
        "database_table_size_stats", database_name="d", schema_name="", table_name="t", collected_on=_DAY, size_bytes=1
    )
    await simple("database_size_stats", database_name="d", collected_on=_DAY, size_bytes=1)
    await simple("database_size_aggregations", database_name="d", **period)
    await simple("instance_size_stats", collected_on=_DAY, total_bytes=1, database_count=1)
    await simple("instance_size_aggregations", **period)
    await simple("instance_config_snapshots", settings={}, digest="0")
    for table, values in SINGLE_ROWS.items():
        rows = [{"instance_id": key, **values} for key, number in below(table) if number == 0]
        await _inserted(connection, table, rows)
    await simple("sqlserver_cluster_instances", group_name="g-{}", role="primary")


def _numbered(value: Any, number: int) -> Any:
    match value:
        case str():
            return value.format(number)
        case list():
            return value[number]
        case date():
            return value + timedelta(days=number)
    return value


async def _inserted(connection: AsyncConnection, name: str, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Inserts the rows; their ids in the same order, where the table has any."""
    if not rows:
        return []
    table = _tables[name]
    if "id" not in table.c:
        await connection.execute(insert(table), rows)
        return []
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return list((await connection.execute(statement, rows)).scalars())


async def catalogue(database: Database) -> list[Table]:
    """The tables that the database itself lists."""
    async with database.read_engine.connect() as connection:
        return list((await listed_tables(connection)).values())


async def contents(database: Database, tables: Sequence[Table]) -> dict[str, list[dict[str, str]]]:
    """Every row of every table, each value as its text, in a fixed order."""
    async with database.read_engine.connect() as connection:
        found = {}
        for table in tables:
            rows = (await connection.execute(select(table))).mappings()
            found[table.name] = sorted(
                ({name: repr(value) for name, value in row.items()} for row in rows), key=lambda row: tuple(row.items())
            )
        return found


async def running_sync(database: Database, instance_id: int) -> None:
    """Makes it so that a sync of the instance is under way."""
    async with database.engine.begin() as connection:
        space_id = (await connection.execute(select(_tables["spaces"].c.id).limit(1))).scalar_one()
        session = {"space_id": space_id, "kinds": [], "trigger": "manual", "state": "running"}
        [session_id] = await _inserted(connection, "sync_sessions", [session])
        record = {"session_id": session_id, "instance_id": instance_id, "kind": "accounts", "state": "running"}
        await _inserted(connection, "sync_instance_records", [record])


async def execute(database: Database, *statements: str) -> None:
    """Raw SQL, all in one transaction."""
    async with database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def events(database: Database, action: str) -> list[dict[str, Any]]:
    """The audit entries of that action, in the order in which they were written."""
    table = _tables["audit_events"]
    async with database.read_engine.connect() as connection:
        rows = await connection.execute(select(table).where(table.c.action == action).order_by(table.c.id))
        return [dict(row) for row in rows.mappings()]


async def batch_delete(client: httpx.AsyncClient, ids: Sequence[int], **options: Any) -> dict[str, Any]:
    """The report of `POST /instances/batch-delete`, hard unless said otherwise."""
    body = {"instance_ids": list(ids), "mode": "hard"} | options
    answer = await client.post("/api/v1/instances/batch-delete", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def precheck(client: httpx.AsyncClient, ids: Sequence[int], mode: str = "hard") -> dict[str, Any]:
    body = {"instance_ids": list(ids), "mode": mode}
    answer = await client.post("/api/v1/instances/batch-delete/precheck", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def statuses(report: Mapping[str, Any]) -> dict[int, str]:
    return {item["instance_id"]: item["status"] for item in report["items"]}
