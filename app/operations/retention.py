"""Removes operations that ended longer ago than anybody wants to look back, with their items.

In steps of a few thousand items, each a transaction of its own with a pause after it: an import of a million rows has a
million of them, and whoever else writes gets their turn in between. An operation whose items are partly gone is neither
resumed nor tried again (app.operations.service).
"""

from datetime import datetime, timedelta
from functools import partial

from app.database import Database
from app.database.transactions import in_steps, run_beside_requests
from app.models.base import utc_now
from app.operations import repository, retention_repository

STEP_OPERATIONS = 100
STEP_ITEMS = 5_000
PAUSE_SECONDS = 0.1


class OperationRetention:
    """Keeps `days` days after the end; 0 keeps everything for ever."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days

    async def remove(self, now: datetime | None = None) -> int:
        """Removes operations that ended more than the days before `now`, the oldest first; how many."""
        if self._days == 0:
            return 0
        now = now or utc_now()
        before = now - min(timedelta(self._days), now - datetime.min.replace(tzinfo=now.tzinfo))
        total = 0
        while ids := await self._oldest(before):
            total += await self._remove(ids, before)
        return total

    async def _oldest(self, before: datetime) -> list[int]:
        async with self._database.readers() as session:
            return await repository.finished_before(session, before, STEP_OPERATIONS)

    async def _remove(self, ids: list[int], before: datetime) -> int:
        """Those of them that nobody has taken up again meanwhile."""
        step = partial(retention_repository.remove_items, operation_ids=ids, before=before, limit=STEP_ITEMS)
        await in_steps(self._database, step, STEP_ITEMS, PAUSE_SECONDS)
        last = partial(retention_repository.remove, operation_ids=ids, before=before)
        return await run_beside_requests(self._database, last)
