"""One writer at a time of what is known of an instance."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.models.base import table_of
from app.models.instance import Instance

_instances = table_of(Instance)


async def hold_instance(session: AsyncSession, instance_id: int) -> None:
    """Waits for whoever else writes about the instance; until the transaction ends nobody does, changes or deletes it.

    Raises NotFound when it is not there, or where the caller may not reach it: behind this, statements about what is
    below the instance need no check of their own. It is no obstacle to whoever only refers to the instance (KEY SHARE),
    and SQLite, where a transaction that writes is alone anyway, needs the check only.
    """
    statement = select(_instances.c.id).where(_instances.c.id == instance_id).with_for_update(key_share=True)
    if await session.scalar(statement) is None:
        raise NotFound(f"there is no instance {instance_id}")
