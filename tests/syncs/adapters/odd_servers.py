"""Servers that do not behave, and a relay that stops in the middle; each on a free loopback port."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# MySQL's capability flags: https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html
PROTOCOL_41, SSL, SECURE_CONNECTION, PLUGIN_AUTH = 1 << 9, 1 << 11, 1 << 15, 1 << 19


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """Gives the port; open connections end with the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return


def saying(data: bytes) -> Handler:
    """Says this at once and then nothing more."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(60)

    return handler


def answering(*answers: bytes) -> Handler:
    """Says each after the client has said something, and then closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(65536)
            writer.write(answer)
            await writer.drain()
        await asyncio.sleep(0.05)

    return handler


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()


class Relay:
    """Passes everything on to a real server until `limit` more bytes of its answers have come through, then hangs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.limit: int | None = None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask(reader, questions))
                group.create_task(self._answer(answers, writer))
        finally:
            questions.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.limit is not None:
                data = data[: self.limit]
                self.limit -= len(data)
            writer.write(data)


def mysql_packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def mysql_greeting(*, method: str = "mysql_native_password", tls: bool = False) -> bytes:
    flags = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | (SSL if tls else 0)
    payload = b"\x0a8.4.0\0" + struct.pack("<I", 7) + b"saltsalt\0" + struct.pack("<H", flags & 0xFFFF)
    payload += struct.pack("<BHHB", 45, 2, flags >> 16, 21) + bytes(10) + b"moresaltmore\0" + method.encode() + b"\0"
    return mysql_packet(0, payload)


def mysql_error(number: int, code: int, message: str, state: str = "HY000") -> bytes:
    return mysql_packet(number, b"\xff" + struct.pack("<H", code) + b"#" + state.encode() + message.encode())


MYSQL_OK = b"\0\0\0\x02\0\0\0"
