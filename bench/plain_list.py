"""The list of instances as one writes it first: ORM objects, `selectinload`, a response model.

Served beside the real one by the same application, through the same middleware, so that the two differ in nothing but
themselves. Only the first page is offered, which is all that is compared.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict, field_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import relationship, selectinload

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database import Database
from app.database.request_sessions import get_database
from app.instances.schemas import Instance as InstanceBody
from app.main import create_app as create_real_app
from app.models.instance import Instance
from app.models.tag import InstanceTag, Tag
from bench.cursors import cursor_after

PATH = "/plain/instances"

router = APIRouter(route_class=GuardedRoute)
Instance.__mapper__.add_property(
    "tags", relationship(Tag, secondary=InstanceTag.__table__, lazy="raise", viewonly=True)
)


class PlainInstance(InstanceBody):
    """The real body, but for taking its tags from related objects."""

    model_config = ConfigDict(from_attributes=True)

    @field_validator("tags", mode="before")
    @classmethod
    def _names(cls, tags: Sequence[Tag]) -> list[str]:
        return sorted(tag.name for tag in tags)


class PlainPage(BaseModel):
    items: list[PlainInstance]
    next_cursor: str | None


async def _session(database: Annotated[Database, Depends(get_database)]) -> AsyncIterator[AsyncSession]:
    """An ordinary session with an ordinary transaction; on SQLite of the connections for reading."""
    engine = database.read_engine if database.is_sqlite else database.engine
    async with async_sessionmaker(engine)() as session:
        yield session


@router.get(PATH, response_model=PlainPage, openapi_extra=requires(Permission.INSTANCE_READ))
async def list_instances(
    session: Annotated[AsyncSession, Depends(_session)], limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> object:
    statement = (
        select(Instance)
        .options(selectinload(Instance.tags))  # type: ignore[attr-defined]
        .where(Instance.deleted_at.is_(None))
        .order_by(Instance.id)
        .limit(limit + 1)
    )
    found = (await session.scalars(statement)).all()
    next_cursor = cursor_after("id", found[limit - 1]) if len(found) > limit else None
    return {"items": found[:limit], "next_cursor": next_cursor}


def create_app() -> FastAPI:
    app = create_real_app()
    app.include_router(router)
    return app
