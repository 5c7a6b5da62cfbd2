"""The turns of a sync as they come: its slices are looked at one after the other, when there is room for more turns."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.database.transactions import run_beside_requests
from app.models.base import utc_now
from app.operations.work import Work
from app.syncs import repository, slice_repository
from app.syncs.instance_sync import Turn, refusal
from app.syncs.outcomes import InstanceOutcome, ItemStatus
from app.syncs.progress import SyncProgressTracker
from app.syncs.records import InstanceSlice, OrderedSync, SyncedInstance

# By the position of its item: an id.
Positions = Mapping[int, int]


class UpcomingTurns:
    """Of one attempt at an operation."""

    def __init__(self, database: Database, work: Work, ordered: OrderedSync, space_id: int) -> None:
        self._database = database
        self._work = work
        self._ordered = ordered
        self._space_id = space_id
        self._position = 0

    async def next(self) -> Sequence[Turn] | None:
        """Turns for those of the next slice that can be synced; the others get their items. None after the last slice.

        Raises Fenced, and the database's error when it is away.
        """
        looked = await run_beside_requests(self._database, self._look)
        if looked is None:
            return None
        self._position, turns, refused = looked
        self._work.advance(each.status for each in refused)
        return turns

    async def _look(self, session: AsyncSession) -> tuple[int, list[Turn], list[InstanceOutcome]] | None:
        """Where the slice begins, its turns, and what became of the others."""
        await self._work.ledger.hold(session)
        found = await slice_repository.following(session, self._ordered.session_id, self._position)
        if found is None:
            return None
        left = await self._without_item(session, found)
        known = await repository.instances_in(session, self._space_id, list(left.values())) if left else {}
        refused = {
            position: outcome
            for position, key in left.items()
            if (outcome := _refused(known.get(key), key)) is not None
        }
        await self._refuse(session, refused)
        turns = [
            Turn(self._work.ledger, self._ordered, self._space_id, position, key, known[key].host)
            for position, key in left.items()
            if position not in refused
        ]
        return found.first_position, turns, list(refused.values())

    async def _without_item(self, session: AsyncSession, found: InstanceSlice) -> Positions:
        done = await self._work.ledger.statuses(session, found.first_position, found.last_position)
        return {position: key for position, key in found.positions().items() if position not in done}

    async def _refuse(self, session: AsyncSession, refused: Mapping[int, InstanceOutcome]) -> None:
        await self._work.ledger.note(session, [outcome.item(position) for position, outcome in refused.items()])
        there = [each for each in refused.values() if each.status is not ItemStatus.MISSING]
        if there:
            tracker = SyncProgressTracker(session, self._ordered.session_id)
            await tracker.end_instances(there, self._ordered.kinds, utc_now())


def _refused(instance: SyncedInstance | None, instance_id: int) -> InstanceOutcome | None:
    if instance is None:
        return InstanceOutcome(ItemStatus.MISSING, instance_id)
    error = refusal(instance)
    return None if error is None else InstanceOutcome.refused(instance, error)
