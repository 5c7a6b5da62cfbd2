"""SQL of batch deletion: what is there, what blocks, what refers to instances, and rows that refer to none."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import TableClause, column, delete, func, select, table, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import dialect_name, is_listed
from app.instances.cascade import DeletionMode, InstanceCascadeDeletionPlan
from app.models.audit import AuditEvent
from app.models.base import table_of
from app.models.instance import Instance

instances = table_of(Instance)
audit_events = table_of(AuditEvent)
CLEAN_STEP_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class FoundInstance:
    id: int
    name: str
    revision: int


async def find(session: AsyncSession, ids: Sequence[int]) -> dict[int, FoundInstance]:
    rows = await session.execute(
        select(instances.c.id, instances.c.name, instances.c.revision).where(is_listed(session, instances.c.id, ids))
    )
    return {row.id: FoundInstance(row.id, row.name, row.revision) for row in rows}


async def rows_below(
    session: AsyncSession, plan: InstanceCascadeDeletionPlan, ids: Sequence[int]
) -> dict[int, dict[str, int]]:
    """By instance, how many rows each planned table has of it; in one statement, without zeros."""
    found: dict[int, dict[str, int]] = {}
    statement = plan.counts(lambda column: is_listed(session, column, ids))
    for table_name, instance_id, count in (await session.execute(statement)).tuples():
        found.setdefault(instance_id, {})[table_name] = count
    return found


async def blocking(
    session: AsyncSession, plan: InstanceCascadeDeletionPlan, ids: Sequence[int], mode: DeletionMode
) -> dict[int, dict[str, int]]:
    """By instance, the codes of what blocks it, and how many rows do; in one statement."""
    found: dict[int, dict[str, int]] = {}
    statement = plan.blocking(lambda column: is_listed(session, column, ids), mode)
    for code, instance_id, count in (await session.execute(statement)).tuples():
        found.setdefault(instance_id, {})[code] = count
    return found


async def recorded_deletion(session: AsyncSession, batch_id: UUID, instance_id: int) -> dict[str, Any] | None:
    """What the audit trail says of this batch's deletion of the instance, if it was committed."""
    changes: dict[str, Any] | None = await session.scalar(
        select(audit_events.c.changes).where(
            audit_events.c.resource_type == "instance",
            audit_events.c.resource_id == instance_id,
            audit_events.c.batch_id == batch_id,
        )
    )
    return changes


_REFERENCES = {
    "postgresql": """
        SELECT source.oid::regclass::text AS table_name, target.oid::regclass::text AS refers_to
        FROM pg_class source
        LEFT JOIN pg_constraint reference ON reference.conrelid = source.oid AND reference.contype = 'f'
        LEFT JOIN pg_class target ON target.oid = reference.confrelid
        JOIN pg_namespace space ON space.oid = source.relnamespace
        WHERE source.relkind IN ('r', 'p') AND NOT source.relispartition AND source.relpersistence <> 't'
            AND space.nspname NOT IN ('pg_catalog', 'information_schema')
            AND (target.oid IS NOT NULL OR EXISTS (
                SELECT 1 FROM pg_attribute item
                WHERE item.attrelid = source.oid AND item.attname = 'instance_id' AND NOT item.attisdropped
            ))
        UNION
        SELECT item.attrelid::regclass::text, 'instance_id'
        FROM pg_attribute item
        JOIN pg_class source ON source.oid = item.attrelid
        JOIN pg_namespace space ON space.oid = source.relnamespace
        WHERE item.attname = 'instance_id' AND NOT item.attisdropped AND source.relkind IN ('r', 'p')
            AND NOT source.relispartition AND source.relpersistence <> 't'
            AND space.nspname NOT IN ('pg_catalog', 'information_schema')
    """,
    "sqlite": """
        SELECT source.name AS table_name, reference."table" AS refers_to
        FROM sqlite_schema source JOIN pragma_foreign_key_list(source.name) reference
        WHERE source.type = 'table'
        UNION
        SELECT source.name, 'instance_id'
        FROM sqlite_schema source JOIN pragma_table_info(source.name) item
        WHERE source.type = 'table' AND item.name = 'instance_id'
    """,
}


async def tables_below(session: AsyncSession) -> dict[str, bool]:
    """Every table of the live database that refers to an instance, directly or not, by foreign key or by the name of
    a column; and whether it has an `instance_id` of its own. One catalogue query."""
    rows = (await session.execute(text(_REFERENCES[dialect_name(session)]))).all()
    own = {row.table_name for row in rows if row.refers_to == "instance_id"}
    found, size = own | {instances.name}, 0
    while len(found) > size:
        size = len(found)
        found |= {row.table_name for row in rows if row.refers_to in found}
    return {name: name in own for name in sorted(found - {instances.name})}


def unplanned(plan: InstanceCascadeDeletionPlan, live: Iterable[str]) -> list[str]:
    planned = {each.name for each in plan.tables()} | plan.kept.keys()
    return [name for name in live if name not in planned]


def _live_table(name: str) -> TableClause:
    """A table known by the catalogue's name for it only, which on PostgreSQL may carry a schema."""
    schema, _, plain = name.rpartition(".")
    return table(plain.strip('"'), column("instance_id"), schema=schema.strip('"') or None)


async def count_orphans(session: AsyncSession, table_name: str) -> int:
    """Rows that name an instance which does not exist."""
    source = _live_table(table_name)
    statement = select(func.count()).select_from(source).where(_is_orphan(source))
    return (await session.execute(statement)).scalar_one()


async def delete_orphans(session: AsyncSession, table_name: str) -> int:
    """Removes the orphans of some instances, in a bounded step; returns how many rows went, 0 when none is left."""
    source = _live_table(table_name)
    some = select(source.c.instance_id).where(_is_orphan(source)).distinct().limit(CLEAN_STEP_ROWS // 10)
    result = await session.execute(delete(source).where(source.c.instance_id.in_(some.scalar_subquery())))
    return int(result.rowcount)  # type: ignore[attr-defined]


def _is_orphan(source: TableClause) -> Any:
    return (
        source.c.instance_id.is_not(None)
        & ~select(instances.c.id).where(instances.c.id == source.c.instance_id).exists()
    )


async def lock(session: AsyncSession, instance_id: int) -> Any:
    """The instance's row, locked until the transaction ends; None when there is none."""
    columns = (instances.c.id, instances.c.space_id, instances.c.name, instances.c.deleted_at, instances.c.revision)
    return (
        await session.execute(select(*columns).where(instances.c.id == instance_id).with_for_update())
    ).one_or_none()


async def undelete(session: AsyncSession, instance_id: int) -> None:
    """Raises IntegrityError when another instance has taken the name or the endpoint."""
    await session.execute(
        update(instances)
        .where(instances.c.id == instance_id)
        .values(deleted_at=None, revision=instances.c.revision + 1)
    )
