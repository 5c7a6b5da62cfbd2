"""SQL about classifications themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.classifications.records import (
    ClassificationFilter,
    ClassificationPage,
    ClassificationRecord,
    RuleVersion,
)
from app.models.base import table_of
from app.models.inventory import AccountClassification, AccountClassificationVersion
from app.pagination import PageRequest, Sort

_classes = table_of(AccountClassification)
_versions = table_of(AccountClassificationVersion)
_columns = [_classes.c[field.name] for field in fields(ClassificationRecord)]
_sortable = {name: _classes.c[name] for name in ("id", "name", "priority", "created_at")}


async def page(
    session: AsyncSession, wanted: ClassificationFilter, sort: str, request: PageRequest
) -> ClassificationPage:
    ordering = Sort.parse(sort, _sortable)
    statement = select(*_columns).where(*_conditions(wanted))
    rows, cursor = ordering.cut((await session.execute(ordering.apply(statement, request))).all(), request)
    total = None
    if request.include_total:
        total = await session.scalar(select(func.count()).select_from(statement.subquery()))
    return ClassificationPage([_record(row) for row in rows], cursor, total)


def _conditions(wanted: ClassificationFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.space_id is not None:
        conditions.append(_classes.c.space_id == wanted.space_id)
    if wanted.is_enabled is not None:
        conditions.append(_classes.c.is_enabled.is_(wanted.is_enabled))
    return conditions


def _record(row: Sequence[Any]) -> ClassificationRecord:
    return ClassificationRecord(*row)


async def find(session: AsyncSession, classification_id: int) -> ClassificationRecord | None:
    row = (await session.execute(select(*_columns).where(_classes.c.id == classification_id))).one_or_none()
    return None if row is None else _record(row)


async def lock(session: AsyncSession, classification_id: int) -> ClassificationRecord | None:
    """The same, which nobody else changes or deletes until the transaction ends."""
    statement = select(*_columns).where(_classes.c.id == classification_id).with_for_update()
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


async def create(session: AsyncSession, space_id: int, values: Mapping[str, Any]) -> ClassificationRecord:
    statement = insert(_classes).values(space_id=space_id, **values).returning(*_columns)
    created = _record((await session.execute(statement)).one())
    await _keep_version(session, created)
    return created


async def change(session: AsyncSession, classification_id: int, values: Mapping[str, Any]) -> ClassificationRecord:
    """Another rule is another version, which is kept."""
    changes: dict[str, Any] = {**values, "revision": _classes.c.revision + 1}
    if "rule" in values:
        changes["rule_version"] = _classes.c.rule_version + 1
    statement = update(_classes).where(_classes.c.id == classification_id).values(**changes).returning(*_columns)
    changed = _record((await session.execute(statement)).one())
    if "rule" in values:
        await _keep_version(session, changed)
    return changed


async def _keep_version(session: AsyncSession, record: ClassificationRecord) -> None:
    await session.execute(
        insert(_versions).values(
            classification_id=record.id,
            space_id=record.space_id,
            rule_version=record.rule_version,
            rule=record.rule,
        )
    )


async def remove(session: AsyncSession, classification_id: int) -> None:
    """With its versions and assignments, by the database's own cascade."""
    await session.execute(delete(_classes).where(_classes.c.id == classification_id))


async def versions(session: AsyncSession, classification_id: int) -> list[RuleVersion]:
    """The newest first."""
    statement = (
        select(*(_versions.c[name] for name in RuleVersion._fields))
        .where(_versions.c.classification_id == classification_id)
        .order_by(_versions.c.rule_version.desc())
    )
    return [RuleVersion._make(row) for row in await session.execute(statement)]
