"""SQL about single instances, the export, and counts.

The list's is in page_repository, that of tagging many in tagging_repository, that of the import in batch_repository.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, String, delete, func, insert, or_, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.instances.records import (
    ExportedInstance,
    InstanceFields,
    InstanceFilter,
    InstanceRecord,
    KindCount,
    Rival,
)
from app.instances.selection import FilterShape, conditions, instances, links, locked, parameters, records, tags
from app.models.base import table_of
from app.models.credential import Credential

_credentials = table_of(Credential)


async def exported_after(
    session: AsyncSession, wanted: InstanceFilter, after_id: int, limit: int
) -> list[ExportedInstance]:
    """The next instances in order of id, each with the name of its credential."""
    statement = (
        records.add_columns(_credentials.c.name.label("credential"))
        .join_from(instances, _credentials, isouter=True)
        .where(*conditions(FilterShape.of(wanted)), instances.c.id > after_id)
        .order_by(instances.c.id)
        .limit(limit)
    )
    rows = (await session.execute(statement, parameters(wanted))).all()
    return [ExportedInstance(InstanceRecord._make(row[:-1]), row[-1]) for row in rows]


async def find(session: AsyncSession, instance_id: int) -> InstanceRecord | None:
    """The instance, deleted or not."""
    return _one(await session.execute(records.where(instances.c.id == instance_id)))


async def lock(session: AsyncSession, instance_id: int) -> InstanceRecord | None:
    """The instance, which nobody else can change until the transaction ends."""
    # Locked by a statement of its own: after waiting for the lock, PostgreSQL would answer with the new row but with
    # the tags that the row had before.
    await session.execute(locked(select(instances.c.id).where(instances.c.id == instance_id)))
    return await find(session, instance_id)


def _one(found: Any) -> InstanceRecord | None:
    row = found.one_or_none()
    return None if row is None else InstanceRecord._make(row)


async def rivals(
    session: AsyncSession, space_id: int, fields: InstanceFields, except_id: int | None = None
) -> list[Rival]:
    """Who else has the name or the endpoint; at most one instance has each."""
    statement = select(instances.c.id, instances.c.name, instances.c.endpoint_key).where(
        instances.c.space_id == space_id,
        instances.c.deleted_at.is_(None),
        or_(instances.c.name == fields.name, instances.c.endpoint_key == fields.endpoint_key),
        instances.c.id != (except_id or 0),
    )
    return [Rival(*row) for row in await session.execute(statement)]


async def create(session: AsyncSession, space_id: int, fields: InstanceFields) -> int:
    statement = insert(instances).values(space_id=space_id, **fields.columns()).returning(instances.c.id)
    created: int = (await session.execute(statement)).scalar_one()
    return created


async def change(session: AsyncSession, instance_id: int, fields: InstanceFields) -> None:
    await session.execute(
        update(instances)
        .where(instances.c.id == instance_id)
        .values(revision=instances.c.revision + 1, **fields.columns())
    )


async def set_tags(session: AsyncSession, instance_id: int, tag_ids: Collection[int]) -> None:
    """Makes these the instance's tags, and no others."""
    await session.execute(delete(links).where(links.c.instance_id == instance_id))
    if tag_ids:
        await session.execute(
            insert(links), [{"instance_id": instance_id, "tag_id": tag_id} for tag_id in sorted(tag_ids)]
        )


async def counts_by_kind(session: AsyncSession, space_id: int | None) -> list[KindCount]:
    """One for each combination that occurs."""
    status = (instances.c.is_active, instances.c.deleted_at.is_not(None))
    kinds = (type_coerce(instances.c.db_type, String), type_coerce(instances.c.environment, String), *status)
    statement = select(*kinds, func.count()).group_by(*kinds)
    return [KindCount(*row) for row in await session.execute(_in_space(statement, space_id))]


async def counts_by_tag(session: AsyncSession, space_id: int | None) -> dict[str, int]:
    """How many instances, not deleted, carry each tag, in order of name; tags of one name are one."""
    statement = (
        select(tags.c.name, func.count())
        .select_from(links.join(tags).join(instances, instances.c.id == links.c.instance_id))
        .where(instances.c.deleted_at.is_(None))
        .group_by(tags.c.name)
        .order_by(tags.c.name)
    )
    return {row[0]: row[1] for row in await session.execute(_in_space(statement, space_id))}


def _in_space(statement: Select[Any], space_id: int | None) -> Select[Any]:
    return statement if space_id is None else statement.where(instances.c.space_id == space_id)
