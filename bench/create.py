"""Batch create over HTTP against the floor: a bulk load of the same rows into the same tables, in one transaction.

The floor has everything prepared beforehand: no file is read, no rule checked, nothing looked up, nobody else let in.
"""

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import uvloop

from app.audit.context import CONTEXT_COLUMNS
from app.database.statements import sqlite_timestamp
from app.instances.batch_repository import VALUE_COLUMNS
from app.instances.csv_rows import judge_file
from app.instances.judged_rows import GoodRow, read_frame
from bench import signing_in
from bench.report import Case, Report, Target
from bench.rows import TAGS, csv_file
from bench.seed import POSTGRESQL, registry
from bench.servers import IMPORT_PATH, Databases, Server, sqlite_writer
from bench.signing_in import USER_ID

PREFIX = "import"
WARM_UP_ROWS = 200
TARGETS = {
    (POSTGRESQL, 100_000): 1.4,
    (POSTGRESQL, 10_000): 1.6,
    ("sqlite", 100_000): 2.0,
    ("sqlite", 10_000): 2.0,
}

_instance_columns = (
    "id", "space_id", *VALUE_COLUMNS, "revision", "created_at", "updated_at", "created_by", "updated_by",
)  # fmt: skip
_event_columns = (
    "occurred_at", "space_id", "action", "resource_type", "resource_id", "resource_name", "outcome", "batch_id",
    *CONTEXT_COLUMNS, "changes",
)  # fmt: skip
_item_columns = ("operation_id", "position", "status", "instance_id", "name", "detail")
# Both variants must have written the same: as many rows, with as much in them.
WRITTEN = f"""
SELECT
    (SELECT count(*) FROM instances WHERE name LIKE '{PREFIX}-%'),
    (SELECT sum(length(name) + length(host) + length(endpoint_key) + length(coalesce(description, '')))
        FROM instances WHERE name LIKE '{PREFIX}-%'),
    (SELECT sum(created_by + updated_by) FROM instances WHERE name LIKE '{PREFIX}-%'),
    (SELECT sum(tag_id) FROM instance_tags JOIN instances ON id = instance_id WHERE name LIKE '{PREFIX}-%'),
    (SELECT count(*) FROM audit_events WHERE resource_name LIKE '{PREFIX}-%'),
    (SELECT sum(length(CAST(changes AS text)) + length(action) + length(request_id) + length(actor_name) + length(path)
            + length(client_address) + length(method) + status + actor_id)
        FROM audit_events WHERE resource_name LIKE '{PREFIX}-%')
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of one import as the driver takes them: table, columns, values."""

    tables: Sequence[tuple[str, Sequence[str], list[tuple[Any, ...]]]]


def measure(databases: Databases, report: Report, *, sizes: Sequence[int], registries: Sequence[int]) -> None:
    for stored in registries:
        template = f"registry_{stored}"
        report.say(f"{databases.kind}: a registry of {stored:,} instances")
        databases.prepare(template, registry(databases.kind, stored))
        for size in sizes:
            _compare(databases, report, template, size, stored)


def _compare(databases: Databases, report: Report, template: str, size: int, stored: int) -> None:
    file = csv_file(size, prefix=PREFIX)
    prepared = prepared_rows(databases.kind, good_rows(file), first_id=stored + WARM_UP_ROWS + 1)
    floor_name = "COPY" if databases.kind == POSTGRESQL else "executemany"
    written: dict[str, Any] = {}

    def floor() -> float:
        seconds = load_rows(databases, template, prepared)
        written[floor_name] = databases.rows(WRITTEN)
        return seconds

    def service() -> float:
        seconds = _service(databases, template, file)
        written["service"] = databases.rows(WRITTEN)
        return seconds

    limit = TARGETS.get((databases.kind, size))
    case = Case(
        measurement="batch create",
        database=databases.kind,
        name=f"{size:,} rows into {stored:,}",
        baseline=floor_name,
        targets={} if limit is None else {"service": Target(limit)},
    )
    report.compare(case, {floor_name: floor, "service": service})
    if written["service"] != written[floor_name]:
        raise RuntimeError(f"the variants did not write the same: {written}")


def _service(databases: Databases, template: str, file: bytes) -> float:
    with Server(databases.copy(template)) as server:
        server.import_csv(csv_file(WARM_UP_ROWS, prefix="warm-up"))
        databases.checkpoint()
        return server.import_csv(file)


def load_rows(databases: Databases, template: str, prepared: Prepared) -> float:
    """Seconds that the floor takes."""
    url = databases.copy(template)
    databases.checkpoint()
    load = partial(_copied, url) if databases.kind == POSTGRESQL else partial(_inserted, url)
    return load(prepared)


def _copied(url: str, prepared: Prepared) -> float:
    async def copy() -> float:
        connection = await asyncpg.connect(url)
        try:
            started = time.perf_counter()
            async with connection.transaction():
                for table, columns, rows in prepared.tables:
                    await connection.copy_records_to_table(table, columns=columns, records=rows)
            return time.perf_counter() - started
        finally:
            await connection.close()

    return uvloop.run(copy())


def _inserted(url: str, prepared: Prepared) -> float:
    with closing(sqlite_writer(url)) as connection:
        started = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for table, columns, rows in prepared.tables:
            _insert_many(connection, table, columns, rows)
        connection.execute("COMMIT")
        return time.perf_counter() - started


def _insert_many(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def good_rows(file: bytes) -> list[GoodRow]:
    with tempfile.TemporaryDirectory() as directory:
        source, frames = Path(directory) / "fleet.csv", Path(directory) / "frames"
        source.write_bytes(file)
        judge_file(source, frames)
        return [
            row for line in frames.read_bytes().splitlines() for row in read_frame(line) if isinstance(row, GoodRow)
        ]


def prepared_rows(
    kind: str, rows: Sequence[GoodRow], *, first_id: int, operation_id: int | None = None, status: int = 200
) -> Prepared:
    """What is written for these rows; with an item each when an operation is named."""
    is_postgresql = kind == POSTGRESQL
    now, batch = datetime.now(UTC), uuid4()
    moment = now if is_postgresql else sqlite_timestamp(now)
    batch_id = batch if is_postgresql else batch.hex
    tag_ids = {name: number for number, name in enumerate(TAGS, 1)}
    context = signing_in.audit_context(IMPORT_PATH, batch.hex, status)
    instances, links, events, items = [], [], [], []
    for instance_id, row in enumerate(rows, first_id):
        values = (getattr(row, name) for name in VALUE_COLUMNS if name != "credential_id")
        instances.append((instance_id, 1, *values, None, 1, moment, moment, USER_ID, USER_ID))
        links += [(instance_id, tag_ids[name]) for name in row.tags]
        events.append((
            moment, 1, "instance:create", "instance", instance_id, row.name, "succeeded", batch_id, *context,
            orjson.dumps({"after": _after(row)}).decode(),
        ))  # fmt: skip
        if operation_id is not None:
            items.append((operation_id, row.line, "created", instance_id, row.name, None))
    return Prepared((
        ("instances", _instance_columns, instances),
        ("instance_tags", ("instance_id", "tag_id"), links),
        ("audit_events", _event_columns, events),
        ("operation_items", _item_columns, items),
    ))  # fmt: skip


def _after(row: GoodRow) -> dict[str, Any]:
    """What the service notes of a created instance."""
    names = ("db_type", "host", "port", "database_name", "environment", "credential", "tags")
    return {name: getattr(row, name) for name in names}
