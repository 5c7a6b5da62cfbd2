"""SQL about sync sessions, and about the instances that are synced."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, String, case, cast, exists, func, insert, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import is_listed
from app.instances.selection import instances
from app.models.base import table_of, utc_now
from app.models.operation import Operation, OperationState
from app.models.sync import SyncInstanceRecord, SyncKind, SyncSession, SyncState, SyncTrigger
from app.pagination import PageRequest, Sort
from app.syncs.records import KnownConnection, SessionFilter, SessionPage, SessionRecord, SyncedInstance

_sessions = table_of(SyncSession)
_records = table_of(SyncInstanceRecord)
_operations = table_of(Operation)
_synced_columns = [instances.c[name] for name in SyncedInstance._fields]


async def spaces_of(session: AsyncSession, instance_ids: Sequence[int]) -> list[int]:
    """The spaces in which these instances are, as far as they exist."""
    statement = select(instances.c.space_id).where(is_listed(session, instances.c.id, instance_ids)).distinct()
    return list(await session.scalars(statement))


async def instances_in(session: AsyncSession, space_id: int, instance_ids: Sequence[int]) -> dict[int, SyncedInstance]:
    """Those of the ids that are instances of the space, deleted ones too."""
    statement = select(*_synced_columns).where(
        is_listed(session, instances.c.id, instance_ids), instances.c.space_id == space_id
    )
    return {row.id: SyncedInstance._make(row) for row in await session.execute(statement)}


async def find_instance(session: AsyncSession, instance_id: int) -> SyncedInstance | None:
    """The instance, deleted or not."""
    row = (await session.execute(select(*_synced_columns).where(instances.c.id == instance_id))).one_or_none()
    return None if row is None else SyncedInstance._make(row)


async def instances_of(session: AsyncSession, instance_ids: Sequence[int]) -> dict[int, SyncedInstance]:
    """Those that there are, deleted ones too."""
    statement = select(*_synced_columns).where(is_listed(session, instances.c.id, instance_ids))
    return {row.id: SyncedInstance._make(row) for row in await session.execute(statement)}


async def find_connection(session: AsyncSession, instance_id: int) -> KnownConnection | None:
    columns = (instances.c[name] for name in KnownConnection._fields)
    row = (await session.execute(select(*columns).where(instances.c.id == instance_id))).one_or_none()
    return None if row is None else KnownConnection._make(row)


async def note_connection(session: AsyncSession, instance_id: int, version: str, connected_at: datetime) -> None:
    """Nobody changed the instance: its revision stays, and who changed it last, and when."""
    columns = instances.c
    values = {"updated_at": columns.updated_at, "updated_by": columns.updated_by}
    statement = update(instances).where(columns.id == instance_id)
    statement = statement.values(version=version, last_connected_at=connected_at, **values)
    await session.execute(statement, execution_options=SPACES_CHECKED)


async def create_session(session: AsyncSession, space_id: int, kinds: Sequence[SyncKind], trigger: SyncTrigger) -> int:
    statement = insert(_sessions).values(
        space_id=space_id, kinds=[each.value for each in kinds], trigger=trigger, state=SyncState.PENDING
    )
    return int((await session.execute(statement.returning(_sessions.c.id))).scalar_one())


async def change_session(session: AsyncSession, session_id: int, values: Mapping[str, Any]) -> None:
    """Of an operation's own session."""
    statement = update(_sessions).where(_sessions.c.id == session_id).values(**values)
    await session.execute(statement, execution_options=SPACES_CHECKED)


async def begin_session(session: AsyncSession, session_id: int) -> None:
    started_at = func.coalesce(_sessions.c.started_at, utc_now())
    values = {"state": SyncState.RUNNING, "started_at": started_at, "finished_at": None}
    await change_session(session, session_id, values)


async def end_session(session: AsyncSession, session_id: int, state: SyncState) -> None:
    """Its instances that were not done with are cancelled with it."""
    await cancel_running(session, session_id)
    await change_session(session, session_id, {"state": state, "finished_at": utc_now()})


async def cancel_running(session: AsyncSession, session_id: int, instance_id: int | None = None) -> None:
    """Ends the records that are under way; of one instance, or None for all."""
    statement = update(_records).where(_records.c.session_id == session_id, _records.c.state == SyncState.RUNNING)
    if instance_id is not None:
        statement = statement.where(_records.c.instance_id == instance_id)
    statement = statement.values(state=SyncState.CANCELLED, finished_at=utc_now())
    await session.execute(statement, execution_options=SPACES_CHECKED)


# An operation tells more exactly than its session, which learns nothing of one that is cancelled while it waits, is
# resumed or tried again. Once it is gone, nothing goes on.
_unended = (SyncState.PENDING, SyncState.RUNNING)
_state = case(
    (_operations.c.state == OperationState.QUEUED, SyncState.PENDING.value),
    (_operations.c.id.is_not(None), type_coerce(_operations.c.state, String)),
    (_sessions.c.state.in_(_unended), SyncState.CANCELLED.value),
    else_=type_coerce(_sessions.c.state, String),
)
_finished_at = case((_operations.c.id.is_not(None), _operations.c.finished_at), else_=_sessions.c.finished_at)
_shown: Mapping[str, ColumnElement[Any]] = {
    **dict(_sessions.c.items()),
    "state": _state.label("state"),
    "started_at": func.coalesce(_sessions.c.started_at, _operations.c.started_at).label("started_at"),
    "finished_at": _finished_at.label("finished_at"),
    "done": _operations.c.done,
    "total": _operations.c.total,
    "items": _operations.c.counts,
}
_sessions_shown = select(*(_shown[name] for name in SessionRecord._fields)).join_from(
    _sessions, _operations, _operations.c.id == _sessions.c.operation_id, isouter=True
)


async def find_session(session: AsyncSession, session_id: int) -> SessionRecord | None:
    row = (await session.execute(_sessions_shown.where(_sessions.c.id == session_id))).one_or_none()
    return None if row is None else SessionRecord._make(row)


async def page_of_sessions(session: AsyncSession, wanted: SessionFilter, request: PageRequest) -> SessionPage:
    """The newest first."""
    ordering = Sort.parse("-id", {"id": _sessions.c.id})
    statement = _sessions_shown.where(*_conditions(wanted))
    rows, cursor = ordering.cut((await session.execute(ordering.apply(statement, request))).all(), request)
    total = await _count(session, statement) if request.include_total else None
    return SessionPage([SessionRecord._make(row) for row in rows], cursor, total)


async def _count(session: AsyncSession, statement: Select[Any]) -> int:
    return await session.scalar(select(func.count()).select_from(statement.order_by(None).subquery())) or 0


def _conditions(wanted: SessionFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        found.append(_state == wanted.state.value)
    if wanted.trigger is not None:
        found.append(_sessions.c.trigger == wanted.trigger)
    if wanted.kind is not None:
        found.append(cast(_sessions.c.kinds, String).contains(f'"{wanted.kind.value}"'))
    if wanted.space_id is not None:
        found.append(_sessions.c.space_id == wanted.space_id)
    if wanted.instance_id is not None:
        is_of_instance = (_records.c.session_id == _sessions.c.id, _records.c.instance_id == wanted.instance_id)
        found.append(exists().where(*is_of_instance))
    return found
