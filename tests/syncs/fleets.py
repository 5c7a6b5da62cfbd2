"""Fleets of instances for tests, inserted set by set: a row by itself would cost more than the test."""

from sqlalchemy import text

from app.database import Database
from tests.factories import Registry

_numbers = {
    "postgresql": "SELECT n FROM generate_series(1, :count) AS n",
    "sqlite": """
        WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :count)
        SELECT n FROM counted
    """,
}
_HOST = "'10.' || (n / 65536) || '.' || (n / 256 % 256) || '.' || (n % 256)"


async def fleet(
    database: Database, registry: Registry, count: int, credential_id: int | None = None, *, every: int = 1
) -> None:
    """So many servers of the default space, each on a host of its own; each `every`th of them has the credential."""
    numbers = _numbers["sqlite" if database.is_sqlite else "postgresql"]
    statement = text(f"""
        INSERT INTO instances (
            space_id, name, db_type, host, port, endpoint_key, environment, sync_policy, is_active, credential_id
        )
        SELECT
            :space_id, 'fleet-' || n, 'redis', {_HOST}, 6379, 'redis:' || {_HOST} || ':' || 6379, 'production', 'off',
            :is_active, CASE WHEN n % :every = 0 THEN CAST(:credential_id AS integer) END
        FROM ({numbers}) AS numbers
    """)
    values = {"space_id": await registry.default_space(), "count": count, "every": every, "is_active": True}
    async with database.writers.begin() as session:
        await session.execute(statement, values | {"credential_id": credential_id})
