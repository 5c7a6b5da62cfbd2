"""Syncs as an operation: how its worker does them.

1. The ids that have no item are looked at, some at a time. What is missing, or cannot be synced as it is registered,
   gets its item at once.
2. The others have their turn (instance_sync) whenever a connection is free and their host has room: a server that is
   slow keeps one connection, and nobody else waits for it.
3. When the operation is to stop, turns that are writing end what they write; those that wait for a server are given up
   at once, without an item: whoever goes on with the operation begins them again.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.audit.recorder import AuditEntry
from app.caller import current_call
from app.database import Database
from app.database.transactions import run_beside_requests
from app.errors import Forbidden
from app.models.audit import AuditOutcome
from app.models.base import utc_now
from app.models.operation import OperationState
from app.models.sync import SyncState
from app.operations.records import OperationRecord
from app.operations.work import Work
from app.syncs import repository
from app.syncs.instance_sync import InstanceSync, Turn, refusal
from app.syncs.outcomes import InstanceOutcome, ItemStatus
from app.syncs.progress import SyncProgressTracker
from app.syncs.records import OrderedSync, SyncedInstance
from app.syncs.slots import ConnectionSlots, Place, Waiting
from app.syncs.turns import take_turns

# Looked at, or refused, in one go.
SLICE_IDS = 500

# By its place in the list of ids, from 1 on: an id.
Positions = Mapping[int, int]


class SyncOperation:
    """See app.operations.work.OperationHandler. `slots` are the process's, over all operations."""

    good = frozenset({ItemStatus.SUCCEEDED.value})
    effective = frozenset({ItemStatus.SUCCEEDED.value, ItemStatus.PARTIAL.value})

    def __init__(self, database: Database, instance_sync: InstanceSync, slots: ConnectionSlots) -> None:
        self._database = database
        self._instance_sync = instance_sync
        self._slots = slots

    async def work(self, work: Work) -> None:
        """Raises Forbidden, Fenced, and the database's error when it is away."""
        space_id = _space_of(work)
        ordered = OrderedSync.read(work.operation.request)
        turns: list[Turn] = []
        for some in _slices(await self._begun(work, ordered)):
            if not work.stop.is_set():
                turns += await self._look(work, ordered, space_id, some)

        async def take(turn: Turn, place: Place) -> None:
            work.advance([await self._instance_sync.sync(turn, place)])

        await take_turns(self._slots, Waiting(turns), take, work.stop)
        if work.stop.is_set():
            await self._abandon(work, ordered)

    async def ended(self, session: AsyncSession, operation: OperationRecord, state: OperationState) -> None:
        ordered = OrderedSync.read(operation.request)
        await SyncProgressTracker(session, ordered.session_id).end(SyncState(state.value))

    def audit_entry(self, operation: OperationRecord, outcome: AuditOutcome) -> AuditEntry:
        ordered = OrderedSync.read(operation.request)
        return AuditEntry(
            action="instance:sync",
            resource_type="batch",
            resource_id=None,
            resource_name=None,
            space_id=operation.space_id,
            outcome=outcome,
            batch_id=operation.batch_id,
            changes={"kinds": list(ordered.kinds), "sync_session_id": ordered.session_id},
        )

    async def _begun(self, work: Work, ordered: OrderedSync) -> Positions:
        """What has no item yet."""

        async def begin(session: AsyncSession) -> Positions:
            await work.ledger.hold(session)
            await SyncProgressTracker(session, ordered.session_id).begin()
            known = await work.ledger.statuses(session, 1, len(ordered.instance_ids))
            return {place: key for place, key in ordered.positions().items() if place not in known}

        return await run_beside_requests(self._database, begin)

    async def _look(self, work: Work, ordered: OrderedSync, space_id: int, positions: Positions) -> list[Turn]:
        """Turns for those that can be synced; the others get their items."""

        async def look(session: AsyncSession) -> tuple[dict[int, SyncedInstance], list[InstanceOutcome]]:
            await work.ledger.hold(session)
            found = await repository.instances_in(session, space_id, list(positions.values()))
            refused = [each for key in positions.values() if (each := _refused(found.get(key), key)) is not None]
            await self._refuse(session, work, ordered, refused)
            return found, refused

        found, refused = await run_beside_requests(self._database, look)
        work.advance(each.status for each in refused)
        without_turn = {each.instance_id for each in refused}
        return [
            Turn(work.ledger, ordered, space_id, position, key, found[key].host)
            for position, key in positions.items()
            if key not in without_turn
        ]

    async def _refuse(
        self, session: AsyncSession, work: Work, ordered: OrderedSync, outcomes: Sequence[InstanceOutcome]
    ) -> None:
        position_by_id = {key: position for position, key in ordered.positions().items()}
        await work.ledger.note(session, [each.item(position_by_id[each.instance_id]) for each in outcomes])
        there = [each for each in outcomes if each.status is not ItemStatus.MISSING]
        if there:
            tracker = SyncProgressTracker(session, ordered.session_id)
            await tracker.end_instances(there, ordered.kinds, utc_now())

    async def _abandon(self, work: Work, ordered: OrderedSync) -> None:
        """What is under way keeps nobody from deleting an instance until somebody goes on with it."""

        async def abandon(session: AsyncSession) -> None:
            await work.ledger.hold(session)
            await SyncProgressTracker(session, ordered.session_id).abandon()

        await run_beside_requests(self._database, abandon)


def _space_of(work: Work) -> int:
    """The one that a sync works in. Raises Forbidden when it may not any more."""
    narrow_to(Permission.SYNC_RUN)
    space_id, spaces = work.operation.space_id, current_call().spaces
    assert space_id is not None
    if spaces is not None and space_id not in spaces:
        raise Forbidden(f"this needs the permission {Permission.SYNC_RUN.value} in space {space_id}")
    return space_id


def _refused(instance: SyncedInstance | None, instance_id: int) -> InstanceOutcome | None:
    if instance is None:
        return InstanceOutcome(ItemStatus.MISSING, instance_id)
    error = refusal(instance)
    return None if error is None else InstanceOutcome.refused(instance, error)


def _slices(positions: Positions) -> Iterator[Positions]:
    places = iter(positions.items())
    while some := dict(islice(places, SLICE_IDS)):
        yield some
