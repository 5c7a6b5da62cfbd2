"""SQL of the batch import: set-based look-ups, bulk loads, set-based updates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, String, Table, bindparam, delete, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.caller import current_user_id
from app.database.bulk_loads import insert_rows
from app.database.statements import is_listed, listed, stored_timestamp
from app.models.audit import AuditEvent
from app.models.base import table_of
from app.models.instance import Instance
from app.models.tag import InstanceTag, Tag

instances: Table = table_of(Instance)
instance_tags: Table = table_of(InstanceTag)
tags: Table = table_of(Tag)
audit_events: Table = table_of(AuditEvent)

# The columns that a CSV row sets, as they are stored.
VALUE_COLUMNS = (
    "name",
    "db_type",
    "host",
    "port",
    "endpoint_key",
    "database_name",
    "description",
    "environment",
    "sync_policy",
    "is_active",
    "deletion_protection",
    "credential_id",
)
_traced_columns = ("revision", "created_at", "updated_at", "created_by", "updated_by")
_inserted_columns = ("id", "space_id", *VALUE_COLUMNS, *_traced_columns)


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """What is stored of an instance that an import may update."""

    id: int
    revision: int
    values: Mapping[str, Any]
    tags: tuple[str, ...]


async def ids_by_name(session: AsyncSession, space_id: int, names: Sequence[str]) -> dict[str, int]:
    """Ids of the instances, not deleted, that have these names."""
    return await _ids_by(session, instances.c.name, space_id, names)


async def ids_by_endpoint(session: AsyncSession, space_id: int, keys: Sequence[str]) -> dict[str, int]:
    """Ids of the instances, not deleted, that have these endpoints."""
    return await _ids_by(session, instances.c.endpoint_key, space_id, keys)


async def _ids_by(
    session: AsyncSession, column: ColumnElement[str], space_id: int, values: Sequence[str]
) -> dict[str, int]:
    """One look into the unique index for each value, in one statement. `planner.looking_up` makes sure of an index, and
    the sum of the right one: without statistics the other unique index, which has the space too, looks as cheap, and is
    read as a whole for each value. The offset keeps PostgreSQL from looking twice, for the condition and for the
    answer."""
    if not values:
        return {}
    wanted = listed(session, values).subquery()
    found = (
        select(instances.c.id)
        .where(column == wanted.c.value, instances.c.deleted_at.is_(None), instances.c.space_id + 0 == space_id)
        .scalar_subquery()
    )
    looked_up = select(wanted.c.value, found.label("id")).offset(0).subquery()
    statement = select(looked_up).where(looked_up.c.id.is_not(None))
    rows = await session.execute(statement, execution_options=SPACES_CHECKED)
    return {row.value: row.id for row in rows}


async def names_by_id(session: AsyncSession, ids: Sequence[int]) -> dict[int, str]:
    rows = await session.execute(
        select(instances.c.id, instances.c.name).where(is_listed(session, instances.c.id, ids))
    )
    return {row.id: row.name for row in rows}


async def stored_instances(session: AsyncSession, ids: Sequence[int], *, lock: bool) -> dict[int, StoredInstance]:
    """The instances that are not deleted, with their tags; locked until the transaction ends if `lock` is set."""
    columns = [type_coerce(instances.c[name], _plain(name)).label(name) for name in VALUE_COLUMNS]
    statement = (
        select(instances.c.id, instances.c.revision, *columns)
        .where(is_listed(session, instances.c.id, ids), instances.c.deleted_at.is_(None))
        # In order of id, so that two imports of the same rows wait for each other instead of deadlocking.
        .order_by(instances.c.id)
    )
    if lock:
        statement = statement.with_for_update()
    rows = (await session.execute(statement)).mappings().all()
    tag_names: dict[int, list[str]] = {}
    linked = (
        select(instance_tags.c.instance_id, tags.c.name)
        .join_from(instance_tags, tags)
        .where(is_listed(session, instance_tags.c.instance_id, [row["id"] for row in rows]))
    )
    for instance_id, name in await session.execute(linked, execution_options=SPACES_CHECKED) if rows else ():
        tag_names.setdefault(instance_id, []).append(name)
    return {
        row["id"]: StoredInstance(
            row["id"],
            row["revision"],
            {name: row[name] for name in VALUE_COLUMNS},
            tuple(sorted(tag_names.get(row["id"], ()))),
        )
        for row in rows
    }


def _plain(name: str) -> Any:
    """Enums are compared as the text they are stored as."""
    column_type = instances.c[name].type
    return String() if isinstance(column_type, String) else column_type


async def is_recorded(
    session: AsyncSession, batch_id: UUID, resource_type: str, resource_id: int | None, resource_name: str | None
) -> bool:
    """Whether the batch has an audit entry about this resource."""
    statement = select(audit_events.c.id).where(
        audit_events.c.resource_type == resource_type,
        audit_events.c.resource_id == resource_id,
        audit_events.c.resource_name == resource_name,
        audit_events.c.batch_id == batch_id,
    )
    return await session.scalar(statement.limit(1)) is not None


async def insert_instances(
    session: AsyncSession, space_id: int, ids: Sequence[int], values: Iterable[tuple[Any, ...]], now: datetime
) -> None:
    """One row for each id; `values` are in the order of VALUE_COLUMNS."""
    moment, user_id = stored_timestamp(session, now), current_user_id()
    traced = (1, moment, moment, user_id, user_id)
    rows = ((instance_id, space_id, *row, *traced) for instance_id, row in zip(ids, values, strict=True))
    await insert_rows(session, instances, _inserted_columns, rows)


async def link_tags(session: AsyncSession, links: Iterable[tuple[int, int]]) -> None:
    """Pairs of instance id and tag id."""
    await insert_rows(session, instance_tags, ("instance_id", "tag_id"), links)


async def unlink_tags(session: AsyncSession, instance_ids: Sequence[int]) -> None:
    """Of instances that are locked."""
    if instance_ids:
        statement = delete(instance_tags).where(is_listed(session, instance_tags.c.instance_id, instance_ids))
        await session.execute(statement, execution_options=SPACES_CHECKED)


async def update_instances(session: AsyncSession, values_by_id: Mapping[int, Mapping[str, Any]], now: datetime) -> None:
    """Sets the named columns of each instance and raises its revision. The rows must be locked."""
    if not values_by_id:
        return
    statement = (
        update(instances)
        .where(instances.c.id == bindparam("target_id"))
        .values({name: bindparam(name) for name in VALUE_COLUMNS})
        .values(revision=instances.c.revision + 1, updated_at=now, updated_by=current_user_id())
    )
    connection = await session.connection()
    await connection.execute(statement, [{"target_id": key, **values} for key, values in values_by_id.items()])
