"""SQL about an operation's items, and about who may write them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import is_listed
from app.models.base import table_of
from app.models.operation import OperationItem
from app.operations.attempt import HELD
from app.operations.records import Item

operation_items = table_of(OperationItem)


async def hold(session: AsyncSession, attempt: Mapping[str, int]) -> bool:
    """Whether the attempt is the current one; then it stays so until the transaction ends."""
    return await session.scalar(HELD, attempt) is not None


async def noted_positions(session: AsyncSession, operation_id: int, positions: Sequence[int]) -> set[int]:
    """Which of these positions, at least one, have an item."""
    statement = select(operation_items.c.position).where(
        operation_items.c.operation_id == operation_id,
        is_listed(session, operation_items.c.position, positions),
    )
    return set(await session.scalars(statement))


async def statuses_between(session: AsyncSession, operation_id: int, first: int, last: int) -> dict[int, str]:
    """By position, the status of each item from `first` to `last`."""
    statement = select(operation_items.c.position, operation_items.c.status).where(
        operation_items.c.operation_id == operation_id,
        operation_items.c.position.between(first, last),
    )
    return dict((await session.execute(statement)).all())


async def counts(session: AsyncSession, operation_id: int) -> dict[str, int]:
    """Items by status."""
    statement = (
        select(operation_items.c.status, func.count())
        .where(operation_items.c.operation_id == operation_id)
        .group_by(operation_items.c.status)
    )
    return dict((await session.execute(statement)).all())


async def items_after(
    session: AsyncSession, operation_id: int, position: int, statuses: Sequence[str] | None, limit: int
) -> list[Item]:
    """The next items by position; of these statuses, or None for any."""
    columns = operation_items.c
    statement = (
        select(columns.position, columns.status, columns.instance_id, columns.name, columns.detail)
        .where(columns.operation_id == operation_id, columns.position > position)
        .order_by(columns.position)
        .limit(limit)
    )
    if statuses is not None:
        statement = statement.where(columns.status.in_(statuses))
    return [Item(*row) for row in await session.execute(statement)]


async def remove_items(session: AsyncSession, operation_id: int, statuses: Sequence[str] | None) -> int:
    """Forgets the items of these statuses, or None for all, so that they are worked on again; returns how many."""
    statement = delete(operation_items).where(operation_items.c.operation_id == operation_id)
    if statuses is not None:
        statement = statement.where(operation_items.c.status.in_(statuses))
    result = await session.execute(statement)
    return int(result.rowcount)  # type: ignore[attr-defined]
