"""Hard batch delete over HTTP against the same deletions inside the database.

On PostgreSQL the baseline is a procedure that deletes the same rows from the same tables, counts them, writes the same
audit entry and commits for each instance, as both databases do by default: durably. The service commits asynchronously
but for the last commit, which makes all before it durable; what the procedure takes when it does the same is shown
beside it, and says what that alone is worth. On SQLite it is a loop of the same statements, one transaction an instance.

Besides: one call of the service's function for each instance, and the alternative to it, one data-modifying CTE after a
statement that locks the instance, both over one plain connection. They tell what the choice between the two is worth.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvloop

from app.audit.context import CONTEXT_COLUMNS
from app.database.statements import sqlite_timestamp
from app.instances.cascade import plan
from app.instances.cascade_postgresql import FUNCTION_NAME
from bench import signing_in
from bench.report import Case, Comparison, Report, Target
from bench.seed import OPERATION_ID, POSTGRESQL, WARM_UP_OPERATION_ID, dependents, instances, parents
from bench.servers import DELETION_PATH, Databases, Server, sqlite_writer

DEPENDENT_ROWS = 20
WIDE_ROWS = 10_000
# Every variant deletes these first, its own way: connections are open then, and plans are made.
WARM_UP_INSTANCES = 8
REQUEST_ID = "0123456789abcdef0123456789abcdef"

_tables = [table.name for table in plan.tables()]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The instances to delete, and how many rows each has below it."""

    count: int
    statistics_rows: int | None = None

    @property
    def template(self) -> str:
        return f"fleet_{self.count}_{self.statistics_rows or DEPENDENT_ROWS}"

    @property
    def name(self) -> str:
        if self.statistics_rows is None:
            return f"{self.count:,} instances × {DEPENDENT_ROWS} rows"
        return f"{self.count:,} instances, {self.statistics_rows:,} rows in two tables"

    @property
    def ids(self) -> range:
        return range(1, self.count + 1)

    @property
    def warm_up_ids(self) -> range:
        return range(self.count + 1, self.count + WARM_UP_INSTANCES + 1)

    def statements(self, kind: str) -> Iterator[str]:
        total = self.count + WARM_UP_INSTANCES
        yield from parents(kind, DEPENDENT_ROWS)
        yield from instances(kind, total)
        yield from dependents(kind, total, DEPENDENT_ROWS, statistics_rows=self.statistics_rows)


def measure(databases: Databases, report: Report, fleets: Sequence[Fleet]) -> None:
    for fleet in fleets:
        report.say(f"{databases.kind}: {fleet.name}")
        databases.prepare(fleet.template, fleet.statements(databases.kind))
        compare = _compare_postgresql if databases.kind == POSTGRESQL else _compare_sqlite
        compare(databases, report, fleet)
        databases.drop(fleet.template)


def _compare_postgresql(databases: Databases, report: Report, fleet: Fleet) -> None:
    is_wide = fleet.statistics_rows is not None
    case = Case(
        measurement="batch delete",
        database=databases.kind,
        name=fleet.name,
        baseline="procedure",
        comparison=Comparison.RATE,
        targets={
            "service, 1 connection": Target(0.95 if is_wide else 0.75, at_least=True),
            "service, 4 connections": Target(0.95 if is_wide else 1.2, at_least=True),
        },
    )
    inside = {
        "procedure": Procedure(durable=True),
        "procedure, asynchronous commits": Procedure(durable=False),
        "function, 1 plain connection": _Function(),
        "lock + CTE, 1 plain connection": _Cte(),
    }
    variants = {name: checked(databases, fleet, on_connection(databases, fleet, way)) for name, way in inside.items()}
    for connections in (1, 4):
        name = f"service, {connections} connection{'s' if connections > 1 else ''}"
        variants[name] = checked(databases, fleet, service(databases, fleet, deletion_connections=str(connections)))
    report.compare(case, variants)


def _compare_sqlite(databases: Databases, report: Report, fleet: Fleet) -> None:
    case = Case(
        measurement="batch delete",
        database=databases.kind,
        name=fleet.name,
        baseline="loop of statements",
        comparison=Comparison.RATE,
        targets={"service": Target(0.9, at_least=True)},
    )
    ways = {
        "loop of statements": loop(databases, fleet, durable=True),
        "loop, asynchronous commits": loop(databases, fleet, durable=False),
        "service": service(databases, fleet),
    }
    report.compare(case, {name: checked(databases, fleet, way) for name, way in ways.items()})


