"""What PostgreSQL's planner has to be told before bulk work; SQLite needs none of it.

The planner knows a table from its last ANALYZE, scaled to its present size. Where it counted hardly a row (it counts
none that a transaction is still writing), every index looks as cheap as every other, and it reads the whole of a wrong
one, or the whole table, for each of thousands of look-ups: 60 s for what takes 30 ms.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.database.statements import dialect_name

# (-1: it was never analysed. 0 pages: it was empty, as after everything in it was deleted and vacuumed.)
_IS_KNOWN = "reltuples >= 0"
_IS_THIN = f"{_IS_KNOWN} AND reltuples < greatest(relpages, 1)"
_HAS_DOUBLED = "pg_relation_size(oid) / current_setting('block_size')::int > 2 * relpages"


async def forget_plans(session: AsyncSession) -> None:
    """Has PostgreSQL plan this connection's statements anew, its foreign-key checks too; SQLite keeps no plans.

    A plan that was made when a table held a few rows reads the whole table, and is kept until the next ANALYZE: after
    an import of 200 rows, one of 10,000 took 9 s instead of 1. Call it before bulk work; planning takes milliseconds.
    """
    if dialect_name(session) == "postgresql":
        await session.execute(text("DISCARD PLANS"))


@asynccontextmanager
async def looking_up(database: Database) -> AsyncIterator[AsyncSession]:
    """A session for thousands of look-ups by one statement, each through an index.

    (At read committed, its transaction holds no snapshot between statements.)
    """
    if database.is_sqlite:
        async with database.readers() as session:
            yield session
        return
    # Not `begin()`: there is nothing to commit.
    async with database.writers() as session:
        await forget_plans(session)
        # A small table it would read from end to end, which is fast once and slow five thousand times.
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        yield session


async def refresh_statistics(database: Database, table: Table) -> None:
    """ANALYZE, if the table was far smaller or hardly had a row at the last one; call it before many rows are written.

    Outside of any transaction, as it locks out others who do the same. (A table that was never analysed is planned for
    by its size.)
    """
    async with database.readers() as session:
        await _analyze(session, table, f"{_IS_KNOWN} AND ({_HAS_DOUBLED} OR ({_IS_THIN}))")


async def note_new_rows(session: AsyncSession, table: Table) -> None:
    """The same for a transaction that has just filled a table which hardly had a row; its own rows count.

    Unless somebody else is at it: nobody waits.
    """
    await _analyze(session, table, _IS_THIN)


async def _analyze(session: AsyncSession, table: Table, condition: str) -> None:
    if dialect_name(session) != "postgresql":
        return
    statement = f"SELECT {condition} FROM pg_class WHERE oid = CAST(:table AS regclass)"  # noqa: S608 - text of ours
    if await session.scalar(text(statement), {"table": table.name}):
        await session.execute(text(f"ANALYZE (SKIP_LOCKED) {table.name}"))
