"""SQL of batch deletion: what is there, what blocks, what refers to instances, and rows that refer to none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import TableClause, column, delete, func, select, table, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import dialect_name, is_listed
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
    space_id: int


@dataclass(frozen=True, slots=True)
class RecordedDeletion:
    name: str
    rows: Mapping[str, int]


async def find(session: AsyncSession, ids: Sequence[int]) -> dict[int, FoundInstance]:
    columns = (instances.c.id, instances.c.name, instances.c.revision, instances.c.space_id)
    rows = await session.execute(select(*columns).where(is_listed(session, instances.c.id, ids)))
    return {row.id: FoundInstance(*row) for row in rows}


async def rows_below(
    session: AsyncSession, plan: InstanceCascadeDeletionPlan, ids: Sequence[int]
) -> dict[int, dict[str, int]]:
    """By instance, how many rows each planned table has of it; in one statement, without zeros. Takes ids that were
    looked up: to restrict so long a statement to the caller's spaces would take longer than all else."""
    found: dict[int, dict[str, int]] = {}
    statement = plan.counts(lambda column: is_listed(session, column, ids))
    for table_name, instance_id, count in await session.execute(statement, execution_options=SPACES_CHECKED):
        found.setdefault(instance_id, {})[table_name] = count
    return found


async def blocking(
    session: AsyncSession, plan: InstanceCascadeDeletionPlan, ids: Sequence[int], mode: DeletionMode
) -> dict[int, dict[str, int]]:
    """By instance, the codes of what blocks it, and how many rows do; in one statement."""
    found: dict[int, dict[str, int]] = {}
    statement = plan.blocking(lambda column: is_listed(session, column, ids), mode)
    for code, instance_id, count in await session.execute(statement, execution_options=SPACES_CHECKED):
        found.setdefault(instance_id, {})[code] = count
    return found


async def recorded_deletion(session: AsyncSession, batch_id: UUID, instance_id: int) -> RecordedDeletion | None:
    """What the audit trail says of this batch's deletion of the instance, if it was committed."""
    row = (
        await session.execute(
            select(audit_events.c.resource_name, audit_events.c.changes).where(
                audit_events.c.resource_type == "instance",
                audit_events.c.resource_id == instance_id,
                audit_events.c.batch_id == batch_id,
            )
        )
    ).one_or_none()
    return None if row is None else RecordedDeletion(row.resource_name, row.changes["rows"])


async def recorded_deletions(session: AsyncSession, batch_id: UUID, ids: Sequence[int]) -> set[int]:
    """Which of the instances the audit trail calls deleted by this batch."""
    found = await session.scalars(
        select(audit_events.c.resource_id).where(
            audit_events.c.resource_type == "instance",
            is_listed(session, audit_events.c.resource_id, ids),
            audit_events.c.batch_id == batch_id,
        )
    )
    return {key for key in found if key is not None}


async def is_batch_recorded(session: AsyncSession, batch_id: UUID) -> bool:
    """Whether the batch's own audit entry was committed."""
    statement = select(audit_events.c.id).where(
        audit_events.c.resource_type == "batch",
        audit_events.c.resource_id.is_(None),
        audit_events.c.batch_id == batch_id,
    )
    return await session.scalar(statement) is not None


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table as the catalogue knows it. `name` is what it is called in reports: on PostgreSQL with its schema, unless
    that is searched anyway. `holds_ids` tells whether it has an `instance_id` that could be one: a whole number."""

    name: str
    schema: str | None
    plain_name: str
    holds_ids: bool

    def clause(self) -> TableClause:
        return table(self.plain_name, column("instance_id"), schema=self.schema)


# A row for each foreign key (`refers_to`), and one for each `instance_id` column (`refers_to` is null).
_REFERENCES = {
    "postgresql": """
        WITH source AS (
            SELECT pg_class.oid, pg_class.oid::regclass::text AS table_name, nspname AS schema, relname AS plain_name
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE relkind IN ('r', 'p') AND NOT relispartition AND relpersistence <> 't'
                AND nspname NOT IN ('pg_catalog', 'information_schema')
        )
        SELECT table_name, schema, plain_name, confrelid::regclass::text AS refers_to, false AS holds_ids
        FROM source JOIN pg_constraint ON conrelid = source.oid AND contype = 'f'
        UNION
        SELECT table_name, schema, plain_name, NULL, atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
        FROM source JOIN pg_attribute ON attrelid = source.oid AND attname = 'instance_id' AND NOT attisdropped
    """,
    # Names are case-insensitive, and a foreign key keeps its target's as it was typed.
    "sqlite": """
        SELECT source.name AS table_name, NULL AS schema, source.name AS plain_name,
            target.name AS refers_to, false AS holds_ids
        FROM sqlite_schema source
        JOIN pragma_foreign_key_list(source.name) reference
        JOIN sqlite_schema target ON target.type = 'table' AND target.name = reference."table" COLLATE NOCASE
        WHERE source.type = 'table'
        UNION
        SELECT source.name, NULL, source.name, NULL, item.type LIKE '%int%'
        FROM sqlite_schema source JOIN pragma_table_info(source.name) item
        WHERE source.type = 'table' AND item.name = 'instance_id' COLLATE NOCASE
    """,
}


async def tables_below(session: AsyncSession) -> list[LiveTable]:
    """Every table of the live database that refers to an instance, directly or not, by foreign key or by the name of
    a column; by name. One catalogue query."""
    rows = (await session.execute(text(_REFERENCES[dialect_name(session)]))).all()
    found, size = {row.table_name for row in rows if row.refers_to is None} | {instances.name}, 0
    while len(found) > size:
        size = len(found)
        found |= {row.table_name for row in rows if row.refers_to in found}
    holding = {row.table_name for row in rows if row.holds_ids}
    tables = {row.table_name: (row.schema, row.plain_name) for row in rows if row.table_name in found}
    tables.pop(instances.name, None)
    return [LiveTable(name, *where, name in holding) for name, where in sorted(tables.items())]


def unplanned(plan: InstanceCascadeDeletionPlan, live: Iterable[LiveTable]) -> list[LiveTable]:
    planned = {each.name for each in plan.tables()} | plan.kept.keys()
    return [each for each in live if each.name not in planned]


async def count_orphans(session: AsyncSession, live: LiveTable) -> int:
    """Rows that name an instance which does not exist."""
    source = live.clause()
    statement = select(func.count()).select_from(source).where(_is_orphan(source))
    return (await session.execute(statement)).scalar_one()


async def delete_orphans(session: AsyncSession, live: LiveTable) -> int:
    """Removes the orphans of some instances, in a bounded step; returns how many rows went, 0 when none is left."""
    source = live.clause()
    some = select(source.c.instance_id).where(_is_orphan(source)).distinct().limit(CLEAN_STEP_ROWS // 10)
    result = await session.execute(delete(source).where(source.c.instance_id.in_(some.scalar_subquery())))
    return int(result.rowcount)  # type: ignore[attr-defined]


def _is_orphan(source: TableClause) -> Any:
    return (
        source.c.instance_id.is_not(None)
        & ~select(instances.c.id).where(instances.c.id == source.c.instance_id).exists()
    )


async def space_of(session: AsyncSession, instance_id: int) -> int | None:
    return await session.scalar(select(instances.c.space_id).where(instances.c.id == instance_id))


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
