"""SQL about single instances, pages of them, and counts. What only the batches need is in batch_repository."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Select,
    String,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeDecorator

from app.database import dialect_name, is_listed
from app.instances.records import (
    ExportedInstance,
    InstanceFields,
    InstanceFilter,
    InstancePage,
    InstanceRecord,
    InstanceStatus,
    KindCount,
    Link,
    LockedInstance,
    Rival,
)
from app.models.base import table_of
from app.models.credential import Credential
from app.models.instance import Instance
from app.models.tag import InstanceTag, Tag
from app.pagination import PageRequest, Sort

_instances = table_of(Instance)
_links = table_of(InstanceTag)
_tags = table_of(Tag)
_credentials = table_of(Credential)

_sortable = {"id": _instances.c.id, "name": _instances.c.name, "created_at": _instances.c.created_at}


class _Names(TypeDecorator[Sequence[str]]):
    """Names that the database joined with `|`, which none of them may hold; sorted, or empty for NULL."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[str]:
        return sorted(value.split("|")) if value else ()


# One statement for instances and their tags: with a second one for the tags, a page of fifty takes half as long again.
_tag_names = type_coerce(
    select(func.aggregate_strings(_tags.c.name, "|"))
    .select_from(_links.join(_tags, _tags.c.id == _links.c.tag_id))
    .where(_links.c.instance_id == _instances.c.id)
    .scalar_subquery(),
    _Names,
)
_enumerated = frozenset({"db_type", "environment", "sync_policy"})


def _record_column(name: str) -> ColumnElement[Any]:
    if name == "tags":
        return _tag_names.label(name)
    column = _instances.c[name]
    return type_coerce(column, String).label(name) if name in _enumerated else column


_records = select(*(_record_column(name) for name in InstanceRecord._fields))
_condition_by_status: dict[InstanceStatus | None, ColumnElement[bool]] = {
    None: _instances.c.deleted_at.is_(None),
    InstanceStatus.ACTIVE: and_(_instances.c.deleted_at.is_(None), _instances.c.is_active),
    InstanceStatus.DISABLED: and_(_instances.c.deleted_at.is_(None), ~_instances.c.is_active),
    InstanceStatus.DELETED: _instances.c.deleted_at.is_not(None),
}


def _conditions(wanted: InstanceFilter) -> Iterator[ColumnElement[bool]]:
    yield _condition_by_status[wanted.status]
    if wanted.q:
        columns = (_instances.c.name, _instances.c.host)
        yield or_(*(column.icontains(wanted.q, autoescape=True) for column in columns))
    for name in ("db_type", "environment", "credential_id", "space_id"):
        value = getattr(wanted, name)
        if value is not None:
            yield _instances.c[name] == value
    for tag in wanted.tags:
        carriers = select(_links.c.instance_id).join_from(_links, _tags).where(_tags.c.name == tag)
        yield _instances.c.id.in_(carriers)


async def page(session: AsyncSession, wanted: InstanceFilter, sort: str, request: PageRequest) -> InstancePage:
    ordering = Sort.parse(sort, _sortable)
    conditions = list(_conditions(wanted))
    found = await session.execute(ordering.apply(_records.where(*conditions), request))
    rows, next_cursor = ordering.cut(found.all(), request)
    total = None
    if request.include_total:
        total = await session.scalar(select(func.count(_instances.c.id)).where(*conditions))
    return InstancePage([InstanceRecord._make(row) for row in rows], next_cursor, total)


async def exported_after(
    session: AsyncSession, wanted: InstanceFilter, after_id: int, limit: int
) -> list[ExportedInstance]:
    """The next instances in order of id, each with the name of its credential."""
    statement = (
        _records.add_columns(_credentials.c.name.label("credential"))
        .join_from(_instances, _credentials, isouter=True)
        .where(*_conditions(wanted), _instances.c.id > after_id)
        .order_by(_instances.c.id)
        .limit(limit)
    )
    rows = (await session.execute(statement)).all()
    return [ExportedInstance(InstanceRecord._make(row[:-1]), row[-1]) for row in rows]


async def find(session: AsyncSession, instance_id: int) -> InstanceRecord | None:
    """The instance, deleted or not."""
    return _one(await session.execute(_records.where(_instances.c.id == instance_id)))


async def lock(session: AsyncSession, instance_id: int) -> InstanceRecord | None:
    """The instance, which nobody else can change until the transaction ends."""
    # Locked by a statement of its own: after waiting for the lock, PostgreSQL would answer with the new row but with
    # the tags that the row had before.
    await session.execute(_locked(select(_instances.c.id).where(_instances.c.id == instance_id)))
    return await find(session, instance_id)


def _locked(statement: Select[Any]) -> Select[Any]:
    """Locks against changes and deletion; rows below an instance can still be added, as no change touches its key."""
    return statement.with_for_update(key_share=True)


def _one(found: Any) -> InstanceRecord | None:
    row = found.one_or_none()
    return None if row is None else InstanceRecord._make(row)


async def rivals(
    session: AsyncSession, space_id: int, fields: InstanceFields, except_id: int | None = None
) -> list[Rival]:
    """Who else has the name or the endpoint; at most one instance has each."""
    statement = select(_instances.c.id, _instances.c.name, _instances.c.endpoint_key).where(
        _instances.c.space_id == space_id,
        _instances.c.deleted_at.is_(None),
        or_(_instances.c.name == fields.name, _instances.c.endpoint_key == fields.endpoint_key),
        _instances.c.id != (except_id or 0),
    )
    return [Rival(*row) for row in await session.execute(statement)]


