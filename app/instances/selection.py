"""What a record of an instance is in SQL, and which instances a filter selects.

Filters become statements that hold parameters in the place of values, so that all filters of one shape share one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Select,
    String,
    and_,
    bindparam,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator

from app.instances.records import InstanceFilter, InstanceRecord, InstanceStatus
from app.models.base import table_of
from app.models.instance import Instance
from app.models.tag import InstanceTag, Tag

instances = table_of(Instance)
links = table_of(InstanceTag)
tags = table_of(Tag)

_LIKE_ESCAPE = "/"
_like_wildcards = str.maketrans({character: _LIKE_ESCAPE + character for character in "/%_"})


def tag_names(joined: str | None) -> Sequence[str]:
    """The names that the database joined, sorted; empty for NULL."""
    return sorted(joined.split("|")) if joined else ()


class _Names(TypeDecorator[Sequence[str]]):
    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[str]:
        return tag_names(value)


# One statement for instances and their tags: with a second one for the tags, a page of fifty takes half as long again.
# They are joined with what no name of a tag may hold.
_tags_of_instance = type_coerce(
    select(func.aggregate_strings(tags.c.name, "|"))
    .select_from(links.join(tags, tags.c.id == links.c.tag_id))
    .where(links.c.instance_id == instances.c.id)
    .scalar_subquery(),
    _Names,
)
_enumerated = frozenset({"db_type", "environment", "sync_policy", "tls_mode"})


def _record_column(name: str) -> ColumnElement[Any]:
    if name == "tags":
        return _tags_of_instance.label(name)
    column = instances.c[name]
    return type_coerce(column, String).label(name) if name in _enumerated else column


# The columns of an InstanceRecord, in its order.
records = select(*(_record_column(name) for name in InstanceRecord._fields))


@dataclass(frozen=True, slots=True)
class FilterShape:
    """What of a filter is set, whatever the values are."""

    status: InstanceStatus | None
    has_search: bool
    equal: tuple[str, ...]
    tags: int

    @classmethod
    def of(cls, wanted: InstanceFilter) -> "FilterShape":
        equal = tuple(name for name in _compared if getattr(wanted, name) is not None)
        return cls(wanted.status, bool(wanted.q), equal, len(wanted.tags))


_compared = ("db_type", "environment", "credential_id", "space_id")
_condition_by_status: dict[InstanceStatus | None, ColumnElement[bool]] = {
    None: instances.c.deleted_at.is_(None),
    InstanceStatus.ACTIVE: and_(instances.c.deleted_at.is_(None), instances.c.is_active),
    InstanceStatus.DISABLED: and_(instances.c.deleted_at.is_(None), ~instances.c.is_active),
    InstanceStatus.DELETED: instances.c.deleted_at.is_not(None),
}


def conditions(shape: FilterShape) -> Iterator[ColumnElement[bool]]:
    yield _condition_by_status[shape.status]
    if shape.has_search:
        part = bindparam("q", None, type_=String)
        yield or_(*(column.icontains(part, escape=_LIKE_ESCAPE) for column in (instances.c.name, instances.c.host)))
    for name in shape.equal:
        column = _record_column(name)
        yield column == bindparam(name, None, type_=column.type)
    for number in range(shape.tags):
        is_named = tags.c.name == bindparam(f"tag_{number}", None, type_=String)
        yield instances.c.id.in_(select(links.c.instance_id).join_from(links, tags).where(is_named))


def parameters(wanted: InstanceFilter) -> dict[str, Any]:
    """The values for the conditions of the filter's shape."""
    values = {name: getattr(wanted, name) for name in FilterShape.of(wanted).equal}
    if wanted.q:
        values["q"] = wanted.q.translate(_like_wildcards)
    return values | {f"tag_{number}": name for number, name in enumerate(wanted.tags)}


def locked(statement: Select[Any]) -> Select[Any]:
    """Locks against changes and deletion; rows below an instance can still be added, as no change touches its key."""
    return statement.with_for_update(key_share=True)
