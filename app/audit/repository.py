"""SQL that reads the audit trail."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.records import AuditFilter, AuditPage, AuditRecord
from app.models.audit import AuditEvent
from app.models.base import table_of
from app.pagination import MAX_ID, PageRequest, Sort

_events = table_of(AuditEvent)
_columns = [_events.c[field.name] for field in fields(AuditRecord)]
# An entry equals each of these filters by the column of the same name.
_exact = ("api_key_prefix", "resource_type", "resource_id", "outcome", "batch_id", "request_id", "space_id")


async def page(session: AsyncSession, wanted: AuditFilter, sort: str, request: PageRequest) -> AuditPage:
    ordering = Sort.parse(sort, {"id": _events.c.id})
    conditions = _conditions(wanted)
    found = await session.execute(ordering.apply(select(*_columns).where(*conditions), request))
    rows, next_cursor = ordering.cut(found.all(), request)
    counted = select(func.count(_events.c.id)).where(*conditions)
    total = await session.scalar(counted) if request.include_total else None
    return AuditPage([_record(row) for row in rows], next_cursor, total)


async def page_before(session: AsyncSession, wanted: AuditFilter, id: int, limit: int) -> list[AuditRecord]:
    """The newest of those that are older than the entry with this id."""
    statement = select(*_columns).where(_events.c.id < id, *_conditions(wanted))
    found = await session.execute(statement.order_by(_events.c.id.desc()).limit(limit))
    return [_record(row) for row in found]


def _record(row: Sequence[Any]) -> AuditRecord:
    return AuditRecord(*row)


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    by_name = {name: getattr(wanted, name) for name in _exact}
    conditions = [_events.c[name] == value for name, value in by_name.items() if value is not None]
    if wanted.actor is not None:
        conditions.append(_is_actor(wanted.actor))
    if wanted.action is not None:
        conditions.append(_is_action(wanted.action))
    if wanted.since is not None:
        conditions.append(_events.c.occurred_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(_events.c.occurred_at < wanted.until)
    return conditions


def _is_actor(actor: str) -> ColumnElement[bool]:
    named = _events.c.actor_name == actor
    is_id = actor.isascii() and actor.isdecimal() and int(actor) <= MAX_ID
    return or_(named, _events.c.actor_id == int(actor)) if is_id else named


def _is_action(action: str) -> ColumnElement[bool]:
    if action.endswith(":"):
        return _events.c.action.startswith(action, autoescape=True)
    return _events.c.action == action
