import pytest

from app.access import rate_counters
from app.access.rate_counters import MinuteCounters
from app.access.rate_limits import network_of


class Clock:
    now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_counters, "time", clock)
    return clock


class TestCounters:
    async def test_counts_until_the_window_ends(self, clock: Clock) -> None:
        counters = MinuteCounters()
        assert [await counters.incr("a", 60), await counters.incr("a", 60)] == [1, 2]
        assert await counters.get_expiry("a") == 1_060
        clock.now = 1_059.9
        assert await counters.get("a") == 2
        clock.now = 1_060
        assert await counters.get("a") == 0
        assert await counters.incr("a", 60) == 1
        assert await counters.get_expiry("a") == 1_120

    async def test_each_key_by_itself(self, clock: Clock) -> None:
        counters = MinuteCounters()
        assert [await counters.incr("a", 60), await counters.incr("b", 60)] == [1, 1]

    async def test_forgets_what_has_expired(self, clock: Clock) -> None:
        counters = MinuteCounters()
        for number in range(100):
            await counters.incr(str(number), 60)
        clock.now = 1_061
        await counters.incr("later", 60)
        assert await counters.reset() == 1

    async def test_never_keeps_too_many(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rate_counters, "MAX_COUNTERS", 3)
        counters = MinuteCounters()
        for key in ("a", "b", "c", "d"):
            await counters.incr(key, 60)
        assert [await counters.get(key) for key in ("a", "b", "c", "d")] == [0, 1, 1, 1]


class TestNetwork:
    @pytest.mark.parametrize(
        ("address", "network"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:DB8:1:2::9", "2001:db8:1:2::"),
            (None, "nowhere"),
            ("a name", "nowhere"),
        ],
    )
    def test_is_whom_an_address_belongs_to(self, address: str | None, network: str) -> None:
        assert network_of(address) == network
