"""Removes entries that are older than anybody has to keep, from the beginning of the chain, and leaves an anchor.

Only sealed entries go, oldest first, up to the first that is not old enough: what is left is a chain still, which the
anchor joins to what is gone. After a restart, entries from before it go first; its anchor tells how many are left. In
steps, each a transaction of its own with an entry about what it removed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import chain_repository as repository
from app.audit.chain import SEALED_COLUMNS, Anchor, Link, Sealing
from app.audit.recorder import AuditEntry, record
from app.audit.sealer import SealingRefused
from app.database import Database
from app.database.statements import sqlite_timestamp
from app.database.transactions import in_steps
from app.models.base import utc_now

STEP_ENTRIES = 2_000
PAUSE_SECONDS = 0.1
_moment = SEALED_COLUMNS.index("occurred_at")


class AuditRetention:
    """Keeps `days` days; 0 keeps everything for ever."""

    def __init__(self, database: Database, sealing: Sealing, days: int) -> None:
        self._database = database
        self._sealing = sealing
        self._days = days

    async def remove(self, now: datetime | None = None) -> int:
        """Removes what was recorded more than the days before `now`; how many entries. Raises SealingRefused."""
        if self._days == 0:
            return 0
        now = now or utc_now()
        before = sqlite_timestamp(now - min(timedelta(self._days), now - datetime.min.replace(tzinfo=now.tzinfo)))

        async def step(session: AsyncSession) -> int:
            return await self._step(session, before)

        return await in_steps(self._database, step, STEP_ENTRIES, PAUSE_SECONDS)

    async def _step(self, session: AsyncSession, before: str) -> int:
        await repository.wait_until_alone(session)
        anchor = await repository.newest_anchor(session)
        if anchor is None:
            return 0
        if not self._sealing.is_genuine(anchor):
            raise SealingRefused("the audit trail was sealed with another key, or its newest anchor was changed")
        after = anchor.end.sequence if anchor.unverifiable is None else repository.LOWEST
        oldest = await repository.sealed_after(session, after, STEP_ENTRIES)
        old = list(takewhile(lambda row: _is_before(row, before), oldest))
        unverifiable = [row for row in old if row.sequence <= anchor.end.sequence]
        return await self._remove(session, anchor, unverifiable or old) if old else 0

    async def _remove(self, session: AsyncSession, anchor: Anchor, old: Sequence[repository.SealedRow]) -> int:
        end = Link(old[-1].sequence, str(old[-1].seal))
        removed = await repository.remove(session, old[0].sequence, end.sequence)
        await repository.add_anchor(session, self._moved(anchor, end, removed))
        changes = {"entries": removed, "up_to_sequence": end.sequence}
        await record(session, AuditEntry("audit:remove", "audit", None, None, None, changes=changes))
        return removed

    def _moved(self, anchor: Anchor, end: Link, removed: int) -> Anchor:
        if anchor.unverifiable is not None and end.sequence <= anchor.end.sequence:
            return self._sealing.sealed_restart(anchor.end, anchor.unverifiable - removed, anchor.created_at)
        return self._sealing.sealed_anchor(end, removed, repository.stored_now())


def _is_before(row: repository.SealedRow, moment: str) -> bool:
    """By their text, whose order is that of time."""
    return str(row.values[_moment]) < moment
