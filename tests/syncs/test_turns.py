"""Whose turn it is, where not all that will come is known yet."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from app.syncs.slots import ConnectionSlots, Place
from app.syncs.turns import take_turns


@dataclass(frozen=True)
class Turn:
    host: str


@dataclass
class Upcoming:
    """Gives out one part after the other; the last may be an error."""

    parts: list[Sequence[Turn] | Exception]
    asked: int = 0

    async def next(self) -> Sequence[Turn] | None:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.parts:
            return None
        part = self.parts.pop(0)
        if isinstance(part, Exception):
            raise part
        return part


@dataclass
class Server:
    """What hosts do when they have their turn: those that hang do so until they are let go."""

    hanging: frozenset[str] = frozenset()
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def take(self, turn: Turn, place: Place) -> None:
        self.begun.append(turn.host)
        if turn.host in self.hanging:
            await self.let_go.wait()
        self.ended.append(turn.host)


async def settled() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


class TestUpcoming:
    async def test_a_busy_host_hides_nobody(self) -> None:
        upcoming = Upcoming([[Turn("busy")] * 50, [Turn("busy")] * 50, [Turn("other"), Turn("another")]])
        server = Server(frozenset({"busy"}))
        taking = asyncio.create_task(take_turns(ConnectionSlots(4, 2), upcoming.next, server.take, asyncio.Event()))
        await settled()
        assert server.ended == ["other", "another"]
        assert server.begun.count("busy") == 2
        server.let_go.set()
        await taking
        assert server.ended.count("busy") == 100

    async def test_is_not_asked_for_before_there_is_room(self) -> None:
        parts = [[Turn(f"{part}-{number}") for number in range(3)] for part in range(4)]
        upcoming = Upcoming(list(parts))
        server = Server(frozenset(turn.host for part in parts for turn in part))
        taking = asyncio.create_task(take_turns(ConnectionSlots(4, 2), upcoming.next, server.take, asyncio.Event()))
        await settled()
        assert (upcoming.asked, len(server.begun)) == (2, 4)
        server.let_go.set()
        await taking
        assert (upcoming.asked, len(server.ended)) == (5, 12)

    async def test_may_have_nothing_for_a_while(self) -> None:
        upcoming, server = Upcoming([[], [Turn("a")], [], [], [Turn("b")], []]), Server()
        await take_turns(ConnectionSlots(1, 1), upcoming.next, server.take, asyncio.Event())
        assert server.ended == ["a", "b"]

    async def test_that_fails_ends_the_turns(self) -> None:
        upcoming = Upcoming([[Turn("slow")], OSError("the database is away")])
        server = Server(frozenset({"slow"}))
        with pytest.raises(OSError, match="the database is away"):
            await take_turns(ConnectionSlots(4, 2), upcoming.next, server.take, asyncio.Event())
        assert (server.begun, server.ended) == (["slow"], [])

    async def test_is_not_waited_for_once_all_is_to_stop(self) -> None:
        stop, asked = asyncio.Event(), asyncio.Event()

        async def upcoming() -> Sequence[Turn]:
            asked.set()
            await asyncio.sleep(60)
            raise AssertionError("nobody waits for it")

        taking = asyncio.create_task(take_turns(ConnectionSlots(4, 2), upcoming, Server().take, stop))
        await asked.wait()
        stop.set()
        await asyncio.wait_for(taking, 1)
