"""SQL about snapshots of settings."""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.bulk_loads import insert_rows
from app.database.statements import stored_timestamp
from app.inventory.reading_records import Found, HistoryRecord, SnapshotRecord
from app.inventory.setting_changes import setting_changes
from app.models.base import table_of
from app.models.inventory import InstanceConfigSnapshot
from app.pagination import PageRequest, Sort

_snapshots = table_of(InstanceConfigSnapshot)
_sortable = {name: _snapshots.c[name] for name in ("id", "captured_at")}


class LastSnapshot(NamedTuple):
    settings: dict[str, str]
    digest: str
    captured_at: datetime


_last = (
    select(*(_snapshots.c[name] for name in LastSnapshot._fields))
    .where(_snapshots.c.instance_id == bindparam("instance_id", type_=BigInteger()))
    .order_by(_snapshots.c.captured_at.desc(), _snapshots.c.id.desc())
    .limit(1)
)


async def last_snapshot(session: AsyncSession, instance_id: int) -> LastSnapshot | None:
    """Of an instance that was looked up."""
    result = await session.execute(_last, {"instance_id": instance_id}, execution_options=SPACES_CHECKED)
    row = result.one_or_none()
    return None if row is None else LastSnapshot._make(row)


async def add(session: AsyncSession, instance_id: int, settings: bytes, digest: str, captured_at: datetime) -> None:
    """`settings` is JSON. The instance must be held."""
    row = (instance_id, settings.decode(), digest, stored_timestamp(session, captured_at))
    await insert_rows(session, _snapshots, ("instance_id", "settings", "digest", "captured_at"), [row])


async def history(session: AsyncSession, instance_id: int, request: PageRequest) -> Found[HistoryRecord]:
    """What changed from snapshot to snapshot, newest first; the first one changed nothing. The instance must have been
    looked up. Raises InvalidCursor."""
    ordering = Sort.parse("-captured_at", _sortable)
    statement = select(*(_snapshots.c[name] for name in SnapshotRecord._fields)).where(
        _snapshots.c.instance_id == instance_id
    )
    # One more than a page and what tells of a next one: the snapshot before the oldest change.
    statement = ordering.apply(statement, replace(request, limit=request.limit + 1))
    rows = (await session.execute(statement, execution_options=SPACES_CHECKED)).all()
    items, next_cursor = ordering.cut([_change(*pair) for pair in pairwise(map(SnapshotRecord._make, rows))], request)
    return Found(items, next_cursor, await _count_changes(session, instance_id) if request.include_total else None)


def _change(later: SnapshotRecord, earlier: SnapshotRecord) -> HistoryRecord:
    return HistoryRecord(later.id, later.captured_at, setting_changes(earlier.settings, later.settings))


async def _count_changes(session: AsyncSession, instance_id: int) -> int:
    statement = select(func.count(_snapshots.c.id)).where(_snapshots.c.instance_id == instance_id)
    return max(0, (await session.execute(statement, execution_options=SPACES_CHECKED)).scalar_one() - 1)
