"""Cron expressions, around the days when clocks change."""

from datetime import UTC, datetime

import pytest

from app.errors import FieldError
from app.syncs.cron import Cron, cron_expression


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def runs(expression: str, zone: str, after: str, count: int) -> list[str]:
    return [each.strftime("%Y-%m-%d %H:%M") for each in Cron(expression, zone).upcoming(at(after), count)]


class TestTimes:
    def test_are_those_of_the_zone(self) -> None:
        assert runs("0 3 * * *", "Europe/Berlin", "2026-07-01 12:00", 2) == ["2026-07-02 01:00", "2026-07-03 01:00"]
        assert runs("0 3 * * *", "Asia/Shanghai", "2026-07-01 12:00", 1) == ["2026-07-01 19:00"]

    def test_come_after_the_moment_itself(self) -> None:
        assert runs("0 3 * * *", "UTC", "2026-07-01 03:00", 1) == ["2026-07-02 03:00"]

    def test_on_the_last_days_of_months(self) -> None:
        assert runs("0 0 L * *", "UTC", "2028-01-15 00:00", 3) == [
            "2028-01-31 00:00", "2028-02-29 00:00", "2028-03-31 00:00",
        ]  # fmt: skip
        assert runs("0 0 29 2 *", "UTC", "2026-01-01 00:00", 1) == ["2028-02-29 00:00"]

    def test_on_weekdays_by_name_and_by_number(self) -> None:
        assert runs("30 6 * * mon-fri", "UTC", "2026-11-20 12:00", 1) == ["2026-11-23 06:30"]
        assert runs("30 6 * * 7", "UTC", "2026-11-20 12:00", 1) == ["2026-11-22 06:30"]


class TestSpring:
    """On 2026-03-29 Berlin's clocks go from 02:00 to 03:00, at 01:00 UTC."""

    def test_what_the_clock_skips_comes_right_after_the_gap(self) -> None:
        assert runs("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 2) == ["2026-03-29 01:00", "2026-03-30 00:30"]

    def test_every_hour_is_every_hour(self) -> None:
        assert runs("0 * * * *", "Europe/Berlin", "2026-03-28 23:30", 3) == [
            "2026-03-29 00:00", "2026-03-29 01:00", "2026-03-29 02:00",
        ]  # fmt: skip


class TestAutumn:
    """On 2026-10-25 Berlin's clocks go from 03:00 back to 02:00, at 01:00 UTC."""

    def test_what_the_clock_shows_twice_comes_once(self) -> None:
        assert runs("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 2) == ["2026-10-25 00:30", "2026-10-26 01:30"]

    def test_every_hour_is_every_hour(self) -> None:
        assert runs("0 * * * *", "Europe/Berlin", "2026-10-24 23:30", 3) == [
            "2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00",
        ]  # fmt: skip

    def test_a_look_within_the_second_hour_repeats_nothing(self) -> None:
        assert runs("30 2 * * *", "Europe/Berlin", "2026-10-25 01:10", 1) == ["2026-10-26 01:30"]


class TestRefused:
    @pytest.mark.parametrize(
        "expression",
        [
            "", "* * * *", "* * * * * *", "@daily", "0 25 * * *", "61 * * * *", "*/0 * * * *", "a b c d e",
            "R * * * *", "H * * * *", "0 0 31 13 *", "1;2 * * * *", "0 0 * * *" + " " * 90 + "x",
        ],
    )  # fmt: skip
    def test_what_is_no_expression(self, expression: str) -> None:
        with pytest.raises(FieldError) as refused:
            cron_expression(expression)
        assert refused.value.code == "invalid_format"

    def test_what_never_comes(self) -> None:
        with pytest.raises(FieldError, match="never comes"):
            Cron("0 0 30 2 *", "UTC")

    @pytest.mark.parametrize("zone", ["", "Mars/Olympus", "Europe", "../../etc/passwd", "/etc/localtime", "utc\x00"])
    def test_what_is_no_zone(self, zone: str) -> None:
        with pytest.raises(FieldError) as refused:
            Cron("0 0 * * *", zone)
        assert refused.value.code == "unknown_value"

    def test_spaces_are_made_single(self) -> None:
        assert cron_expression("  0   3 * *  1-5 ") == "0 3 * * 1-5"
