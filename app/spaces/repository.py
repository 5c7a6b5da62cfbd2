"""SQL about spaces; what their deletion needs is in removal_repository."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Select, distinct, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import table_of
from app.models.credential import Credential
from app.models.instance import Instance
from app.models.role import RoleGrant
from app.models.space import DEFAULT_SPACE_NAME, Space
from app.models.tag import Tag
from app.pagination import PageRequest, Sort
from app.spaces.records import SpaceCounts, SpaceFilter, SpaceLimits, SpacePage, SpaceRecord, SpaceValues

_spaces = table_of(Space)
_columns = [_spaces.c[field.name] for field in fields(SpaceRecord)]
_limits = select(*(_spaces.c[field.name] for field in fields(SpaceLimits)))
_sortable = {name: _spaces.c[name] for name in ("id", "name", "created_at")}


async def page(session: AsyncSession, wanted: SpaceFilter, sort: str, request: PageRequest) -> SpacePage:
    ordering = Sort.parse(sort, _sortable)
    conditions = _conditions(wanted)
    found = await session.execute(ordering.apply(select(*_columns).where(*conditions), request))
    rows, next_cursor = ordering.cut(found.all(), request)
    total = await session.scalar(select(func.count(Space.id)).where(*conditions)) if request.include_total else None
    return SpacePage([_record(row) for row in rows], next_cursor, total)


def _conditions(wanted: SpaceFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.q:
        conditions.append(Space.name.icontains(wanted.q, autoescape=True))
    if wanted.is_archived is not None:
        conditions.append(Space.archived_at.is_not(None) if wanted.is_archived else Space.archived_at.is_(None))
    return conditions


def _record(row: Sequence[Any]) -> SpaceRecord:
    return SpaceRecord(*row)


async def find(session: AsyncSession, space_id: int) -> SpaceRecord | None:
    row = (await session.execute(select(*_columns).where(Space.id == space_id))).one_or_none()
    return None if row is None else _record(row)


async def find_id(session: AsyncSession, space_id: int) -> int | None:
    return await session.scalar(select(Space.id).where(Space.id == space_id))


async def find_limits(session: AsyncSession, space_id: int) -> SpaceLimits | None:
    return await _found_limits(session, _limits.where(_spaces.c.id == space_id))


async def find_default_limits(session: AsyncSession) -> SpaceLimits | None:
    return await _found_limits(session, _limits.where(_spaces.c.name == DEFAULT_SPACE_NAME))


async def hold(session: AsyncSession, space_id: int) -> SpaceLimits | None:
    """The space, which nobody can archive or delete until the transaction ends. Any number can hold it at once: it is
    the lock that a new row's foreign key takes anyhow."""
    statement = _limits.where(_spaces.c.id == space_id).with_for_update(read=True, key_share=True)
    return await _found_limits(session, statement)


async def hold_alone(session: AsyncSession, space_id: int) -> SpaceLimits | None:
    """The same for one at a time; those who merely hold it are not in the way."""
    return await _found_limits(session, _limits.where(_spaces.c.id == space_id).with_for_update(key_share=True))


async def _found_limits(session: AsyncSession, statement: Select[Any]) -> SpaceLimits | None:
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else SpaceLimits(*row)


async def lock(session: AsyncSession, space_id: int) -> SpaceRecord | None:
    """The space, once everybody who holds it has finished; nobody can hold or change it until the transaction ends."""
    row = (await session.execute(select(*_columns).where(Space.id == space_id).with_for_update())).one_or_none()
    return None if row is None else _record(row)


async def create(session: AsyncSession, values: SpaceValues) -> SpaceRecord:
    return _record((await session.execute(insert(Space).values(**values).returning(*_columns))).one())


async def change(session: AsyncSession, space_id: int, values: SpaceValues) -> SpaceRecord:
    statement = (
        update(Space).where(Space.id == space_id).values(revision=Space.revision + 1, **values).returning(*_columns)
    )
    return _record((await session.execute(statement)).one())


async def count_instances(session: AsyncSession, space_id: int) -> int:
    """Those that are not deleted: what a quota counts."""
    statement = select(func.count()).select_from(Instance)
    return await session.scalar(statement.where(Instance.space_id == space_id, Instance.deleted_at.is_(None))) or 0


async def counts(session: AsyncSession, space_id: int) -> SpaceCounts:
    deleted = select(func.count()).select_from(Instance).where(Instance.deleted_at.is_not(None))
    statement = select(
        select(func.count())
        .select_from(Instance)
        .where(Instance.space_id == space_id, Instance.deleted_at.is_(None))
        .scalar_subquery(),
        deleted.where(Instance.space_id == space_id).scalar_subquery(),
        select(func.count()).select_from(Tag).where(Tag.space_id == space_id).scalar_subquery(),
        select(func.count()).select_from(Credential).where(Credential.space_id == space_id).scalar_subquery(),
        select(func.count(distinct(RoleGrant.user_id))).where(RoleGrant.space_id == space_id).scalar_subquery(),
    )
    return SpaceCounts(*(await session.execute(statement)).one())
