"""Several pieces of work at once: order, bounds, and what becomes of the rest when one fails."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from app.instances.ordered_work import in_order


async def numbers(count: int) -> AsyncGenerator[int, None]:
    for number in range(count):
        yield number


class Work:
    def __init__(self, *, fails_at: int | None = None) -> None:
        self.running, self.most, self.ended = 0, 0, 0
        self._fails_at = fails_at

    async def __call__(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            # The later, the quicker: results would come in the wrong order.
            await asyncio.sleep(0.02 / (number + 1))
            if number == self._fails_at:
                raise ValueError(number)
            return number * 10
        finally:
            self.running -= 1
            self.ended += 1


class TestOrder:
    @pytest.mark.parametrize("at_once", [1, 2, 5, 50])
    async def test_results_come_in_the_order_of_the_items(self, at_once: int) -> None:
        work = Work()
        assert [each async for each in in_order(numbers(12), work, at_once=at_once)] == list(range(0, 120, 10))
        assert work.most == min(at_once, 12)

    async def test_of_nothing(self) -> None:
        assert [each async for each in in_order(numbers(0), Work(), at_once=2)] == []


class TestEnd:
    async def test_a_failure_is_raised_and_nothing_runs_on(self) -> None:
        work = Work(fails_at=3)
        results = []
        with pytest.raises(ValueError, match="3"):
            async for each in in_order(numbers(20), work, at_once=4):
                results.append(each)  # noqa: PERF401 - those before the failure are looked at
        assert results == [0, 10, 20]
        ended = work.ended
        await asyncio.sleep(0.05)
        assert (work.running, work.ended) == (0, ended)

    async def test_a_reader_that_leaves_ends_it(self) -> None:
        work = Work()
        async with aclosing(in_order(numbers(20), work, at_once=4)) as results:
            assert await anext(results) == 0
        assert work.running == 0
        assert work.ended < 20