async def create(session: AsyncSession, space_id: int, fields: InstanceFields) -> int:
    statement = insert(_instances).values(space_id=space_id, **fields.columns()).returning(_instances.c.id)
    created: int = (await session.execute(statement)).scalar_one()
    return created


async def change(session: AsyncSession, instance_id: int, fields: InstanceFields) -> None:
    await session.execute(
        update(_instances)
        .where(_instances.c.id == instance_id)
        .values(revision=_instances.c.revision + 1, **fields.columns())
    )


async def set_tags(session: AsyncSession, instance_id: int, tag_ids: Collection[int]) -> None:
    """Makes these the instance's tags, and no others."""
    await session.execute(delete(_links).where(_links.c.instance_id == instance_id))
    if tag_ids:
        await session.execute(
            insert(_links), [{"instance_id": instance_id, "tag_id": tag_id} for tag_id in sorted(tag_ids)]
        )


async def counts_by_kind(session: AsyncSession, space_id: int | None) -> list[KindCount]:
    """One for each combination that occurs."""
    status = (_instances.c.is_active, _instances.c.deleted_at.is_not(None))
    kinds = (type_coerce(_instances.c.db_type, String), type_coerce(_instances.c.environment, String), *status)
    statement = select(*kinds, func.count()).group_by(*kinds)
    return [KindCount(*row) for row in await session.execute(_in_space(statement, space_id))]


async def counts_by_tag(session: AsyncSession, space_id: int | None) -> dict[str, int]:
    """How many instances, not deleted, carry each tag, in order of name; tags of one name are one."""
    statement = (
        select(_tags.c.name, func.count())
        .select_from(_links.join(_tags).join(_instances, _instances.c.id == _links.c.instance_id))
        .where(_instances.c.deleted_at.is_(None))
        .group_by(_tags.c.name)
        .order_by(_tags.c.name)
    )
    return {row[0]: row[1] for row in await session.execute(_in_space(statement, space_id))}


def _in_space(statement: Select[Any], space_id: int | None) -> Select[Any]:
    return statement if space_id is None else statement.where(_instances.c.space_id == space_id)


async def tags_named(session: AsyncSession, space_ids: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    """The tags of these spaces that have one of the names: name by id."""
    if not names:
        return {}
    statement = select(_tags.c.id, _tags.c.name).where(
        is_listed(session, _tags.c.space_id, space_ids), is_listed(session, _tags.c.name, names)
    )
    return {row.id: row.name for row in await session.execute(statement)}


async def lock_many(session: AsyncSession, instance_ids: Sequence[int]) -> list[LockedInstance]:
    """Those that exist and are not deleted; nobody else can change them until the transaction ends."""
    statement = (
        select(_instances.c.id, _instances.c.space_id, _instances.c.name)
        .where(is_listed(session, _instances.c.id, instance_ids), _instances.c.deleted_at.is_(None))
        # One order for everybody, so that two writers of the same rows wait for each other instead of deadlocking.
        .order_by(_instances.c.id)
    )
    return [LockedInstance(*row) for row in await session.execute(_locked(statement))]


async def link(session: AsyncSession, instance_ids: Sequence[int], tag_ids: Collection[int]) -> list[Link]:
    """Gives each instance those of the tags that are of its space, and returns the links that are new."""
    pairs = (
        select(_instances.c.id, _tags.c.id)
        .join_from(_instances, _tags, _instances.c.space_id == _tags.c.space_id)
        .where(is_listed(session, _instances.c.id, instance_ids), is_listed(session, _tags.c.id, list(tag_ids)))
    )
    dialect = postgresql if dialect_name(session) == "postgresql" else sqlite
    statement = (
        dialect.insert(_links)
        .from_select(["instance_id", "tag_id"], pairs)
        .on_conflict_do_nothing()
        .returning(_links.c.instance_id, _links.c.tag_id)
    )
    return [Link(*row) for row in await session.execute(statement)]


async def unlink(session: AsyncSession, instance_ids: Sequence[int], tag_ids: Collection[int]) -> list[Link]:
    """Takes the tags off the instances, and returns the links that are gone."""
    statement = (
        delete(_links)
        .where(
            is_listed(session, _links.c.instance_id, instance_ids), is_listed(session, _links.c.tag_id, list(tag_ids))
        )
        .returning(_links.c.instance_id, _links.c.tag_id)
    )
    return [Link(*row) for row in await session.execute(statement)]


async def overloaded(session: AsyncSession, instance_ids: Sequence[int], max_tags: int) -> list[int]:
    """Those that carry more tags than an instance may have."""
    statement = (
        select(_links.c.instance_id)
        .where(is_listed(session, _links.c.instance_id, instance_ids))
        .group_by(_links.c.instance_id)
        .having(func.count() > max_tags)
        .order_by(_links.c.instance_id)
    )
    return list(await session.scalars(statement))


async def raise_revisions(session: AsyncSession, instance_ids: Sequence[int]) -> None:
    await session.execute(
        update(_instances)
        .where(is_listed(session, _instances.c.id, instance_ids))
        .values(revision=_instances.c.revision + 1)
    )
