"""How many servers are connected to at once: so many in the process, and so many of one host, over all operations."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar


class OnHost(Protocol):
    @property
    def host(self) -> Hashable: ...


ItemT = TypeVar("ItemT", bound=OnHost)


class Waiting(Generic[ItemT]):
    """What has no slot yet, by host; hosts take turns."""

    def __init__(self, items: Iterable[ItemT] = ()) -> None:
        self._by_host: OrderedDict[Hashable, deque[ItemT]] = OrderedDict()
        self.add(items)

    def add(self, items: Iterable[ItemT]) -> None:
        for item in items:
            self._by_host.setdefault(item.host, deque()).append(item)

    def __bool__(self) -> bool:
        return bool(self._by_host)

    @property
    def hosts(self) -> Iterable[Hashable]:
        """The next one in turn first."""
        return self._by_host

    def take(self, host: Hashable) -> ItemT:
        queue = self._by_host[host]
        item = queue.popleft()
        if queue:
            self._by_host.move_to_end(host)
        else:
            del self._by_host[host]
        return item


class ConnectionSlots:
    """One for the process. Whoever waits for a host that is busy keeps no slot from anybody else."""

    def __init__(self, at_once: int, per_host: int) -> None:
        self._left = at_once
        self._per_host = per_host
        self._used: Counter[Hashable] = Counter()
        self._freed = asyncio.Event()

    async def take(self, waiting: Waiting[ItemT]) -> ItemT:
        """The next item whose host has room, once there is one; `free` gives its slot back."""
        while (host := self._host_with_room(waiting)) is None:
            await self.freed()
        self._left -= 1
        self._used[host] += 1
        return waiting.take(host)

    @property
    def are_taken(self) -> bool:
        return self._left <= 0

    def have_room_for(self, waiting: Waiting[ItemT]) -> bool:
        """Whether `take` would wait for nobody."""
        return self._host_with_room(waiting) is not None

    async def freed(self) -> None:
        """Waits until somebody gives a slot back."""
        await self._freed.wait()

    def free(self, host: Hashable) -> None:
        self._left += 1
        self._used[host] -= 1
        if not self._used[host]:
            del self._used[host]
        # Everybody who waits looks again, in the order in which they came; who comes later waits for the next one.
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()

    def place(self, host: Hashable) -> "Place":
        """Of whoever has just taken an item of the host."""
        return Place(self, host)

    def _host_with_room(self, waiting: Waiting[ItemT]) -> Hashable | None:
        """(No more hosts can be full than there are slots, so this looks at few.)"""
        if self.are_taken:
            return None
        return next((host for host in waiting.hosts if self._used[host] < self._per_host), None)


class Place:
    """A slot that somebody has. It is given back once, when the first asks for that."""

    def __init__(self, slots: ConnectionSlots, host: Hashable) -> None:
        self._slots: ConnectionSlots | None = slots
        self._host = host

    def free(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.free(self._host)
