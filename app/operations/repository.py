"""SQL about operations themselves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.caller import Spaces
from app.database.statements import dialect_name
from app.models.base import table_of
from app.models.operation import Operation, OperationState
from app.operations.records import OperationFilter, OperationPage, OperationPlan, OperationRecord
from app.pagination import PageRequest, Sort

operations = table_of(Operation)
_columns = [operations.c[name] for name in OperationRecord.__slots__]
SORTS: Mapping[str, ColumnElement[Any]] = {"id": operations.c.id, "created_at": operations.c.created_at}


class Visible:
    """Whose operations a caller sees: their own, and where they may read all, those that work in these spaces.

    One that works in several spaces is shown only to its owner and to who may read all, everywhere.
    """

    def __init__(self, user_id: int, spaces: Spaces) -> None:
        self._user_id = user_id
        self._spaces = spaces

    def restrict(self, statement: Select[Any]) -> Select[Any]:
        if self._spaces is None:
            return statement
        own = operations.c.user_id == self._user_id
        return statement.where(or_(own, operations.c.space_id.in_(self._spaces)) if self._spaces else own)


async def create(session: AsyncSession, user_id: int | None, plan: OperationPlan, origin: Mapping[str, Any]) -> int:
    statement = insert(operations).values(
        user_id=user_id,
        kind=plan.kind,
        space_id=plan.space_id,
        state=OperationState.QUEUED,
        request=plan.request,
        origin=origin,
        upload_id=plan.upload_id,
        batch_id=plan.batch_id,
        total=plan.total,
        counts={},
    )
    return int((await session.execute(statement.returning(operations.c.id))).scalar_one())


async def find(session: AsyncSession, operation_id: int, visible: Visible | None = None) -> OperationRecord | None:
    statement = select(*_columns).where(operations.c.id == operation_id)
    return await _one(session, statement if visible is None else visible.restrict(statement))


async def lock(session: AsyncSession, operation_id: int, visible: Visible | None = None) -> OperationRecord | None:
    """The same, with the row locked, against those too who write its items."""
    statement = select(*_columns).where(operations.c.id == operation_id).with_for_update()
    return await _one(session, statement if visible is None else visible.restrict(statement))


async def lock_beside_items(session: AsyncSession, operation_id: int, visible: Visible) -> OperationRecord | None:
    """The same, with the row locked against other changes of the operation, but not against those who write its items:
    they hold it, by turns, for as long as it runs, and whoever waited for all of them could wait until its end."""
    statement = select(*_columns).where(operations.c.id == operation_id).with_for_update(key_share=True)
    return await _one(session, visible.restrict(statement))


async def _one(session: AsyncSession, statement: Select[Any]) -> OperationRecord | None:
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else OperationRecord(*row)


async def backend_of(session: AsyncSession) -> int | None:
    """PostgreSQL's number for the session's connection; SQLite has none."""
    if dialect_name(session) != "postgresql":
        return None
    return int((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def end_what_blocks(session: AsyncSession, backend: int, seconds: float) -> int:
    """Ends the connections whose transactions, older than that, keep the backend waiting; how many."""
    statement = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE pid = ANY(pg_blocking_pids(:backend)) AND xact_start < now() - make_interval(secs => :seconds)"
    )
    return int(await session.scalar(statement, {"backend": backend, "seconds": seconds}) or 0)


async def page(
    session: AsyncSession, visible: Visible, wanted: OperationFilter, sort: str, request: PageRequest
) -> OperationPage:
    statement = visible.restrict(select(*_columns))
    if wanted.kind is not None:
        statement = statement.where(operations.c.kind == wanted.kind)
    if wanted.state is not None:
        statement = statement.where(operations.c.state == wanted.state)
    order = Sort.parse(sort, SORTS)
    rows = (await session.execute(order.apply(statement, request))).all()
    shown, cursor = order.cut(rows, request)
    total = None
    if request.include_total:
        total = await session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    return OperationPage([OperationRecord(*row) for row in shown], cursor, total)


async def change(session: AsyncSession, operation_id: int, values: Mapping[str, Any]) -> None:
    statement = update(operations).where(operations.c.id == operation_id)
    await session.execute(statement.values(**values, revision=operations.c.revision + 1))


async def note_progress(
    session: AsyncSession, operation_id: int, attempt: int, done: int, counts: Mapping[str, int]
) -> bool:
    """False when the attempt is over."""
    statement = (
        update(operations)
        .where(operations.c.id == operation_id, operations.c.attempt == attempt)
        .values(done=done, counts=counts, revision=operations.c.revision + 1)
    )
    result = await session.execute(statement)
    return bool(result.rowcount)  # type: ignore[attr-defined]


async def remove(session: AsyncSession, operation_id: int) -> None:
    await session.execute(delete(operations).where(operations.c.id == operation_id))


async def unfinished_ids(session: AsyncSession) -> list[int]:
    """Queued ones, and those that were running when their process ended; the oldest first."""
    states = (OperationState.QUEUED, OperationState.RUNNING)
    statement = select(operations.c.id).where(operations.c.state.in_(states)).order_by(operations.c.id)
    return list(await session.scalars(statement))


async def finished_before(session: AsyncSession, moment: datetime, limit: int) -> list[int]:
    statement = (
        select(operations.c.id)
        .where(operations.c.finished_at < moment, operations.c.state.not_in(("queued", "running")))
        .order_by(operations.c.finished_at)
        .limit(limit)
    )
    return list(await session.scalars(statement))
