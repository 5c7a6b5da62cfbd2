"""SQL about tags and the links that instances carry."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import dialect_name, is_listed, listed
from app.models.base import table_of
from app.models.instance import Instance
from app.models.tag import InstanceTag, Tag
from app.pagination import PageRequest, Sort
from app.tags.records import Carrier, TagFilter, TagPage, TagRecord, TagValues

_tags = table_of(Tag)
_columns = [_tags.c[field.name] for field in fields(TagRecord)]
_sortable = {name: _tags.c[name] for name in ("id", "name", "created_at")}


async def page(session: AsyncSession, tag_filter: TagFilter, sort: str, request: PageRequest) -> TagPage:
    ordering = Sort.parse(sort, _sortable)
    conditions = _conditions(tag_filter)
    found = await session.execute(ordering.apply(select(*_columns).where(*conditions), request))
    rows, next_cursor = ordering.cut(found.all(), request)
    total = await session.scalar(select(func.count(Tag.id)).where(*conditions)) if request.include_total else None
    return TagPage([_record(row) for row in rows], next_cursor, total)


def _conditions(tag_filter: TagFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if tag_filter.space_id is not None:
        conditions.append(Tag.space_id == tag_filter.space_id)
    if tag_filter.q:
        conditions.append(Tag.name.icontains(tag_filter.q, autoescape=True))
    return conditions


def _record(row: Sequence[Any]) -> TagRecord:
    return TagRecord(*row)


async def find(session: AsyncSession, tag_id: int) -> TagRecord | None:
    row = (await session.execute(select(*_columns).where(Tag.id == tag_id))).one_or_none()
    return None if row is None else _record(row)


async def lock(session: AsyncSession, tag_id: int) -> TagRecord | None:
    """The tag, which nobody else can change, delete or link to until the transaction ends."""
    row = (await session.execute(select(*_columns).where(Tag.id == tag_id).with_for_update())).one_or_none()
    return None if row is None else _record(row)


async def create(session: AsyncSession, space_id: int, values: TagValues) -> TagRecord:
    row = (await session.execute(insert(Tag).values(space_id=space_id, **values).returning(*_columns))).one()
    return _record(row)


async def change(session: AsyncSession, tag_id: int, values: TagValues) -> TagRecord:
    statement = update(Tag).where(Tag.id == tag_id).values(revision=Tag.revision + 1, **values).returning(*_columns)
    return _record((await session.execute(statement)).one())


async def remove(session: AsyncSession, tag_id: int) -> None:
    await session.execute(delete(Tag).where(Tag.id == tag_id))


async def count_carriers(session: AsyncSession, tag_id: int) -> int:
    """How many instances carry the tag, deleted ones included."""
    statement = select(func.count()).select_from(InstanceTag).where(InstanceTag.tag_id == tag_id)
    return (await session.execute(statement)).scalar_one()


async def lock_carriers(session: AsyncSession, tag_id: int) -> None:
    """Locks the instances that carry the tag, in order of id, as every writer of several instances does."""
    carrying = select(InstanceTag.instance_id).where(InstanceTag.tag_id == tag_id)
    locked = select(Instance.id).where(Instance.id.in_(carrying)).order_by(Instance.id).with_for_update().subquery()
    await session.execute(select(func.count()).select_from(locked), execution_options=SPACES_CHECKED)


async def unlink(session: AsyncSession, tag_id: int, limit: int) -> list[Carrier]:
    """Takes the tag off at most `limit` instances, whose revisions rise, and tells which; empty when none is left."""
    carrying = (
        select(InstanceTag.instance_id)
        .where(InstanceTag.tag_id == tag_id)
        .order_by(InstanceTag.instance_id)
        .limit(limit)
    )
    links = delete(InstanceTag).where(InstanceTag.tag_id == tag_id, InstanceTag.instance_id.in_(carrying))
    ids = (await session.scalars(links.returning(InstanceTag.instance_id))).all()
    if not ids:
        return []
    raised = (
        update(Instance)
        .where(is_listed(session, Instance.id, ids))
        .values(revision=Instance.revision + 1)
        .returning(Instance.id, Instance.name)
    )
    return [Carrier(*row) for row in await session.execute(raised)]


async def lock_ids(session: AsyncSession, space_id: int, names: Sequence[str]) -> dict[str, int]:
    """The ids of those that exist. They can be linked to, but not renamed or deleted, until the transaction ends."""
    if not names:
        return {}
    statement = (
        select(Tag.name, Tag.id)
        .where(Tag.space_id == space_id, is_listed(session, Tag.name, names))
        .with_for_update(read=True, key_share=True)
    )
    return dict((await session.execute(statement)).all())


async def create_missing(session: AsyncSession, space_id: int, names: Sequence[str]) -> dict[str, int]:
    """Makes the tags that do not exist yet, and returns the ids of those it made."""
    wanted = listed(session, names).subquery()
    # The order keeps two writers of the same names from waiting for each other in a circle.
    rows = select(literal(space_id), wanted.c.value).order_by(wanted.c.value)
    dialect = postgresql if dialect_name(session) == "postgresql" else sqlite
    statement = (
        dialect.insert(_tags)
        .from_select(["space_id", "name"], rows)
        .on_conflict_do_nothing()
        .returning(_tags.c.name, _tags.c.id)
    )
    return dict((await session.execute(statement)).all())
