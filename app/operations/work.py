"""What an operation's handler is given, and what it must be: the port between the runner and each kind of work."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry
from app.models.audit import AuditOutcome
from app.models.operation import OperationState
from app.operations.ledger import Ledger
from app.operations.records import OperationRecord


class Work:
    """What a handler is given: the operation as it was taken, the ledger to write items with, and when to stop."""

    def __init__(self, operation: OperationRecord, counts: Mapping[str, int]) -> None:
        self.operation = operation
        self.ledger = Ledger(operation.id, operation.attempt)
        self.counts = Counter(counts)
        # Set when the handler is to stop between two items: cancelled, handed over, or taken over by somebody else.
        self.stop = asyncio.Event()
        self._noted: Mapping[str, int] = dict(counts)

    def advance(self, statuses: Iterable[str]) -> None:
        """Tells of items that were committed."""
        self.counts.update(statuses)

    def unnoted(self) -> Mapping[str, int] | None:
        """The counts, if they are others than when this was last asked."""
        if self.counts == self._noted:
            return None
        self._noted = dict(self.counts)
        return self._noted


class OperationHandler(Protocol):
    """How one kind of operation is done. It loads what it needs from the record and calls a service."""

    # Statuses of items that are as they should be, and of these the ones that tell that something was done.
    good: frozenset[str]
    effective: frozenset[str]

    async def work(self, work: Work) -> None:
        """Does what has no item yet, until it is done or `work.stop` is set. Raises Fenced, AppError for what cannot
        be done at all, and the database's errors."""
        ...

    async def ended(self, session: AsyncSession, operation: OperationRecord, state: OperationState) -> None:
        """Whatever else of this kind ends with the operation, in the transaction that ends it."""
        ...

    def audit_entry(self, operation: OperationRecord, outcome: AuditOutcome) -> AuditEntry:
        """The batch's own entry; its counts are added."""
        ...
