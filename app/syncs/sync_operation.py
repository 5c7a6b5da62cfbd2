"""Syncs as an operation: how its worker does them.

1. The instances are looked at some hundred at a time, whenever fewer hosts wait than can be connected to at once
   (upcoming_turns). What is missing, or cannot be synced as it is registered, gets its item at once.
2. The others have their turn (instance_sync) whenever a connection is free and their host has room: a server that is
   slow keeps one connection, and nobody else waits for it.
3. When the operation is to stop, turns that are writing end what they write; those that wait for a server are given up
   at once, without an item: whoever goes on with the operation begins them again.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.audit.recorder import AuditEntry
from app.caller import current_call
from app.database import Database
from app.database.transactions import run_beside_requests
from app.errors import Forbidden
from app.models.audit import AuditOutcome
from app.models.operation import OperationState
from app.models.sync import SyncState
from app.operations.records import OperationRecord
from app.operations.work import Work
from app.syncs.instance_sync import InstanceSync, Turn
from app.syncs.outcomes import ItemStatus
from app.syncs.progress import SyncProgressTracker
from app.syncs.records import OrderedSync
from app.syncs.slots import ConnectionSlots, Place
from app.syncs.turns import take_turns
from app.syncs.upcoming_turns import UpcomingTurns


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
        await self._begin(work, ordered)

        async def take(turn: Turn, place: Place) -> None:
            work.advance([await self._instance_sync.sync(turn, place)])

        upcoming = UpcomingTurns(self._database, work, ordered, space_id)
        await take_turns(self._slots, upcoming.next, take, work.stop)
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

    async def _begin(self, work: Work, ordered: OrderedSync) -> None:
        async def begin(session: AsyncSession) -> None:
            await work.ledger.hold(session)
            await SyncProgressTracker(session, ordered.session_id).begin()

        await run_beside_requests(self._database, begin)

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
