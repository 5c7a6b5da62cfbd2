"""Batch delete as an operation: what it was asked for, and how its worker does it.

1. The ids that have no item are looked at, some at a time. What is missing, changed or blocked gets its item at once.
2. The others are deleted as in every batch (deletion_runner), each in a transaction of its own that writes its item
   too, and does nothing when the attempt is over. Those that turn out to be blocked, changed or failed get their items
   then.
3. A durable commit, with another look for ids without an item: a crash of the server can take deletions back that it
   had answered, and their items with them. Such are done again.

While the database is away nothing is failed: its error goes to who runs the operation, and the attempt begins again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.audit.recorder import AuditEntry
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import DatabaseUnavailable
from app.instances.cascade import DeletionMode, InstanceCascadeDeletionPlan
from app.instances.deletion_batch import DeletionBatch, DeletionLedger, DeletionRequest, Planned, Seen
from app.instances.deletion_look import DeletionLook
from app.instances.deletion_program import ItemPlace
from app.instances.deletion_report import DeletionOutcome, ItemStatus
from app.instances.deletion_runner import DeletionRunner
from app.instances.plan_token import PlannedState
from app.models.audit import AuditOutcome
from app.models.operation import OperationState
from app.operations.records import Item, OperationRecord
from app.operations.work import Work

T = TypeVar("T")

log = structlog.get_logger(__name__)

# Looked at, or noted, in one go.
SLICE_IDS = 1_000

# By its place in the list of ids, from 1 on: an id.
Positions = Mapping[int, int]

_needed = {DeletionMode.SOFT: Permission.INSTANCE_DELETE, DeletionMode.HARD: Permission.INSTANCE_PURGE}


@dataclass(frozen=True, slots=True)
class OrderedDeletion:
    """What an operation is to delete. `planned` is what its plan token stood for; None when there was none."""

    instance_ids: tuple[int, ...]
    mode: DeletionMode
    force: bool
    planned: Planned | None

    @classmethod
    def of(cls, request: DeletionRequest, seen: Seen) -> "OrderedDeletion":
        planned = None
        if request.plan_token is not None:
            planned = {key: seen.state_of(key) for key in request.instance_ids}
        return cls(request.instance_ids, request.mode, request.force, planned)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "OrderedDeletion":
        ids = tuple(stored["instance_ids"])
        planned = None
        if stored["plan"] is not None:
            planned = {key: _planned_state(each) for key, each in zip(ids, stored["plan"], strict=True)}
        return cls(ids, DeletionMode(stored["mode"]), stored["force"], planned)

    def as_json(self) -> dict[str, Any]:
        """`plan` is aligned with the ids: revision and codes of blockers, null for an instance that was not there."""
        plan = None
        if self.planned is not None:
            states = (self.planned[key] for key in self.instance_ids)
            plan = [None if state is None else [state.revision, list(state.blockers)] for state in states]
        return {"instance_ids": list(self.instance_ids), "mode": self.mode.value, "force": self.force, "plan": plan}

    def positions(self) -> Positions:
        return dict(enumerate(self.instance_ids, start=1))


def _planned_state(stored: Sequence[Any] | None) -> PlannedState | None:
    return None if stored is None else PlannedState(stored[0], tuple(stored[1]))


class DeletionOperation:
    """Deletes over up to `connections` connections at once. See app.operations.work.OperationHandler."""

    good = effective = frozenset({ItemStatus.DELETED.value})

    def __init__(self, database: Database, plan: InstanceCascadeDeletionPlan, *, connections: int) -> None:
        self._database = database
        self._before = DeletionLook(database, plan)
        self._runner = DeletionRunner(database, self._before.described, connections=connections)

    async def work(self, work: Work) -> None:
        """Raises Forbidden, and DatabaseUnavailable when the database keeps forgetting what it was told."""
        ordered = OrderedDeletion.read(work.operation.request)
        narrow_to(_needed[ordered.mode])
        async with self._database.readers() as session:
            left = await _without_item(session, work, ordered.positions())
        while left and not work.stop.is_set():
            await self._delete(work, ordered, left)
            if work.stop.is_set():
                return
            forgotten = await self._settled(work, left)
            if len(forgotten) == len(left):
                raise DatabaseUnavailable("the database forgets deletions that it has answered; resume to try again")
            left = forgotten

    async def ended(self, session: AsyncSession, operation: OperationRecord, state: OperationState) -> None:
        """Nothing else ends with it."""

    def audit_entry(self, operation: OperationRecord, outcome: AuditOutcome) -> AuditEntry:
        return AuditEntry(
            action="instance:batch_delete",
            resource_type="batch",
            resource_id=None,
            resource_name=None,
            space_id=operation.space_id,
            outcome=outcome,
            batch_id=operation.batch_id,
            changes={"mode": operation.request["mode"]},
        )

    async def _delete(self, work: Work, ordered: OrderedDeletion, positions: Positions) -> None:
        """Every one of these gets its item, unless it is told to stop. Raises Fenced, and the database's error when it
        stays away."""
        seen = await self._look(work, ordered.mode, positions)
        if seen is None:
            return
        batch = _batch(work, ordered, positions, seen)
        orders = batch.orders(self._before.can_be_forced)
        await self._note(work, positions, batch.outcomes())
        await self._runner.run_until(work.stop, batch, orders)
        if batch.error is not None:
            raise batch.error
        tried = {order.instance_id for order in orders}
        await self._note(work, positions, (each for each in batch.outcomes() if each.instance_id in tried))

    async def _look(self, work: Work, mode: DeletionMode, positions: Positions) -> Seen | None:
        """None when it is told to stop."""
        seen = Seen({}, {})
        for some in _slices(list(positions.values())):
            if work.stop.is_set():
                return None
            seen = seen.with_more(await self._before.look(some, mode, with_rows=False))
        return seen

    async def _note(self, work: Work, positions: Positions, outcomes: Iterable[DeletionOutcome]) -> None:
        """Writes the items of those that were not deleted; a deletion wrote its own."""
        position_by_id = {key: position for position, key in positions.items()}
        items = [
            _item(position_by_id[each.instance_id], each) for each in outcomes if each.status is not ItemStatus.DELETED
        ]
        for some in _slices(items):

            async def note(session: AsyncSession, some: Sequence[Item] = some) -> list[Item]:
                await work.ledger.hold(session)
                # A deletion can have been committed although its answer was an error.
                known = await work.ledger.statuses(session, some[0].position, some[-1].position)
                new = [item for item in some if item.position not in known]
                await work.ledger.note(session, new)
                return new

            noted = await run_in_transaction(self._database.writers, note)
            work.advance(item.status for item in noted)

    async def _settled(self, work: Work, positions: Positions) -> Positions:
        """Which of these the server has forgotten, by a crash; the others are on disk."""

        async def settle(session: AsyncSession) -> Positions:
            # It writes to the log, so that its commit waits until the disk has all that was committed before.
            await work.ledger.hold(session)
            return await _without_item(session, work, positions)

        forgotten = await run_in_transaction(self._database.writers, settle)
        if forgotten:
            log.warning("the server forgot deletions; doing them again", count=len(forgotten))
            work.counts.subtract({ItemStatus.DELETED.value: len(forgotten)})
        return forgotten


async def _without_item(session: AsyncSession, work: Work, positions: Positions) -> Positions:
    left: dict[int, int] = {}
    for some in _slices(list(positions)):
        known = await work.ledger.statuses(session, some[0], some[-1])
        left |= {position: positions[position] for position in some if position not in known}
    return left


def _batch(work: Work, ordered: OrderedDeletion, positions: Positions, seen: Seen) -> DeletionBatch:
    operation = work.operation
    places = {key: ItemPlace(operation.id, operation.attempt, position) for position, key in positions.items()}
    ledger = DeletionLedger(operation.batch_id, places, lambda: work.advance((ItemStatus.DELETED.value,)))
    request = DeletionRequest(tuple(positions.values()), ordered.mode, ordered.force)
    return DeletionBatch(request, seen, planned=ordered.planned, ledger=ledger)


def _item(position: int, outcome: DeletionOutcome) -> Item:
    """Its detail is what the report would say beside the item's own columns."""
    columns = ("instance_id", "name", "status")
    detail = {key: value for key, value in outcome.as_json().items() if key not in columns}
    return Item(position, outcome.status.value, outcome.instance_id, outcome.name, detail or None)


def _slices(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + SLICE_IDS] for start in range(0, len(values), SLICE_IDS))
