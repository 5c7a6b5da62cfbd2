"""Places among the connections that are open at once."""

from dataclasses import dataclass

from app.syncs.slots import ConnectionSlots, Waiting


@dataclass(frozen=True)
class Item:
    host: str


class TestPlace:
    async def test_is_given_back_once(self) -> None:
        """Whoever gives it back early must not free somebody else's at the end."""
        slots = ConnectionSlots(2, 2)
        waiting = Waiting([Item("a"), Item("a"), Item("a"), Item("a")])
        first, _ = [slots.place((await slots.take(waiting)).host) for _ in range(2)]
        first.free()
        first.free()
        await slots.take(waiting)
        assert slots._host_with_room(waiting) is None
