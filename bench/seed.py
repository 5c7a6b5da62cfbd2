"""Statements that fill a database from inside it: a registry, and any number of rows in every table below an instance.

Foreign keys are not checked while seeding, so the statements must be right by themselves.
"""

from collections.abc import Iterator, Sequence

from bench.rows import TAGS

POSTGRESQL = "postgresql"
SQLITE = "sqlite"

STATISTICS_TABLES = ("database_size_stats", "database_table_size_stats")
TAGS_PER_INSTANCE = 2
# Floors write their items to these; the service's own have low numbers, or follow.
WARM_UP_OPERATION_ID, OPERATION_ID = 1_000_000, 1_000_001
_KEYS_PER_INSTANCE = 100_000

# Per table below an instance: the columns besides instance_id, and their values in terms of i (the instance's id) and
# n (1 to the number of rows). Tables of which an instance has one row at most stay empty.
_BELOW = {
    "instance_accounts": ("id, username, host, is_superuser, can_login, is_locked, is_present, first_seen_at, last_seen_at",
                          "{key}, 'user-' || n, '', false, true, false, true, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP"),
    "account_permissions": ("id, account_id, digest, captured_at", "{key}, {key}, 'digest', CURRENT_TIMESTAMP"),
    "account_classification_assignments": ("permission_id, classification_id, rule_version, assigned_at",
                                           "{key}, 1, 1, CURRENT_TIMESTAMP"),
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


def parents(kind: str, rows: int = len(TAGS)) -> Iterator[str]:
    """What rows refer to besides their instance: tags (those of imports, and more), sync sessions, a classification,
    operations that have ended."""
    names = [*TAGS, *(f"tag-{number}" for number in range(len(TAGS) + 1, rows + 1))]
    values = ", ".join(f"({number}, 1, '{name}')" for number, name in enumerate(names, 1))
    yield f"INSERT INTO tags (id, space_id, name) VALUES {values}"
    yield (
        "INSERT INTO sync_sessions (id, space_id, kinds, trigger, state) "
        f"SELECT n, 1, '[]', 'manual', 'succeeded' FROM {_numbers(kind, 1, rows)}"
    )
    yield "INSERT INTO account_classifications (id, space_id, name, rule) VALUES (1, 1, 'all', '{}')"
    for operation_id in (WARM_UP_OPERATION_ID, OPERATION_ID):
        yield (
            "INSERT INTO operations (id, kind, user_id, state, request, origin, batch_id, counts) VALUES "
            f"({operation_id}, 'instance_import', 1, 'succeeded', '{{}}', '{{}}', '{operation_id:032x}', '{{}}')"
        )
    yield from _raised_sequences(kind, "tags")


def instances(kind: str, count: int, *, first_id: int = 1) -> Iterator[str]:
    """Instances, each registered a second after the one before."""
    if kind == POSTGRESQL:
        registered = "TIMESTAMPTZ '2026-01-01 00:00+00' + n * INTERVAL '1 second'"
    else:
        registered = "strftime('%Y-%m-%d %H:%M:%S', '2026-01-01', '+' || n || ' seconds') || '.000000'"
    yield (
        "INSERT INTO instances (id, space_id, name, db_type, host, port, endpoint_key, environment, created_at) "
        "SELECT n, 1, 'bench-' || n, 'mysql', 'bench-' || n || '.example', 3306, "
        f"'mysql:bench-' || n || '.example:3306', 'production', {registered} "
        f"FROM {_numbers(kind, first_id, first_id + count - 1)}"
    )
    yield from _raised_sequences(kind, "instances")


def links(kind: str, count: int) -> Iterator[str]:
    """Two tags for each of the first instances."""
    for step in range(TAGS_PER_INSTANCE):
        yield (
            f"INSERT INTO instance_tags (instance_id, tag_id) SELECT n, 1 + (n + {3 * step}) % {len(TAGS)} "
            f"FROM {_numbers(kind, 1, count)}"
        )


def registry(kind: str, count: int) -> Iterator[str]:
    """Tags, and that many instances with two tags each."""
    yield from parents(kind)
    if count:
        yield from instances(kind, count)
        yield from links(kind, count)


def dependents(
    kind: str, count: int, rows: int, *, first_id: int = 1, statistics_rows: int | None = None
) -> Iterator[str]:
    """`rows` rows in every table below each instance (`statistics_rows` in the two statistics tables)."""
    day = "DATE '2020-01-01' + n" if kind == POSTGRESQL else "date('2020-01-01', '+' || n || ' days')"
    key = f"(i * CAST({_KEYS_PER_INSTANCE} AS bigint) + n)"
    for table, (columns, values) in _BELOW.items():
        each = statistics_rows if statistics_rows is not None and table in STATISTICS_TABLES else rows
        ids = _numbers(kind, first_id, first_id + count - 1, name="i")
        yield (
            f"INSERT INTO {table} (instance_id, {columns}) "
            f"SELECT i, {values.format(key=key, day=day)} FROM {ids}, {_numbers(kind, 1, each)} ORDER BY i, n"
        )


def _raised_sequences(kind: str, *tables: str) -> Sequence[str]:
    """SQLite's follow by themselves."""
    if kind == SQLITE:
        return ()
    return [f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))" for table in tables]


def _numbers(kind: str, first: int, last: int, name: str = "n") -> str:
    """A FROM item with the whole numbers first…last in a column."""
    if kind == POSTGRESQL:
        return f"generate_series({first}, {last}) AS {name}_({name})"
    return (
        f"(WITH RECURSIVE r({name}) AS (SELECT {first} UNION ALL SELECT {name} + 1 FROM r WHERE {name} < {last}) "
        f"SELECT {name} FROM r) AS {name}_"
    )
