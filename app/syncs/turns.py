"""Has many servers asked at once: each has its turn whenever a connection is free and its host has room.

A server that is slow keeps one connection, and nobody else waits for it. A turn may give its place back before it ends,
when it needs no connection any more. When all is to stop, turns are given up at once; what one was writing is then
undone, or committed when its commit had begun.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from app.background import in_background
from app.syncs.slots import ConnectionSlots, OnHost, Place, Waiting

TurnT = TypeVar("TurnT", bound=OnHost)
Take = Callable[[TurnT, Place], Awaitable[None]]


async def take_turns(slots: ConnectionSlots, waiting: Waiting[TurnT], take: Take[TurnT], stop: asyncio.Event) -> None:
    """Until all had their turn, or `stop` is set. Raises what the first turn that fails raises; the others end."""
    turns = asyncio.create_task(_take_all(slots, waiting, take, stop))
    try:
        async with in_background(_cancel_after(stop, turns)):
            await asyncio.wait({turns})
    finally:
        turns.cancel()
        await asyncio.wait({turns})
    if not turns.cancelled():
        turns.result()


async def _take_all(slots: ConnectionSlots, waiting: Waiting[TurnT], take: Take[TurnT], stop: asyncio.Event) -> None:
    def free(place: Place, _: object) -> None:
        place.free()

    try:
        async with asyncio.TaskGroup() as group:
            while waiting and not stop.is_set():
                turn = await slots.take(waiting)
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
