"""SQL of removing a space: what is in it, and what else of it there is."""

from collections.abc import Sequence

from sqlalchemy import delete, func, literal, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name
from app.models import Base
from app.models.space import Space

# Tables that have a column `space_id` or refer to a space by a foreign key, as the live database knows them.
_HOLDING = {
    "postgresql": """
        WITH source AS (
            SELECT pg_class.oid FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE relkind IN ('r', 'p') AND NOT relispartition AND relpersistence <> 't'
                AND nspname NOT IN ('pg_catalog', 'information_schema')
        )
        SELECT source.oid::regclass::text FROM source
        JOIN pg_attribute ON attrelid = source.oid AND attname = 'space_id' AND NOT attisdropped
        UNION
        SELECT source.oid::regclass::text FROM source
        JOIN pg_constraint ON conrelid = source.oid AND contype = 'f' AND confrelid = 'spaces'::regclass
    """,
    "sqlite": """
        SELECT source.name FROM sqlite_schema source JOIN pragma_table_info(source.name) item
        WHERE source.type = 'table' AND item.name = 'space_id' COLLATE NOCASE
        UNION
        SELECT source.name FROM sqlite_schema source JOIN pragma_foreign_key_list(source.name) reference
        WHERE source.type = 'table' AND reference."table" = 'spaces' COLLATE NOCASE
    """,
}


async def tables_holding_spaces(session: AsyncSession) -> set[str]:
    """By name; one catalogue query."""
    return set(await session.scalars(text(_HOLDING[dialect_name(session)])))


async def rows_in(session: AsyncSession, space_id: int, names: Sequence[str]) -> dict[str, int]:
    """How many rows each of the tables has of the space, in their order and without zeros; in one statement."""
    tables = [Base.metadata.tables[name] for name in names]
    counts = (
        select(literal(each.name), func.count()).select_from(each).where(each.c.space_id == space_id) for each in tables
    )
    found = dict((await session.execute(union_all(*counts))).all())
    return {name: found[name] for name in names if found[name]}


async def remove_rows(session: AsyncSession, space_id: int, name: str) -> None:
    table = Base.metadata.tables[name]
    await session.execute(delete(table).where(table.c.space_id == space_id))


async def remove(session: AsyncSession, space_id: int) -> None:
    await session.execute(delete(Space).where(Space.id == space_id))
