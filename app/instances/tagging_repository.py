"""SQL of tagging many instances: by set, whatever their number.

Instances are locked by a statement that sees only what the caller may reach; what comes after goes by their ids.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import dialect_name, is_listed
from app.instances.records import Link, LockedInstance
from app.instances.selection import instances, links, locked, tags


async def tags_named(session: AsyncSession, space_ids: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    """The tags of these spaces that have one of the names: name by id."""
    if not names:
        return {}
    statement = select(tags.c.id, tags.c.name).where(
        is_listed(session, tags.c.space_id, space_ids), is_listed(session, tags.c.name, names)
    )
    return {row.id: row.name for row in await session.execute(statement)}


async def lock_many(session: AsyncSession, instance_ids: Sequence[int]) -> list[LockedInstance]:
    """Those that exist and are not deleted; nobody else can change them until the transaction ends."""
    statement = (
        select(instances.c.id, instances.c.space_id, instances.c.name)
        .where(is_listed(session, instances.c.id, instance_ids), instances.c.deleted_at.is_(None))
        # One order for everybody, so that two writers of the same rows wait for each other instead of deadlocking.
        .order_by(instances.c.id)
    )
    return [LockedInstance(*row) for row in await session.execute(locked(statement))]


async def link(session: AsyncSession, instance_ids: Sequence[int], tag_ids: Collection[int]) -> list[Link]:
    """Gives each instance those of the tags that are of its space, and returns the links that are new."""
    pairs = (
        select(instances.c.id, tags.c.id)
        .join_from(instances, tags, instances.c.space_id == tags.c.space_id)
        .where(is_listed(session, instances.c.id, instance_ids), is_listed(session, tags.c.id, list(tag_ids)))
    )
    dialect = postgresql if dialect_name(session) == "postgresql" else sqlite
    statement = (
        dialect.insert(links)
        .from_select(["instance_id", "tag_id"], pairs)
        .on_conflict_do_nothing()
        .returning(links.c.instance_id, links.c.tag_id)
    )
    return [Link(*row) for row in await session.execute(statement, execution_options=SPACES_CHECKED)]


async def unlink(session: AsyncSession, instance_ids: Sequence[int], tag_ids: Collection[int]) -> list[Link]:
    """Takes the tags off the instances, and returns the links that are gone."""
    statement = (
        delete(links)
        .where(is_listed(session, links.c.instance_id, instance_ids), is_listed(session, links.c.tag_id, list(tag_ids)))
        .returning(links.c.instance_id, links.c.tag_id)
    )
    return [Link(*row) for row in await session.execute(statement, execution_options=SPACES_CHECKED)]


async def overloaded(session: AsyncSession, instance_ids: Sequence[int], max_tags: int) -> list[int]:
    """Those that carry more tags than an instance may have."""
    statement = (
        select(links.c.instance_id)
        .where(is_listed(session, links.c.instance_id, instance_ids))
        .group_by(links.c.instance_id)
        .having(func.count() > max_tags)
        .order_by(links.c.instance_id)
    )
    return list(await session.scalars(statement, execution_options=SPACES_CHECKED))


async def raise_revisions(session: AsyncSession, instance_ids: Sequence[int]) -> None:
    await session.execute(
        update(instances)
        .where(is_listed(session, instances.c.id, instance_ids))
        .values(revision=instances.c.revision + 1)
    )
