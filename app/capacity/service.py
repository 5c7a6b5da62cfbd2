"""Sizes over time, to read: of an instance, of one of its databases, of a space; and the largest tables."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, date, datetime

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from app.capacity import chart_repository, space_chart_repository, table_repository
from app.capacity.periods import DayRange, count, usual_range, widened
from app.capacity.records import CapacityQuery, Chart, TablePage, TableSize
from app.errors import InvalidCursor, ParameterError
from app.instances.service import InstanceService
from app.pagination import MAX_ID, PageRequest
from app.spaces.service import SpaceService

MAX_POINTS = 5_000
# Databases of an instance, or instances of a space, that are listed with what they have grown.
MAX_SHARES = 10

# Its size and its names: the last table of a page.
_TableKey = tuple[int, str, str, str]


class CapacityService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of_instance(self, instance_id: int, query: CapacityQuery) -> Chart:
        """Its total, or one of its databases; also of an instance that is deleted.

        Raises NotFound; ParameterError for a range that ends before it begins or has too many periods.
        """
        days = _days(query)
        instance = await InstanceService(self._session).get(instance_id)
        return Chart(
            instance.name if query.database is None else f"{instance.name}: {query.database}",
            query.period,
            days,
            await chart_repository.points(self._session, instance_id, query.period, days, query.database),
            await chart_repository.summary(self._session, instance_id, days, query.database),
            await chart_repository.largest_databases(self._session, instance_id, days, query.database, MAX_SHARES),
        )

    async def of_space(self, space_id: int, query: CapacityQuery) -> Chart:
        """The sum over its instances. Raises SpaceNotFound, ParameterError."""
        days = _days(query)
        space = await SpaceService(self._session).get(space_id)
        points, summary = await space_chart_repository.points(self._session, space_id, query.period, days)
        shares = await space_chart_repository.most_grown(self._session, space_id, days, MAX_SHARES)
        return Chart(space.name, query.period, days, points, summary, shares)

    async def largest_tables(
        self, instance_id: int, database: str | None, day: date | None, request: PageRequest
    ) -> TablePage:
        """As last measured, up to the end of the day where one is named. Raises NotFound, InvalidCursor."""
        await InstanceService(self._session).get(instance_id)
        moment, after = _decode(request.cursor)
        moment = moment or await table_repository.last_measured_at(self._session, instance_id, database, day)
        if moment is None:
            return TablePage([], None, None, 0 if request.include_total else None)
        found = await table_repository.largest(self._session, instance_id, database, moment, after, request.limit + 1)
        total = (
            await table_repository.count(self._session, instance_id, database, moment)
            if request.include_total
            else None
        )
        return TablePage(found[: request.limit], moment, _next_cursor(found, moment, request.limit), total)


def _days(query: CapacityQuery) -> DayRange:
    last = query.last or datetime.now(UTC).date()
    days = usual_range(query.period, last) if query.first is None else DayRange(query.first, last)
    if days.first > days.last:
        raise _refused(f"from ({days.first}) must not be after to ({days.last})")
    number = count(query.period, days)
    if number > MAX_POINTS:
        raise _refused(f"the range has {number} points; at most {MAX_POINTS} are given, so take a longer period")
    return widened(query.period, days)


def _refused(message: str) -> ParameterError:
    error = {"pointer": "/query/from", "code": "out_of_range", "message": message}
    return ParameterError(message, members={"errors": [error]})


def _next_cursor(found: Sequence[TableSize], moment: datetime, limit: int) -> str | None:
    """It holds the moment of the measurement too, so that pages go on in the one that they began in."""
    if len(found) <= limit:
        return None
    last = found[limit - 1]
    key = [moment.isoformat(), last.size_bytes, last.database_name, last.schema_name, last.table_name]
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def _decode(cursor: str | None) -> tuple[datetime | None, _TableKey | None]:
    if cursor is None:
        return None, None
    try:
        text, size, *names = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(text).astimezone(UTC)
        database, schema, table = names
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise InvalidCursor("the cursor is not one of ours") from error
    is_name = all(isinstance(name, str) and "\x00" not in name for name in names)
    if not is_name or type(size) is not int or not 0 <= size <= MAX_ID:
        raise InvalidCursor("the cursor is not one of ours")
    return moment, (size, database, schema, table)
