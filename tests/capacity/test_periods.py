"""Which days a period has, and how many periods a range."""

from datetime import date

import pytest

from app.capacity.periods import EARLIEST, LATEST, DayRange, count, name, span, usual_range, widened
from app.models.capacity import AggregationPeriod

DAY, WEEK, MONTH, QUARTER = AggregationPeriod


def days(first: str, last: str) -> DayRange:
    return DayRange(date.fromisoformat(first), date.fromisoformat(last))


class TestSpan:
    @pytest.mark.parametrize(
        ("period", "day", "first", "last"),
        [
            (DAY, "2026-11-23", "2026-11-23", "2026-11-23"),
            (WEEK, "2026-11-23", "2026-11-23", "2026-11-29"),
            (WEEK, "2026-11-29", "2026-11-23", "2026-11-29"),
            # The 53rd week of 2026 ends in 2027.
            (WEEK, "2027-01-01", "2026-12-28", "2027-01-03"),
            (WEEK, "2028-02-29", "2028-02-28", "2028-03-05"),
            (MONTH, "2026-12-31", "2026-12-01", "2026-12-31"),
            (MONTH, "2028-02-29", "2028-02-01", "2028-02-29"),
            (MONTH, "2027-02-28", "2027-02-01", "2027-02-28"),
            # 2100 is no leap year, 2000 was one.
            (MONTH, "2100-02-01", "2100-02-01", "2100-02-28"),
            (MONTH, "2000-02-01", "2000-02-01", "2000-02-29"),
            (QUARTER, "2026-01-01", "2026-01-01", "2026-03-31"),
            (QUARTER, "2026-06-30", "2026-04-01", "2026-06-30"),
            (QUARTER, "2026-09-30", "2026-07-01", "2026-09-30"),
            (QUARTER, "2026-12-31", "2026-10-01", "2026-12-31"),
        ],
    )
    def test_has_its_first_and_last_day(self, period: AggregationPeriod, day: str, first: str, last: str) -> None:
        assert span(period, date.fromisoformat(day)) == days(first, last)

    @pytest.mark.parametrize("period", AggregationPeriod)
    @pytest.mark.parametrize("day", [EARLIEST, LATEST])
    def test_exists_at_the_ends_of_time(self, period: AggregationPeriod, day: date) -> None:
        assert span(period, day).first <= day <= span(period, day).last

    def test_widens_a_range_to_whole_periods(self) -> None:
        assert widened(MONTH, days("2026-11-15", "2027-02-03")) == days("2026-11-01", "2027-02-28")


class TestCount:
    @pytest.mark.parametrize(
        ("period", "first", "last", "expected"),
        [
            (DAY, "2028-02-28", "2028-03-01", 3),
            (DAY, "2027-02-28", "2027-03-01", 2),
            (WEEK, "2026-12-28", "2027-01-03", 1),
            (WEEK, "2027-01-03", "2027-01-04", 2),
            (MONTH, "2026-12-31", "2027-01-01", 2),
            (QUARTER, "2026-11-01", "2027-04-01", 3),
        ],
    )
    def test_of_periods_that_have_a_day_in_the_range(
        self, period: AggregationPeriod, first: str, last: str, expected: int
    ) -> None:
        assert count(period, days(first, last)) == expected


class TestUsualRange:
    @pytest.mark.parametrize(
        ("period", "first", "periods"),
        [(DAY, "2026-10-25", 30), (WEEK, "2026-06-01", 26), (MONTH, "2025-12-01", 12), (QUARTER, "2025-01-01", 8)],
    )
    def test_is_what_one_wants_to_see(self, period: AggregationPeriod, first: str, periods: int) -> None:
        usual = usual_range(period, date(2026, 11, 23))
        assert usual == days(first, "2026-11-23")
        assert count(period, usual) == periods

    @pytest.mark.parametrize("period", AggregationPeriod)
    def test_does_not_begin_before_time(self, period: AggregationPeriod) -> None:
        assert usual_range(period, EARLIEST).first == EARLIEST


class TestName:
    @pytest.mark.parametrize(
        ("period", "first", "expected"),
        [
            (DAY, "2026-11-22", "2026-11-22"),
            (WEEK, "2026-11-23", "2026-11-23"),
            (MONTH, "2026-02-01", "2026-02"),
            (QUARTER, "2026-01-01", "2026-Q1"),
            (QUARTER, "2026-10-01", "2026-Q4"),
        ],
    )
    def test_is_short(self, period: AggregationPeriod, first: str, expected: str) -> None:
        assert name(period, date.fromisoformat(first)) == expected
