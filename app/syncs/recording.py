"""Writes what a server said into the inventory, in one transaction of the caller's."""

import time
from collections.abc import Mapping, Set

from sqlalchemy.ext.asyncio import AsyncSession

from app.capacity.recording import SizeRecorder
from app.classifications.assignment import AccountClassifier
from app.inventory.account_sync import AccountSync
from app.inventory.database_sync import DatabaseSync, SyncedDatabases
from app.inventory.member_sync import MemberSync
from app.inventory.records import SyncCounts
from app.inventory.settings_sync import SettingsSync
from app.models.sync import SyncKind
from app.syncs.failures import ServerFailure
from app.syncs.fetching import AccountsFound, CapacityFound, Fetched, Findings, Found, SettingsFound
from app.syncs.outcomes import KindOutcome, SyncError


class FindingsRecorder:
    """`statistics_days`: so long are sizes kept, and so far back are they summed up."""

    def __init__(self, session: AsyncSession, statistics_days: int) -> None:
        self._session = session
        self._statistics_days = statistics_days

    async def record(self, instance_id: int, findings: Findings) -> Mapping[SyncKind, KindOutcome]:
        """The instance must be locked."""
        return {kind: await self._outcome(instance_id, fetched, findings) for kind, fetched in findings.by_kind.items()}

    async def _outcome(self, instance_id: int, fetched: Fetched, findings: Findings) -> KindOutcome:
        """The time of a kind is from connecting to its last row, without what the other kinds took."""
        began = time.perf_counter()
        counts, error = SyncCounts(), None
        if isinstance(fetched.found, ServerFailure):
            error = SyncError.of(fetched.found)
        else:
            counts = await self._apply(instance_id, fetched.found, findings)
        seconds = findings.connect_seconds + fetched.seconds + time.perf_counter() - began
        return KindOutcome(counts, round(seconds * 1000), error)

    async def _apply(self, instance_id: int, found: Found, findings: Findings) -> SyncCounts:
        match found:
            case AccountsFound(accounts):
                counts = await AccountSync(self._session).apply(instance_id, accounts, findings.seen_at)
                await AccountClassifier(self._session).assign(instance_id)
                return counts
            case CapacityFound(databases, sizes):
                known = await DatabaseSync(self._session).apply(instance_id, databases, findings.seen_at)
                recorder = SizeRecorder(self._session, self._statistics_days)
                return _counts(known, await recorder.record(instance_id, sizes, findings.seen_at))
            case SettingsFound(settings, members):
                counts = await SettingsSync(self._session).apply(instance_id, settings, findings.seen_at)
                await MemberSync(self._session).apply(instance_id, members, findings.seen_at)
                return counts


def _counts(databases: SyncedDatabases, resized: Set[str]) -> SyncCounts:
    """A database that is as it was, but has another size, is an updated one."""
    counts = databases.counts
    count = sum(name in resized for name in databases.unchanged)
    return counts._replace(updated=counts.updated + count, unchanged=counts.unchanged - count)
