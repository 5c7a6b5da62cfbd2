"""Removes size statistics that are older than anybody wants to look back.

In steps of a few thousand rows, each a transaction of its own with a pause after it: syncs that write today's rows,
and on SQLite every other writer, get their turn in between.
"""

from datetime import UTC, date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.capacity import repository
from app.database import Database
from app.database.transactions import in_steps

STEP_ROWS = 5_000
PAUSE_SECONDS = 0.1


class StatisticsRetention:
    """Keeps `days` days before today; 0 keeps everything for ever."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days

    async def remove(self, today: date | None = None) -> dict[str, int]:
        """Removes measurements collected, and aggregations begun, more than the days before `today` (now, in UTC).

        Returns how many rows went, by table, without zeros. Where another process is at it already, nothing is done.
        """
        if self._days == 0:
            return {}
        today = today or datetime.now(UTC).date()
        day = today - timedelta(days=min(self._days, (today - date.min).days))
        removed = {
            statistics.table.name: await self._remove_from(statistics, day) for statistics in repository.STATISTICS
        }
        return {table: rows for table, rows in removed.items() if rows}

    async def _remove_from(self, statistics: repository.Statistics, day: date) -> int:
        async def step(session: AsyncSession) -> int:
            if not await repository.is_alone(session):
                return 0
            return await repository.delete_older(session, statistics, day, STEP_ROWS)

        return await in_steps(self._database, step, STEP_ROWS, PAUSE_SECONDS)
