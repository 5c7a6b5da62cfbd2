"""Rows for the benchmarks, made inside the database: instances, and any number of rows in every table below them."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Per dependent table: the columns besides instance_id, and their values in terms of i (the instance's id) and n (1…rows).
_BELOW = {
    "instance_accounts": ("id, username, host, is_superuser, can_login, is_locked, is_present, first_seen_at, last_seen_at",
                          "{key}, 'user-' || n, '', false, true, false, true, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP"),
    "account_permissions": ("id, account_id, digest, captured_at", "{key}, {key}, 'digest', CURRENT_TIMESTAMP"),
    "account_classification_assignments": ("id, permission_id, classification_id, rule_version, assigned_at",
                                           "{key}, {key}, {classification}, 1, CURRENT_TIMESTAMP"),
    "account_change_logs": ("id, username, host, change_type, diff, changed_at",
                            "{key}, 'user-' || n, '', 'added', '+ SELECT', CURRENT_TIMESTAMP"),
    "instance_databases": ("id, name, is_system, is_present, first_seen_at, last_seen_at",
                           "{key}, 'db-' || n, false, true, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP"),
    "instance_size_stats": ("collected_on, total_bytes, database_count, collected_at", "{day}, 1, 1, CURRENT_TIMESTAMP"),
    "instance_size_aggregations": ("period, period_start, average_bytes, maximum_bytes, minimum_bytes, trend, sample_count",
                                   "'day', {day}, 1, 1, 1, 'stable', 1"),
    "database_size_stats": ("database_name, collected_on, size_bytes, collected_at", "'db', {day}, 1, CURRENT_TIMESTAMP"),
    "database_size_aggregations": (
        "database_name, period, period_start, average_bytes, maximum_bytes, minimum_bytes, trend, sample_count",
        "'db', 'day', {day}, 1, 1, 1, 'stable', 1"),
    "database_table_size_stats": ("database_name, schema_name, table_name, collected_on, size_bytes, collected_at",
                                  "'db', '', 't-' || n, {day}, 1, CURRENT_TIMESTAMP"),
    "sync_instance_records": ("id, session_id, kind, state", "{key}, n, 'accounts', 'succeeded'"),
    "instance_config_snapshots": ("id, settings, digest, captured_at", "{key}, '{{}}', 'digest', CURRENT_TIMESTAMP"),
    "sqlserver_cluster_instances": ("id, group_name, role, seen_at", "{key}, 'group-' || n, 'primary', CURRENT_TIMESTAMP"),
    "instance_tags": ("tag_id", "n"),
}  # fmt: skip
STATISTICS_TABLES = ("database_size_stats", "database_table_size_stats")
_KEYS_PER_INSTANCE = 100_000


async def seed_parents(connection: AsyncConnection, rows: int) -> None:
    """What dependent rows refer to besides their instance: tags, sync sessions, a classification."""
    numbers = _numbers(connection, 1, rows)
    await connection.execute(text(f"INSERT INTO tags (id, space_id, name) SELECT n, 1, 'tag-' || n FROM {numbers}"))
    await connection.execute(text(
        "INSERT INTO sync_sessions (id, space_id, kinds, trigger, state) "
        f"SELECT n, 1, '[]', 'manual', 'succeeded' FROM {numbers}"
    ))  # fmt: skip
    await connection.execute(text(
        "INSERT INTO account_classifications (id, space_id, name, rule) VALUES (1, 1, 'all', '{}')"
    ))  # fmt: skip


async def seed_instances(connection: AsyncConnection, count: int, *, first_id: int = 1, prefix: str = "bench") -> None:
    numbers = _numbers(connection, first_id, first_id + count - 1)
    await connection.execute(text(
        "INSERT INTO instances (id, space_id, name, db_type, host, port, endpoint_key, environment) "
        f"SELECT n, 1, '{prefix}-' || n, 'mysql', '{prefix}-' || n || '.example', 3306, "
        f"'mysql:{prefix}-' || n || '.example\\:3306', 'production' FROM {numbers}"
    ))  # fmt: skip
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT setval('instances_id_seq', (SELECT max(id) FROM instances))"))


async def seed_dependents(
    connection: AsyncConnection, count: int, rows: int, *, first_id: int = 1, statistics_rows: int | None = None
) -> None:
    """`rows` rows in every table below each instance (`statistics_rows` in the two statistics tables)."""
    is_postgresql = connection.dialect.name == "postgresql"
    day = "DATE '2020-01-01' + n" if is_postgresql else "date('2020-01-01', '+' || n || ' days')"
    for table, (columns, values) in _BELOW.items():
        each = statistics_rows if statistics_rows is not None and table in STATISTICS_TABLES else rows
        instances = _numbers(connection, first_id, first_id + count - 1, name="i")
        filled = values.format(key=f"(i * {_KEYS_PER_INSTANCE} + n)", day=day, classification=1)
        await connection.execute(text(
            f"INSERT INTO {table} (instance_id, {columns}) "
            f"SELECT i, {filled} FROM {instances}, {_numbers(connection, 1, each)} ORDER BY i, n"
        ))  # fmt: skip


def _numbers(connection: AsyncConnection, first: int, last: int, name: str = "n") -> str:
    """A FROM item with the whole numbers first…last in a column."""
    if connection.dialect.name == "postgresql":
        return f"generate_series({first}, {last}) AS {name}_({name})"
    return (
        f"(WITH RECURSIVE r({name}) AS (SELECT {first} UNION ALL SELECT {name} + 1 FROM r WHERE {name} < {last}) "
        f"SELECT {name} FROM r) AS {name}_"
    )
