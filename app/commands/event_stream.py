"""Reads server-sent events (WHATWG HTML, section 9.2), as far as our own server writes them: lines end in LF or CRLF.

The HTTP client's own way to read lines splits at every character that Unicode calls a line's end, and JSON may hold
some of these.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is the last one that the stream told, with this event or before it."""

    name: str
    data: str
    id: str | None


def events_of(pieces: Iterable[bytes]) -> Iterator[Event]:
    """The events with data, as soon as they are whole; one that is cut off by the stream's end is none."""
    unfinished = _Unfinished()
    for line in _lines(pieces):
        if not line:
            yield from unfinished.finished()
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            unfinished.take(name, value.removeprefix(" "))


@dataclass(slots=True)
class _Unfinished:
    name: str = ""
    data: list[str] = field(default_factory=list)
    id: str | None = None

    def take(self, name: str, value: str) -> None:
        match name:
            case "event":
                self.name = value
            case "data":
                self.data.append(value)
            case "id" if "\0" not in value:
                self.id = value

    def finished(self) -> Iterator[Event]:
        """The event that ends here, if it is one; what follows begins anew, but for the id."""
        if self.data:
            yield Event(self.name or "message", "\n".join(self.data), self.id)
        self.name = ""
        self.data = []


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
