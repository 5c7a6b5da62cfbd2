"""Items are written in the transaction of the change that they report, by whoever holds the operation's attempt.

A worker that was thought dead, and is not, holds an old attempt: its transactions are refused (Fenced) and change
nothing. Whoever takes an operation over waits until the transactions of the attempt before have ended.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.bulk_loads import insert_rows
from app.operations import ledger_repository as repository
from app.operations.records import Item

COLUMNS = ("operation_id", "position", "status", "instance_id", "name", "detail")


class Fenced(Exception):
    """Another worker has taken the operation over, or it was deleted: this one must not write any more."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Of one attempt at an operation."""

    operation_id: int
    attempt: int

    @property
    def parameters(self) -> dict[str, int]:
        """Those of app.operations.attempt.HELD."""
        return {"operation_id": self.operation_id, "attempt": self.attempt}

    async def hold(self, session: AsyncSession) -> None:
        """Keeps the attempt from being taken over until the transaction ends; call it first. Raises Fenced."""
        if not await repository.hold(session, self.parameters):
            raise Fenced(f"attempt {self.attempt} of operation {self.operation_id} is over")

    async def note(self, session: AsyncSession, items: Iterable[Item]) -> None:
        """Writes the items, in bulk. Raises IntegrityError for a position that has one already."""
        await insert_rows(session, repository.operation_items, COLUMNS, self._rows(items))

    async def has(self, session: AsyncSession, position: int) -> bool:
        return bool(await repository.noted_positions(session, self.operation_id, [position]))

    async def has_items(self, session: AsyncSession) -> bool:
        return bool(await repository.items_after(session, self.operation_id, 0, None, 1))

    async def statuses(self, session: AsyncSession, first: int, last: int) -> dict[int, str]:
        """By position, the status of each item from `first` to `last`."""
        return await repository.statuses_between(session, self.operation_id, first, last)

    def _rows(self, items: Iterable[Item]) -> Iterator[tuple[Any, ...]]:
        for item in items:
            detail = None if item.detail is None else orjson.dumps(item.detail).decode()
            yield self.operation_id, item.position, item.status, item.instance_id, item.name, detail
