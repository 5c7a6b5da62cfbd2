"""Tries a server's addresses one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.syncs.adapters.network_failures import timed_out
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

T = TypeVar("T")


async def connect_to_first(target: Target, connect: Callable[[str], Awaitable[T]]) -> T:
    """What `connect` makes of the first address where a server of the type is reached.

    In `target.connect_seconds` altogether; an address that does not answer leaves the others their share. Raises
    ServerFailure: a server's own refusal at once, else the last address's failure."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + target.connect_seconds
    for left in range(len(target.addresses), 0, -1):
        try:
            return await _connect_in(target, (ends - loop.time()) / left, connect, target.addresses[-left])
        except ServerFailure as failure:
            if left == 1 or not failure.kind.is_unreachable:
                raise
    raise ServerFailure(FailureKind.NAME_NOT_FOUND, f"{target.host} has no address", "look at the name's spelling")


async def _connect_in(target: Target, seconds: float, connect: Callable[[str], Awaitable[T]], address: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await connect(address)
    except TimeoutError as error:
        raise timed_out(target, "to be signed in to", target.connect_seconds) from error
