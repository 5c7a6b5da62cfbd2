"""Cron expressions: five fields (minute, hour, day of month, month, day of week), read in a time zone.

What the clock skips in spring comes right after the gap. What it shows twice in autumn comes once, unless the
expression says "every hour": then every hour counts.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from croniter import CroniterBadDateError, CroniterError, croniter

from app.errors import FieldError, cut

MAX_CRON_CHARACTERS = 100
# Hashed and random fields, which croniter knows too, mean another time on every look.
_part = r"(?:[0-9*/,#-]|l|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun)+"
_five_fields = re.compile(rf"{_part}(?: {_part}){{4}}", re.IGNORECASE)


class Cron:
    """Raises FieldError when the expression or the zone is none, or never comes."""

    def __init__(self, expression: str, timezone: str) -> None:
        self._expression = cron_expression(expression)
        self._zone = _zone(timezone)
        self._is_hourly = "*" in self._expression.split()[1]
        if self.next_after(datetime.now(UTC)) is None:
            raise FieldError("invalid_format", f"cron never comes: {cut(expression)!r}")

    def next_after(self, moment: datetime) -> datetime | None:
        """In UTC; None when it never comes again."""
        return next(self._after(moment), None)

    def upcoming(self, moment: datetime, count: int) -> list[datetime]:
        return list(islice(self._after(moment), count))

    def _after(self, moment: datetime) -> Iterator[datetime]:
        times = croniter(self._expression, moment.astimezone(self._zone), ret_type=datetime)
        while True:
            try:
                found: datetime = times.get_next(datetime)
            except CroniterBadDateError:
                return
            if found.fold == 0 or self._is_hourly:
                yield found.astimezone(UTC)


def cron_expression(text: str) -> str:
    """With single spaces. Raises FieldError."""
    expression = " ".join(text.split())
    if len(expression) > MAX_CRON_CHARACTERS or not _five_fields.fullmatch(expression) or not _is_valid(expression):
        message = f"cron is five fields (minute hour day month weekday), such as '0 3 * * 1-5', not {cut(text)!r}"
        raise FieldError("invalid_format", message)
    return expression


def _is_valid(expression: str) -> bool:
    try:
        return bool(croniter.is_valid(expression))
    except CroniterError:
        return False


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    if name in _known_zones():
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, OSError):
            # A directory of the database, or a file of it that is none.
            pass
    raise FieldError("unknown_value", f"timezone is an IANA name such as Europe/Berlin, not {cut(name)!r}")
