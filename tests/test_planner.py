"""What PostgreSQL's planner knows of a table that an import fills."""

import httpx
import pytest
from sqlalchemy import text

from app.database import Database
from tests.instances.importing import csv_of, import_csv, rows

# As look-ups ask, by an index other than the one that is made first.
LOOK_UP = "SELECT id FROM instances WHERE endpoint_key = 'x' AND deleted_at IS NULL AND space_id + 0 = 1"


@pytest.fixture
def database_kind() -> str:
    return "postgresql"


async def empty_and_vacuumed(database: Database) -> None:
    """As it is after everything in it was deleted: no pages, and counted as empty."""
    async with database.statements() as session:
        await session.execute(text("DELETE FROM instances"))
        await session.execute(text("VACUUM ANALYZE instances"))


async def count_known(database: Database) -> float:
    async with database.readers() as session:
        return float(await session.scalar(text("SELECT reltuples FROM pg_class WHERE relname = 'instances'")) or 0)


async def plan_of_look_up(database: Database) -> str:
    async with database.writers() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        return "\n".join(await session.scalars(text(f"EXPLAIN {LOOK_UP}")))


class TestTableThatWasEmpty:
    async def test_its_rows_are_counted_once_there_are_some(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await empty_and_vacuumed(database)
        assert await count_known(database) == 0
        await import_csv(client, csv_of(*rows(200)))
        assert await count_known(database) == 200

    async def test_look_ups_go_by_the_right_index(self, client: httpx.AsyncClient, database: Database) -> None:
        await empty_and_vacuumed(database)
        await import_csv(client, csv_of(*rows(200)))
        plan = await plan_of_look_up(database)
        assert "uq_instances_endpoint_key_space_id" in plan
        assert "Index Cond: ((endpoint_key)::text = 'x'::text)" in plan
