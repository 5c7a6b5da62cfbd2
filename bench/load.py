"""Clients that put a light or a full load on a server: keep-alive connections that cost little next to the server.

A steady client runs in a process of its own, so that nothing that the measuring process does delays it.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Self, cast

import uvloop

from bench import signing_in

HOST = "127.0.0.1"
ANSWER_SECONDS = 60
# More requests than these are never under way at once: a server that stalls for longer is stalled for all of them.
MAX_CONNECTIONS = 64


class Connection(asyncio.Protocol):
    """One keep-alive connection, on which each request has the same headers; one request at a time."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.is_open = True
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": HOST, **headers}.items())
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._expected: int | None = None
        self._answered: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int, headers: Mapping[str, str] = signing_in.BEARER) -> "Connection":
        _, protocol = await asyncio.get_running_loop().create_connection(lambda: cls(headers), HOST, port)
        return protocol

    async def get(self, path: str) -> bytes:
        """The body of a 200."""
        assert self._transport is not None
        self._received.clear()
        self._expected = None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(f"GET {path} HTTP/1.1\r\n{self._headers}\r\n".encode())
        await asyncio.wait_for(self._answered, ANSWER_SECONDS)
        head, _, body = bytes(self._received).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"GET {path}: {head.decode()}\n{body[:500]!r}")
        return body

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not an assertion: uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._expected is None:
            self._expected = self._length()
        if self._expected is not None and len(self._received) >= self._expected and self._is_waiting():
            assert self._answered is not None
            self._answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._is_waiting():
            assert self._answered is not None
            self._answered.set_exception(error or ConnectionResetError("the server closed the connection"))

    def _is_waiting(self) -> bool:
        return self._answered is not None and not self._answered.done()

    def _length(self) -> int | None:
        """Of head and body, once the head is whole."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end]).lower()
        start = head.index(b"content-length:") + len(b"content-length:")
        return end + 4 + int(head[start:].split(b"\r\n", 1)[0])


async def timed(connection: Connection, path: str) -> float:
    started = time.perf_counter()
    await connection.get(path)
    return time.perf_counter() - started


def requests_per_second(port: int, path: str, *, connections: int, seconds: float) -> float:
    """How many answers so many clients get, each asking again as soon as it is answered."""

    async def client(until: float) -> int:
        connection, answers = await Connection.open(port), 0
        while time.perf_counter() < until:
            await connection.get(path)
            answers += 1
        connection.close()
        return answers

    async def run() -> float:
        started = time.perf_counter()
        answers = await asyncio.gather(*(client(started + seconds) for _ in range(connections)))
        return sum(answers) / (time.perf_counter() - started)

    return uvloop.run(run())


class SteadyClient:
    """A process that asks `rate` times a second while it is told to, whether or not the answers before have come."""

    def __init__(self, port: int, path: str, rate: float) -> None:
        self._pipe, other = multiprocessing.Pipe()
        # Spawned: a fork would share this process's sockets.
        self._process = multiprocessing.get_context("spawn").Process(
            target=_obey, args=(other, port, path, rate), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.send("leave")
        self._process.join(ANSWER_SECONDS)

    def start(self) -> None:
        self._pipe.send("start")

    def stop(self) -> list[float]:
        """Seconds from sending each request to the last byte of its answer."""
        self._pipe.send("stop")
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        assert isinstance(answer, list)
        return answer


def _obey(pipe: Pipe, port: int, path: str, rate: float) -> None:
    uvloop.run(_serve(pipe, port, path, rate))


async def _serve(pipe: Pipe, port: int, path: str, rate: float) -> None:
    loop = asyncio.get_running_loop()
    commands: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(pipe.fileno(), lambda: commands.put_nowait(pipe.recv()))
    idle = [await Connection.open(port)]
    pipe.send("ready")
    while await commands.get() == "start":
        try:
            pipe.send(await _ask(port, path, rate, idle, commands))
        except (OSError, RuntimeError, TimeoutError) as error:
            pipe.send(repr(error))
    loop.remove_reader(pipe.fileno())


async def _ask(
    port: int, path: str, rate: float, idle: list[Connection], commands: asyncio.Queue[str]
) -> Sequence[float]:
    seconds: list[float] = []
    idle[:] = _open(idle) or [await Connection.open(port)]

    async def one() -> None:
        idle[:] = _open(idle)
        connection = idle.pop() if idle else await Connection.open(port)
        seconds.append(await timed(connection, path))
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        under_way: set[asyncio.Task[None]] = set()
        at = time.perf_counter()
        while commands.empty():
            if len(under_way) < MAX_CONNECTIONS:
                task = group.create_task(one())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            at += 1 / rate
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
    await commands.get()
    return seconds


def _open(connections: Sequence[Connection]) -> list[Connection]:
    """The server closes those that idle for some seconds, as all but the first few do after a stall."""
    return [each for each in connections if each.is_open]