def checked(
    databases: Databases, fleet: Fleet, way: Callable[[], float], *, with_items: bool = False
) -> Callable[[], float]:
    """The way, after which nothing of the instances may be left but their audit entries, and their items if any."""

    def run() -> float:
        seconds = way()
        below = " + ".join(f"(SELECT count(*) FROM {table})" for table in ("instances", *_tables))
        entries = "SELECT count(*) FROM audit_events WHERE action = 'instance:delete'"
        items = "SELECT count(*) FROM operation_items WHERE status = 'deleted'"
        found = databases.rows(f"SELECT {below}, ({entries}), ({items})")[0]
        all_of_them = fleet.count + WARM_UP_INSTANCES
        expected = (0, all_of_them, all_of_them if with_items else 0)
        if tuple(found) != expected:
            raise RuntimeError(f"rows left, audit entries and items are {found}, not {expected}")
        return seconds

    return run


def service(databases: Databases, fleet: Fleet, **settings: str) -> Callable[[], float]:
    def run() -> float:
        with Server(databases.copy(fleet.template), **settings) as server:
            server.delete(fleet.warm_up_ids)
            databases.checkpoint()
            return server.delete(fleet.ids)

    return run


class Way:
    """How a plain connection to PostgreSQL deletes instances."""

    durable = False

    async def prepare(self, connection: asyncpg.Connection) -> None:
        """What is needed once, before anything is measured."""

    async def delete(self, connection: asyncpg.Connection, ids: Sequence[int], batch_id: UUID) -> None:
        raise NotImplementedError


def on_connection(databases: Databases, fleet: Fleet, way: Way) -> Callable[[], float]:
    async def measured(url: str) -> float:
        connection = await asyncpg.connect(url)
        try:
            await way.prepare(connection)
            await _delete(connection, way, fleet.warm_up_ids)
            await connection.execute("CHECKPOINT")
            started = time.perf_counter()
            await _delete(connection, way, fleet.ids)
            return time.perf_counter() - started
        finally:
            await connection.close()

    return lambda: uvloop.run(measured(databases.copy(fleet.template)))


async def _delete(connection: asyncpg.Connection, way: Way, ids: Sequence[int]) -> None:
    batch_id = uuid4()
    await connection.execute(f"SET synchronous_commit = {'on' if way.durable else 'off'}")
    await way.delete(connection, ids, batch_id)
    await connection.execute("SET synchronous_commit = on")
    await connection.execute(
        "INSERT INTO audit_events (occurred_at, action, resource_type, outcome, batch_id, changes) "
        "VALUES (clock_timestamp(), 'instance:batch_delete', 'batch', 'succeeded', $1, '{\"mode\": \"hard\"}')",
        batch_id,
    )


class Procedure(Way):
    def __init__(self, *, durable: bool, with_items: bool = False) -> None:
        self.durable = durable
        self._with_items = with_items

    async def prepare(self, connection: asyncpg.Connection) -> None:
        await connection.execute(_procedure(with_items=self._with_items))

    async def delete(self, connection: asyncpg.Connection, ids: Sequence[int], batch_id: UUID) -> None:
        await connection.execute("CALL delete_instances($1, $2, $3)", list(ids), batch_id, _operation_of(ids))


class _Function(Way):
    async def delete(self, connection: asyncpg.Connection, ids: Sequence[int], batch_id: UUID) -> None:
        call = f"SELECT {FUNCTION_NAME}($1, 'hard', false, NULL, NULL, false, $2, $3)"
        context = json.dumps(_CONTEXT._asdict())
        for instance_id in ids:
            await connection.fetchval(call, instance_id, batch_id, context)


class _Cte(Way):
    async def delete(self, connection: asyncpg.Connection, ids: Sequence[int], batch_id: UUID) -> None:
        statement = _cte()
        for instance_id in ids:
            async with connection.transaction():
                await connection.fetchval("SELECT id FROM instances WHERE id = $1 FOR UPDATE", instance_id)
                await connection.fetchval(statement, instance_id, batch_id)


_CONTEXT = signing_in.audit_context(DELETION_PATH, REQUEST_ID)
_CONTEXT_LITERALS = ", ".join(
    "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value) for value in _CONTEXT
)
_AUDIT_COLUMNS = (
    f"{', '.join(CONTEXT_COLUMNS)}, "
    "occurred_at, space_id, action, resource_type, resource_id, resource_name, outcome, batch_id, changes"
)


def _operation_of(ids: Sequence[int]) -> int:
    """Positions begin at 1 in each."""
    return WARM_UP_OPERATION_ID if len(ids) == WARM_UP_INSTANCES else OPERATION_ID


