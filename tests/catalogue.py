"""The tables that a database itself lists, whether or not the service's metadata knows them."""

from collections.abc import Collection, Mapping

from sqlalchemy import MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

# What tells schemas apart: reflecting one takes as long as a test, and nearly all tests have the same.
_SCHEMA = {
    "sqlite": "SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name",
    "postgresql": """
        SELECT relname, array_agg(attname || ' ' || format_type(atttypid, atttypmod) ORDER BY attnum)::text
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
            AND attnum > 0 AND NOT attisdropped
        GROUP BY relname ORDER BY relname
    """,
}
_tables_by_schema: dict[tuple[tuple[str, str], ...], Mapping[str, Table]] = {}


async def listed_tables(connection: AsyncConnection) -> Mapping[str, Table]:
    """By name."""
    rows = await connection.execute(text(_SCHEMA[connection.dialect.name]))
    schema = tuple((name, definition) for name, definition in rows)
    if schema not in _tables_by_schema:
        metadata = MetaData()
        await connection.run_sync(metadata.reflect)
        _tables_by_schema[schema] = metadata.tables
    return _tables_by_schema[schema]


async def counts_of(connection: AsyncConnection, names: Collection[str], where: str = "true") -> dict[str, int]:
    """How many rows each of the tables has for which the SQL condition holds; by name."""
    counts = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name} WHERE {where}" for name in names)
    return dict((await connection.execute(text(counts))).all())
