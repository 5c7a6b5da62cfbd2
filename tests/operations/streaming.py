"""A client that reads an answer while it is being sent; the usual one waits for its end."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

# Far more than anything here takes.
WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Event:
    """A comment is an event without a name."""

    name: str | None
    id: str | None
    data: Any


class Streamed:
    """One answer, piece by piece."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._begun = asyncio.Event()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._text = ""

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self._begun.set()
        elif message.get("body"):
            self._pieces.put_nowait(message["body"])

    async def begun(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self._begun.wait()

    def ended(self, _: object) -> None:
        self._begun.set()
        self._pieces.put_nowait(b"")

    async def next(self) -> Event | None:
        """None at the end."""
        async with asyncio.timeout(WAIT_SECONDS):
            while "\n\n" not in self._text:
                piece = await self._pieces.get()
                if not piece:
                    return None
                self._text += piece.decode()
        block, _, self._text = self._text.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        return Event(fields.get("event"), fields.get("id"), json.loads(fields["data"]) if "data" in fields else None)

    async def rest(self) -> list[Event]:
        events = []
        while event := await self.next():
            events.append(event)
        return events


@asynccontextmanager
async def streamed(app: FastAPI, path: str, headers: Mapping[str, str]) -> AsyncIterator[Streamed]:
    """The answer to a GET; the client is gone when the block ends."""
    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"muster.test"), *given],
        "client": ("127.0.0.1", 1),
        "server": ("muster.test", 80),
        "http_version": "1.1",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }
    answer = Streamed()
    task = asyncio.create_task(app(scope, answer.receive, answer.send))  # type: ignore[arg-type]
    task.add_done_callback(answer.ended)
    try:
        await answer.begun()
        yield answer
    finally:
        answer.gone.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await task
