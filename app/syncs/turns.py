"""Has many servers asked at once: each has its turn whenever a connection is free and its host has room.

A server that is slow keeps one connection, and nobody else waits for it. Of very many turns few are known at a time:
the next ones are asked for when they are needed. A turn may give its place back before it ends, when it needs no
connection any more. When all is to stop, turns are given up at once; what one was writing is then undone, or committed
when its commit had begun.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from app.background import in_background
from app.syncs.slots import ConnectionSlots, OnHost, Place, Waiting

TurnT = TypeVar("TurnT", bound=OnHost)
# The next turns, maybe none; None when there are no more.
Next = Callable[[], Awaitable[Sequence[TurnT] | None]]
Take = Callable[[TurnT, Place], Awaitable[None]]


def all_at_once(turns: Sequence[TurnT]) -> Next[TurnT]:
    """Where all are known before the first begins."""
    parts = iter([turns])

    async def upcoming() -> Sequence[TurnT] | None:
        return next(parts, None)

    return upcoming


class _Queue(Generic[TurnT]):
    """Turns that wait for a connection, and beyond them those that have not been asked for yet.

    More are asked for only while there is a connection that none of those that wait can have: so many hosts that are
    free are enough, however many turns there will be, and no busy host keeps the others from being found.
    """

    def __init__(self, slots: ConnectionSlots, upcoming: Next[TurnT]) -> None:
        self._slots = slots
        self._upcoming: Next[TurnT] | None = upcoming
        self._waiting = Waiting[TurnT]()

    async def take(self) -> TurnT | None:
        """The next turn, with a slot for it; None when all were taken."""
        while self._upcoming is not None and not self._slots.have_room_for(self._waiting):
            if self._slots.are_taken:
                await self._slots.freed()
            else:
                await self._ask(self._upcoming)
        return await self._slots.take(self._waiting) if self._waiting else None

    async def _ask(self, upcoming: Next[TurnT]) -> None:
        turns = await upcoming()
        if turns is None:
            self._upcoming = None
        else:
            self._waiting.add(turns)


async def take_turns(slots: ConnectionSlots, upcoming: Next[TurnT], take: Take[TurnT], stop: asyncio.Event) -> None:
    """Until all had their turn, or `stop` is set. Raises what the first turn that fails raises, or what `upcoming`
    does; the other turns end."""
    turns = asyncio.create_task(_take_all(slots, upcoming, take, stop))
    try:
        async with in_background(_cancel_after(stop, turns)):
            await asyncio.wait({turns})
    finally:
        turns.cancel()
        await asyncio.wait({turns})
    if not turns.cancelled():
        turns.result()


async def _take_all(slots: ConnectionSlots, upcoming: Next[TurnT], take: Take[TurnT], stop: asyncio.Event) -> None:
    def free(place: Place, _: object) -> None:
        place.free()

    queue = _Queue(slots, upcoming)
    try:
        async with asyncio.TaskGroup() as group:
            while not stop.is_set() and (turn := await queue.take()) is not None:
                place = slots.place(turn.host)
                task = group.create_task(_take(turn, place, take, stop))
                # Not in the task: one that is cancelled before it begins does nothing at all.
                task.add_done_callback(partial(free, place))
    except BaseExceptionGroup as errors:
        # Whoever runs operations knows the database's errors and Fenced by their types.
        raise errors.exceptions[0] from None


async def _take(turn: TurnT, place: Place, take: Take[TurnT], stop: asyncio.Event) -> None:
    if not stop.is_set():
        await take(turn, place)


async def _cancel_after(stop: asyncio.Event, turns: asyncio.Task[None]) -> None:
    await stop.wait()
    turns.cancel()
