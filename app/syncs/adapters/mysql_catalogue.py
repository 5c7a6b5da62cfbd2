"""Databases, sizes and settings of a MySQL or MariaDB server, from information_schema and SHOW.

https://dev.mysql.com/doc/refman/8.4/en/information-schema-tables-table.html; it lists only the tables on which the
account has some right.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from app.capacity.records import DatabaseSize, Sizes, TableSize
from app.inventory.records import FoundDatabase
from app.syncs.adapters.mysql_connection import MysqlConnection, Row
from app.syncs.adapters.mysql_release import Release
from app.syncs.adapters.mysql_settings import SETTINGS
from app.syncs.adapters.mysql_values import count

SYSTEM_DATABASES = frozenset({"information_schema", "mysql", "performance_schema", "sys"})
# They are views of the server's memory.
_WITHOUT_SIZE = frozenset({"information_schema", "performance_schema"})

_TABLES = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(DATA_LENGTH, 0) AS data_bytes, COALESCE(INDEX_LENGTH, 0) AS index_bytes,"
    " TABLE_ROWS FROM information_schema.TABLES"
    " WHERE TABLE_TYPE NOT LIKE '%VIEW%' AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema')"
)
# One pass over the tables, which costs far more than to sort them: the totals come with the largest.
_LARGEST = f"""
SELECT TABLE_SCHEMA, TABLE_NAME, data_bytes, index_bytes, TABLE_ROWS, schema_data_bytes, schema_index_bytes FROM (
    SELECT tables_found.*,
        SUM(data_bytes) OVER (PARTITION BY TABLE_SCHEMA) AS schema_data_bytes,
        SUM(index_bytes) OVER (PARTITION BY TABLE_SCHEMA) AS schema_index_bytes,
        ROW_NUMBER() OVER (PARTITION BY TABLE_SCHEMA ORDER BY data_bytes + index_bytes DESC, TABLE_NAME) AS place
    FROM ({_TABLES}) AS tables_found
) AS ranked WHERE place <= {{places}}
"""  # noqa: S608 - text of ours
_SCHEMATA = (
    "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA "
    "ORDER BY SCHEMA_NAME"
)


async def found_databases(connection: MysqlConnection) -> Sequence[FoundDatabase]:
    return [
        FoundDatabase(
            name or "", None, character_set_name, collation_name, is_system=(name or "").lower() in SYSTEM_DATABASES
        )
        for name, character_set_name, collation_name in await connection.ask(_SCHEMATA, 3)
    ]


async def found_sizes(connection: MysqlConnection, release: Release, largest_tables: int) -> Sizes:
    names = [each.name for each in await found_databases(connection) if each.name.lower() not in _WITHOUT_SIZE]
    rows = await _table_rows(connection, release, max(largest_tables, 1))
    totals = {name or "": (count(data) or 0, count(index) or 0) for name, _, _, _, _, data, index in rows}
    databases = [_database_size(name, *totals.get(name, (0, 0))) for name in names]
    tables = [_table_size(row) for row in rows] if largest_tables else []
    return Sizes(databases, sorted(tables, key=lambda each: (each.database_name, -each.size_bytes, each.table_name)))


async def found_settings(connection: MysqlConnection) -> Mapping[str, str]:
    names = ", ".join(f"'{name}'" for name in SETTINGS)
    rows = await connection.ask(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})", 2)
    return {name: value or "" for name, value in rows if name in SETTINGS}


async def _table_rows(connection: MysqlConnection, release: Release, places: int) -> Sequence[Row]:
    """The largest tables of each database, each row with its database's bytes of data and of indexes at the end."""
    if release.is_mariadb or release.is_mysql_since(8, 0):
        return await connection.ask(_LARGEST.format(places=places), 7)
    return _largest_of(await connection.ask(_TABLES, 5), places)


def _largest_of(rows: Iterable[Row], places: int) -> Sequence[Row]:
    """The same for MySQL 5.7, which has no window functions."""
    by_database: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        by_database[row[0]].append(row)
    largest: list[Row] = []
    for tables in by_database.values():
        totals = (str(sum(count(row[place]) or 0 for row in tables)) for place in (2, 3))
        suffix: Row = tuple(totals)
        largest.extend(row + suffix for row in heapq.nlargest(places, tables, key=_bytes_of))
    return largest


def _bytes_of(row: Row) -> int:
    return (count(row[2]) or 0) + (count(row[3]) or 0)


def _database_size(name: str, data_bytes: int, index_bytes: int) -> DatabaseSize:
    return DatabaseSize(name, data_bytes + index_bytes, data_bytes, index_bytes)


def _table_size(row: Row) -> TableSize:
    database, table, data, index, rows = row[:5]
    data_bytes, index_bytes = count(data) or 0, count(index) or 0
    return TableSize(
        database or "", "", table or "", data_bytes + index_bytes, data_bytes, index_bytes, row_estimate=count(rows)
    )
