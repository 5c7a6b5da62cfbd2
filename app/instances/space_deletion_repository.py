"""SQL about the instances of a space that is being deleted."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import table_of
from app.models.instance import Instance

_instances = table_of(Instance)


async def ids_after(session: AsyncSession, space_id: int, after_id: int, limit: int) -> tuple[int, ...]:
    """The next instances of the space in order of id, deleted ones included."""
    statement = select(_instances.c.id).where(_instances.c.space_id == space_id, _instances.c.id > after_id)
    return tuple(await session.scalars(statement.order_by(_instances.c.id).limit(limit)))


async def protected_ids(session: AsyncSession, space_id: int) -> list[int]:
    """Those that must not be deleted, whoever forces it."""
    statement = select(_instances.c.id).where(_instances.c.space_id == space_id, _instances.c.deletion_protection)
    return list(await session.scalars(statement.order_by(_instances.c.id)))
