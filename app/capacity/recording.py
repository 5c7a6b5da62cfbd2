"""Writes what a sync measured: one row for each object and day, and the aggregations that follow from them.

1. The caller holds the instance: two who record different days of a month would each sum it up without the other's.
2. The day's measurement is the last one made on it. One that was made before the one that is stored (a sync that was
   resumed late) changes nothing; a later one replaces it.
3. Sizes that differ from what the day has are written, the total and the largest tables always.
4. Every day, week, month and quarter with the day in it is summed up again from the stored days, wherever in it the
   day lies: late days count as if they had come in time.
5. Not so a period that begins before the days that are kept: its first days may have been removed, and with them what
   it was summed up from. What was known of it stays until it is removed too.

The day is that of the moment in UTC, whatever zone the moment, the server or this machine is in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from app.capacity import recording_repository as repository
from app.capacity.periods import DayRange, span
from app.capacity.recording_repository import Measured
from app.capacity.records import DatabaseSize, Sizes, StoredSizes, TableSize
from app.config import Settings
from app.fields import in_utc
from app.inventory.stored_text import stored_name
from app.models.capacity import AggregationPeriod
from app.turns import in_turns

# Beyond 8 PiB a server's figure is no size, and not every reader of JSON tells such numbers apart (RFC 8259, 6).
MAX_BYTES: Final = 2**53 - 1
MAX_NAME_CHARACTERS: Final = 255
USUAL_RETENTION_DAYS: Final[int] = Settings.model_fields["statistics_retention_days"].default


class SizeRecorder:
    """`retention_days` is MUSTER_STATISTICS_RETENTION_DAYS; 0 keeps everything. The caller commits."""

    def __init__(self, session: AsyncSession, retention_days: int = USUAL_RETENTION_DAYS) -> None:
        self._session = session
        self._retention_days = retention_days

    async def record(self, instance_id: int, sizes: Sizes, measured_at: datetime) -> frozenset[str]:
        """The databases, by name as it is stored, of which another size is recorded than the last one up to the day:
        those too of which there was none."""
        moment = in_utc(measured_at)
        measured = Measured(instance_id, moment, moment.date())
        databases = _databases(sizes.databases)
        stored = await repository.stored_sizes(self._session, measured, list(databases))
        if stored.measured_at is not None and stored.measured_at > moment:
            return frozenset()
        await self._write(measured, stored, databases, await _tables(sizes.tables))
        return frozenset(name for name, each in databases.items() if stored.last.get(name) != each)

    async def _write(
        self,
        measured: Measured,
        stored: StoredSizes,
        databases: Mapping[str, DatabaseSize],
        tables: Sequence[TableSize],
    ) -> None:
        changed = [each for each in databases.values() if stored.of_day.get(each.name) != each]
        total = min(sum(each.size_bytes for each in databases.values()), MAX_BYTES)
        await repository.write_sizes(self._session, measured, total, len(databases), changed, tables)
        periods = self._periods(measured.day)
        if periods and (changed or stored.total_bytes != total):
            await repository.aggregate(self._session, measured, [each.name for each in changed], periods)

    def _periods(self, day: date) -> dict[AggregationPeriod, DayRange]:
        """Those with the day in them whose days are all kept."""
        spans = {period: span(period, day) for period in AggregationPeriod}
        if self._retention_days == 0:
            return spans
        today = datetime.now(UTC).date()
        kept_from = today - timedelta(days=min(self._retention_days, (today - date.min).days))
        return {period: days for period, days in spans.items() if days.first >= kept_from}


def _databases(found: Iterable[DatabaseSize]) -> dict[str, DatabaseSize]:
    """As they can be stored, by name; of two with the same name the first stands."""
    by_name: dict[str, DatabaseSize] = {}
    for each in found:
        name = stored_name(each.name, MAX_NAME_CHARACTERS)
        if name not in by_name:
            by_name[name] = DatabaseSize(
                name, _bytes(each.size_bytes), _optional(each.data_bytes), _optional(each.index_bytes)
            )
    return by_name


async def _tables(found: Iterable[TableSize]) -> list[TableSize]:
    by_name: dict[tuple[str, str, str], TableSize] = {}
    async for each in in_turns(found):
        names = [stored_name(name, MAX_NAME_CHARACTERS) for name in _names(each)]
        by_name.setdefault((names[0], names[1], names[2]), each)
    return [
        replace(
            each,
            database_name=database,
            schema_name=schema,
            table_name=table,
            size_bytes=_bytes(each.size_bytes),
            data_bytes=_optional(each.data_bytes),
            index_bytes=_optional(each.index_bytes),
            row_estimate=_optional(each.row_estimate),
        )
        async for (database, schema, table), each in in_turns(by_name.items())
    ]


def _names(table: TableSize) -> tuple[str, str, str]:
    return table.database_name, table.schema_name, table.table_name


def _bytes(size: int) -> int:
    return min(max(int(size), 0), MAX_BYTES)


def _optional(size: int | None) -> int | None:
    """Servers tell by a negative number that they do not know."""
    return None if size is None or size < 0 else _bytes(size)