def _procedure(*, with_items: bool) -> str:
    counters = {table: f"n_{number}" for number, table in enumerate(_tables)}
    deletions = "\n".join(
        f"DELETE FROM {table} WHERE instance_id = v_id; GET DIAGNOSTICS {counter} = ROW_COUNT;"
        for table, counter in counters.items()
    )
    item = "" if not with_items else """
                v_position := v_position + 1;
                INSERT INTO operation_items (operation_id, position, status, instance_id, name, detail) VALUES (
                    p_operation_id, v_position, 'deleted', v_id, v_name, jsonb_build_object('rows_deleted', v_rows)
                );
    """  # fmt: skip
    return f"""
        CREATE PROCEDURE delete_instances(p_ids bigint[], p_batch_id uuid, p_operation_id bigint)
        LANGUAGE plpgsql AS $$
        DECLARE
            v_position integer := 0;
            v_rows jsonb;
            v_id bigint;
            v_space_id bigint;
            v_name text;
            {" ".join(f"{counter} integer;" for counter in counters.values())}
        BEGIN
            FOREACH v_id IN ARRAY p_ids LOOP
                {deletions}
                DELETE FROM instances WHERE id = v_id RETURNING space_id, name INTO v_space_id, v_name;
                v_rows := {_counts(counters)};
                INSERT INTO audit_events ({_AUDIT_COLUMNS}) VALUES (
                    {_CONTEXT_LITERALS},
                    clock_timestamp(), v_space_id, 'instance:delete', 'instance', v_id, v_name, 'succeeded',
                    p_batch_id, jsonb_build_object('mode', 'hard', 'rows', v_rows)
                );
                {item}
                COMMIT;
            END LOOP;
        END $$
    """


def _cte() -> str:
    deletions = ", ".join(
        f"d_{number} AS (DELETE FROM {table} WHERE instance_id = $1 RETURNING 1)"
        for number, table in enumerate(_tables)
    )
    counts = _counts({table: f"(SELECT count(*) FROM d_{number})" for number, table in enumerate(_tables)})
    return f"""
        WITH {deletions},
        instance AS (DELETE FROM instances WHERE id = $1 RETURNING space_id, name),
        counts AS (SELECT {counts} AS rows),
        audit AS (
            INSERT INTO audit_events ({_AUDIT_COLUMNS})
            SELECT {_CONTEXT_LITERALS},
                clock_timestamp(), space_id, 'instance:delete', 'instance', $1, name, 'succeeded', $2::uuid,
                jsonb_build_object('mode', 'hard', 'rows', rows)
            FROM instance, counts
        )
        SELECT rows FROM counts
    """


def _counts(expressions: dict[str, str]) -> str:
    pairs = ", ".join(f"'{table}', NULLIF({expression}, 0)" for table, expression in expressions.items())
    return f"jsonb_strip_nulls(jsonb_build_object({pairs}))"


def loop(databases: Databases, fleet: Fleet, *, durable: bool, with_items: bool = False) -> Callable[[], float]:
    def run() -> float:
        with closing(sqlite_writer(databases.copy(fleet.template))) as connection:
            _delete_in_loop(connection, fleet.warm_up_ids, durable=durable, with_items=with_items)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            started = time.perf_counter()
            _delete_in_loop(connection, fleet.ids, durable=durable, with_items=with_items)
            return time.perf_counter() - started

    return run


def _delete_in_loop(connection: sqlite3.Connection, ids: Sequence[int], *, durable: bool, with_items: bool) -> None:
    batch_id = uuid4().hex
    if not durable:
        connection.execute("PRAGMA synchronous=NORMAL")
    for position, instance_id in enumerate(ids, 1):
        item = (_operation_of(ids), position) if with_items else None
        _delete_one(connection, instance_id, batch_id, item)
    connection.execute("PRAGMA synchronous=FULL")
    _note(connection, (None, "instance:batch_delete", "batch", None, None), batch_id, {"mode": "hard"})


def _delete_one(connection: sqlite3.Connection, instance_id: int, batch_id: str, item: tuple[int, int] | None) -> None:
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("SELECT space_id, name FROM instances WHERE id = ?", (instance_id,)).fetchone()
    rows = {}
    for table in _tables:
        count = connection.execute(f"DELETE FROM {table} WHERE instance_id = ?", (instance_id,)).rowcount
        if count:
            rows[table] = count
    connection.execute("DELETE FROM instances WHERE id = ?", (instance_id,))
    subject = (found[0], "instance:delete", "instance", instance_id, found[1])
    _note(connection, subject, batch_id, {"mode": "hard", "rows": rows})
    if item is not None:
        connection.execute(
            "INSERT INTO operation_items (operation_id, position, status, instance_id, name, detail) "
            "VALUES (?, ?, 'deleted', ?, ?, ?)",
            (*item, instance_id, found[1], json.dumps({"rows_deleted": rows})),
        )
    connection.execute("COMMIT")


def _note(connection: sqlite3.Connection, subject: tuple[Any, ...], batch_id: str, changes: dict[str, Any]) -> None:
    connection.execute(
        f"INSERT INTO audit_events ({_AUDIT_COLUMNS}) VALUES ({_CONTEXT_LITERALS}, ?, ?, ?, ?, ?, ?, 'succeeded', ?, ?)",
        (sqlite_timestamp(datetime.now(UTC)), *subject, batch_id, json.dumps(changes)),
    )
