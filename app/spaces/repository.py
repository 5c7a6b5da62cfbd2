"""SQL about spaces."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.space import DEFAULT_SPACE_NAME, Space


async def find_id(session: AsyncSession, space_id: int) -> int | None:
    return await session.scalar(select(Space.id).where(Space.id == space_id))


async def find_default_id(session: AsyncSession) -> int | None:
    return await session.scalar(select(Space.id).where(Space.name == DEFAULT_SPACE_NAME))
