"""Days and the periods that they are summed up by: in UTC, weeks from Monday as in ISO 8601, quarters from January.

A range of days is given by its first and its last day, both of which are in it. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from app.errors import FieldError
from app.fields import in_utc, shown
from app.models.capacity import AggregationPeriod

# Within these every period of every day can be told, in Python's dates and in both databases'.
EARLIEST, LATEST = date(1970, 1, 1), date(9998, 12, 31)
# What a reader sees who names no beginning.
USUAL_PERIODS: Mapping[AggregationPeriod, int] = {
    AggregationPeriod.DAY: 30,
    AggregationPeriod.WEEK: 26,
    AggregationPeriod.MONTH: 12,
    AggregationPeriod.QUARTER: 8,
}
_months = {AggregationPeriod.MONTH: 1, AggregationPeriod.QUARTER: 3}
_days = {AggregationPeriod.DAY: 1, AggregationPeriod.WEEK: 7}


@dataclass(frozen=True, slots=True)
class DayRange:
    first: date
    last: date


def day_in_utc(given: object) -> date:
    """Of a date, or of a moment, which is in UTC where it names no zone, as text."""
    try:
        moment = datetime.fromisoformat(str(given))
    except ValueError as error:
        raise FieldError("invalid_format", f"a day is written like 2026-11-23, not {shown(str(given))}") from error
    day = in_utc(moment).date()
    if not EARLIEST <= day <= LATEST:
        raise FieldError("out_of_range", f"a day must be from {EARLIEST} to {LATEST}, not {day}")
    return day


def span(period: AggregationPeriod, day: date) -> DayRange:
    """The period that the day is in."""
    first = _first_day(period, day)
    return DayRange(first, _moved(period, first, 1) - timedelta(days=1))


def widened(period: AggregationPeriod, days: DayRange) -> DayRange:
    """The range of whole periods that have a day in common with the one given."""
    return DayRange(span(period, days.first).first, span(period, days.last).last)


def usual_range(period: AggregationPeriod, last: date) -> DayRange:
    """As many periods as one usually wants to see, up to the one with the last day."""
    first = _moved(period, _first_day(period, last), 1 - USUAL_PERIODS[period])
    return DayRange(max(first, EARLIEST), last)


def count(period: AggregationPeriod, days: DayRange) -> int:
    """How many periods have a day in the range."""
    first, last = _first_day(period, days.first), _first_day(period, days.last)
    if period in _days:
        return (last - first).days // _days[period] + 1
    return (_month(last) - _month(first)) // _months[period] + 1


def name(period: AggregationPeriod, first: date) -> str:
    """The period that begins on that day, as a label: `2026-11-22` for a day and for the week, `2026-11`, `2026-Q4`."""
    match period:
        case AggregationPeriod.MONTH:
            return f"{first.year:04}-{first.month:02}"
        case AggregationPeriod.QUARTER:
            return f"{first.year:04}-Q{(first.month + 2) // 3}"
    return first.isoformat()


def _first_day(period: AggregationPeriod, day: date) -> date:
    match period:
        case AggregationPeriod.DAY:
            return day
        case AggregationPeriod.WEEK:
            return day - timedelta(days=day.weekday())
        case AggregationPeriod.MONTH:
            return day.replace(day=1)
        case AggregationPeriod.QUARTER:
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)


def _moved(period: AggregationPeriod, first: date, periods: int) -> date:
    """The first day of the period that many later; earlier, where it is negative."""
    if period in _days:
        return first + timedelta(days=periods * _days[period])
    year, month = divmod(_month(first) + periods * _months[period], 12)
    return date(year, month + 1, 1)


def _month(day: date) -> int:
    """Months since the year 0."""
    return day.year * 12 + day.month - 1
