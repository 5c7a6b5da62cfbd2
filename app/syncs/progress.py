"""Keeps track of a sync: what is under way, what became of each instance, how far the whole is.

All of it is in the tables, as one record for each instance and kind: whoever asks, and whichever worker is at it, sees
the same. A record that is running keeps its instance from being deleted; it ends in the transaction that writes what
was found, together with the operation's item.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import utc_now
from app.models.sync import SyncKind, SyncState
from app.syncs import record_repository, repository
from app.syncs.outcomes import InstanceOutcome, KindOutcome
from app.syncs.records import SyncProgress

# Of the instances under way, and of those that cannot be reached, so many are named.
SHOWN_INSTANCES = 10


class SyncProgressTracker:
    """Of one session; works in the caller's transaction."""

    def __init__(self, session: AsyncSession, sync_session_id: int) -> None:
        self._session = session
        self._id = sync_session_id

    async def begin(self) -> None:
        """The session is being worked on, maybe once more."""
        await repository.begin_session(self._session, self._id)

    async def end(self, state: SyncState) -> None:
        await repository.end_session(self._session, self._id, state)

    async def begin_instance(self, instance_id: int, kinds: Sequence[SyncKind], started_at: datetime) -> None:
        """The instance's turn begins; it must be held against deletion."""
        fresh = KindOutcome()
        running = {"state": SyncState.RUNNING, "started_at": started_at, "finished_at": None}
        rows = [{**self._row(instance_id, kind, fresh, None), **running} for kind in kinds]
        await record_repository.put(self._session, rows)

    async def end_instances(
        self, outcomes: Sequence[InstanceOutcome], kinds: Sequence[SyncKind], started_at: datetime
    ) -> None:
        """What became of instances that are there: of each kind, or of all kinds the same error."""
        ended = {"started_at": started_at, "finished_at": utc_now()}
        rows = [
            {**self._row(outcome.instance_id, kind, of_kind, outcome.unreachable_since), **ended}
            for outcome in outcomes
            for kind, of_kind in (outcome.kinds or dict.fromkeys(kinds, KindOutcome(error=outcome.error))).items()
        ]
        await record_repository.put(self._session, rows)

    async def abandon(self, instance_id: int | None = None) -> None:
        """Nothing became of what is under way; of one instance, or of all."""
        await repository.cancel_running(self._session, self._id, instance_id)

    async def progress(self) -> SyncProgress:
        unreachable = await record_repository.count_unreachable(self._session, self._id)
        return SyncProgress(
            await record_repository.counts(self._session, self._id),
            await record_repository.under_way(self._session, self._id, SHOWN_INSTANCES),
            await record_repository.unreachable(self._session, self._id, SHOWN_INSTANCES) if unreachable else (),
            unreachable,
        )

    def _row(
        self, instance_id: int, kind: SyncKind, outcome: KindOutcome, unreachable_since: datetime | None
    ) -> Mapping[str, Any]:
        error = outcome.error
        return {
            "session_id": self._id,
            "instance_id": instance_id,
            "kind": kind,
            "state": outcome.state,
            **outcome.counts._asdict(),
            "milliseconds": outcome.milliseconds,
            "error_kind": None if error is None else error.kind,
            "error": None if error is None else error.message,
            "server_code": None if error is None else error.server_code,
            "unreachable_since": unreachable_since,
        }
