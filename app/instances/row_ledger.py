"""Where the outcomes of rows are written, in the transaction that they report: nowhere for a batch that answers with
its report, to an operation's items for one that works in the background."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.instances import batch_repository
from app.instances.batch_report import RowOutcome, RowStatus
from app.instances.batch_transactions import Evidence
from app.operations.ledger import Ledger
from app.operations.records import Item

# As long as the column is; a refused row's name can be longer.
MAX_NAME_CHARACTERS = 100


class RowLedger(Protocol):
    async def hold(self, session: AsyncSession) -> None:
        """The first statement of each transaction."""
        ...

    async def note(self, session: AsyncSession, outcomes: Sequence[RowOutcome]) -> None:
        """Writes the outcomes of this transaction's rows."""
        ...

    def evidence(self, outcomes: Sequence[RowOutcome]) -> Evidence | None:
        """Tells whether a transaction with these outcomes was committed; None when it changes nothing."""
        ...


class NoLedger:
    """The audit entries of changed instances are the evidence."""

    def __init__(self, batch_id: UUID) -> None:
        self._batch_id = batch_id

    async def hold(self, session: AsyncSession) -> None:
        pass

    async def note(self, session: AsyncSession, outcomes: Sequence[RowOutcome]) -> None:
        pass

    def evidence(self, outcomes: Sequence[RowOutcome]) -> Evidence | None:
        """Each changed instance has an audit entry; the first one's is as good as any.

        By the name too, because the id alone may be another's: one that a server had drawn and not yet used when it
        crashed can be drawn again.
        """
        for outcome in outcomes:
            if outcome.status in (RowStatus.CREATED, RowStatus.UPDATED):
                return recorded(self._batch_id, "instance", outcome.instance_id, outcome.name)
        return None


class OperationRows:
    """The items of an operation; `position` is the row's line."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def hold(self, session: AsyncSession) -> None:
        await self._ledger.hold(session)

    async def note(self, session: AsyncSession, outcomes: Sequence[RowOutcome]) -> None:
        await self._ledger.note(session, map(_item, outcomes))

    def evidence(self, outcomes: Sequence[RowOutcome]) -> Evidence | None:
        return partial(self._ledger.has, position=outcomes[0].line) if outcomes else None


def recorded(batch_id: UUID, resource_type: str, resource_id: int | None, resource_name: str | None) -> Evidence:
    """That the batch has an audit entry about the resource."""
    return partial(
        batch_repository.is_recorded,
        batch_id=batch_id,
        resource_type=resource_type,
        resource_id=resource_id,
        resource_name=resource_name,
    )


def _item(outcome: RowOutcome) -> Item:
    errors = outcome.errors_as_json()
    detail = {"errors": errors} if errors else None
    name = None if outcome.name is None else outcome.name[:MAX_NAME_CHARACTERS]
    return Item(outcome.line, outcome.status._value_, outcome.instance_id, name, detail)
