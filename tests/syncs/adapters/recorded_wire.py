"""Small servers that speak as much of TDS, TNS and MongoDB's protocol as signing in and a few answers take.

TDS: https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-tds/ (the packets, and the token stream).
MongoDB: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ and RFC 7677 (SCRAM-SHA-256).
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import bson

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Its port, on loopback. Whoever is still connected at the end is cut off."""
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await handler(reader, writer)
        writer.close()

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving[asyncio.ensure_future(serve(reader, writer))] = writer

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # Whoever was accepted a moment ago is handed over in the loop's next turns, unless the server is closed.
        await asyncio.sleep(0.01)
        server.close()
        for task, writer in serving.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)
        # Closing takes the transports a turn of the loop or two.
        await asyncio.sleep(0.01)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """At once."""


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" * 40)
    await writer.drain()


# --- TDS ---

ENCRYPT_ON, NOT_SUPPORTED, REQUIRED = 1, 2, 3
_REPLY, _PRELOGIN = 4, 18


def us_varchar(text: str) -> bytes:
    return struct.pack("<H", len(text)) + text.encode("utf-16-le")


def b_varchar(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("utf-16-le")


def token(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + struct.pack("<H", len(body)) + body


def done(status: int = 0, rows: int = 0) -> bytes:
    return struct.pack("<BHHQ", 0xFD, status, 0, rows)


def tds_error(number: int, text: str) -> bytes:
    body = struct.pack("<iBB", number, 1, 14) + us_varchar(text) + b_varchar("server") + b_varchar("")
    return token(0xAA, body + struct.pack("<I", 1))


def routing(host: str, port: int) -> bytes:
    value = struct.pack("<BH", 0, port) + us_varchar(host)
    return token(0xE3, bytes([20]) + struct.pack("<H", len(value)) + value + b"\0\0")


def tds_rows(*rows: tuple[str | int | None, ...]) -> bytes:
    """Of text and integers, as the first row has them."""
    columns = b"".join(
        struct.pack("<IHBB", 0, 1, 0x26, 4) + b_varchar("n")
        if isinstance(value, int)
        else struct.pack("<IHBH", 0, 1, 0xE7, 8000) + b"\x09\x04\xd0\x00\x34" + b_varchar("t")
        for value in rows[0]
    )
    found = b"\x81" + struct.pack("<H", len(rows[0])) + columns
    for row in rows:
        found += b"\xd1" + b"".join(map(_tds_value, row))
    return found + done(0x10, len(rows))


def _tds_value(value: str | int | None) -> bytes:
    if value is None:
        return b"\xff\xff"
    if isinstance(value, int):
        return struct.pack("<Bi", 4, value)
    encoded = value.encode("utf-16-le")
    return struct.pack("<H", len(encoded)) + encoded


SIGNED_IN = token(0xAD, b"\x01\x74\x00\x00\x04" + b_varchar("Microsoft SQL Server") + b"\x10\0\0\0") + done()


class TdsServer:
    """Answers each batch that holds a key of `answers` with that one's tokens, and others with nothing but "done".

    `logins` are the LOGIN7 packets as they came."""

    def __init__(
        self,
        answers: Mapping[str, bytes] | None = None,
        sign_in: Callable[[bytes], bytes] = lambda login: SIGNED_IN,
        encryption: int = NOT_SUPPORTED,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._answers = answers or {}
        self._sign_in = sign_in
        self._encryption = encryption
        self._context = context
        self.logins: list[bytes] = []
        self.batches: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _TdsWire(reader, writer)
        await wire.receive()
        options = struct.pack(">BHHBHHB", 0, 11, 6, 1, 17, 1, 0xFF) + b"\x10\0\0\0\0\0" + bytes([self._encryption])
        wire.send(_REPLY, options)
        if self._context is not None:
            await wire.encrypt(self._context)
        self.logins.append(await wire.receive())
        wire.send(_REPLY, self._sign_in(self.logins[-1]))
        while True:
            batch = (await wire.receive())[22:].decode("utf-16-le")
            self.batches.append(batch)
            found = [answer for part, answer in self._answers.items() if part in batch]
            if found == [b""]:
                await silent(reader, writer)
            wire.send(_REPLY, found[0] if found else done())


class _TdsWire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def receive(self) -> bytes:
        """A message's payload, of however many packets."""
        payload = b""
        while True:
            head = await self._read(8)
            payload += await self._read(int.from_bytes(head[2:4]) - 8)
            if head[1] & 1:
                return payload

    def send(self, kind: int, payload: bytes) -> None:
        for start in range(0, len(payload), 4000):
            part = payload[start : start + 4000]
            is_last = start + 4000 >= len(payload)
            packet = struct.pack(">BBHHBB", kind, is_last, len(part) + 8, 0, 1, 0) + part
            if self._tls is not None:
                self._tls.write(packet)
                packet = self._outgoing.read()
            self._writer.write(packet)

    async def encrypt(self, context: ssl.SSLContext) -> None:
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(await self.receive())
            else:
                break
        self._flush()
        self._tls = tls

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.send(_PRELOGIN, self._outgoing.read())

    async def _read(self, size: int) -> bytes:
        if self._tls is None:
            return await self._reader.readexactly(size)
        found = b""
        while len(found) < size:
            try:
                found += self._tls.read(size - len(found))
            except ssl.SSLWantReadError:
                received = await self._reader.read(65536)
                if not received:
                    raise asyncio.IncompleteReadError(found, size) from None
                self._incoming.write(received)
        return found


# --- TNS ---


def tns_packet(kind: int, payload: bytes) -> bytes:
    return struct.pack(">HHBBH", len(payload) + 8, 0, kind, 0, 0) + payload


def redirect(host: str, port: int) -> bytes:
    """Where to go on, and with what, in a packet of its own."""
    address = f"(ADDRESS=(PROTOCOL=TCP)(HOST={host})(PORT={port}))"
    data = f"{address}\0(DESCRIPTION={address}(CONNECT_DATA=(SERVICE_NAME=orders)))".encode()
    return tns_packet(5, struct.pack(">H", len(data))) + tns_packet(6, b"\0\0" + data)


def refuse(code: int) -> bytes:
    text = f"(DESCRIPTION=(TMP=)(VSNNUM=318767104)(ERR={code})(ERROR_STACK=(ERROR=(CODE={code})(EMFI=4))))".encode()
    return tns_packet(4, b"\0\0" + struct.pack(">H", len(text)) + text)


def listener(answer: bytes) -> Handler:
    """Answers whoever connects with these packets."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(58)
        writer.write(answer)
        await writer.drain()
        await silent(reader, writer)

    return handle


# --- MongoDB ---


class MongoServer:
    """Signs in whoever knows the password, by SCRAM-SHA-256; answers commands by their name, or not at all."""

    def __init__(self, password: str, answers: Mapping[str, Any] | None = None, hello: Mapping[str, Any] | None = None):
        self._password = password
        self._answers = {"ping": {}, "endSessions": {}} | dict(answers or {})
        self._hello = hello or {}
        self.commands: list[Mapping[str, Any]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        scram = _Scram(self._password)
        while True:
            size, request, _, kind = struct.unpack("<iiii", await reader.readexactly(16))
            body = await reader.readexactly(size - 16)
            assert kind == 2013
            command = bson.decode(body[5:])
            answer = self._answer(command, scram)
            if answer is None:
                continue
            reply = struct.pack("<IB", 0, 0) + bson.encode({"ok": 1.0, **answer})
            writer.write(struct.pack("<iiii", len(reply) + 16, 1, request, 2013) + reply)

    def _answer(self, command: Mapping[str, Any], scram: "_Scram") -> Mapping[str, Any] | None:
        name = next(iter(command))
        if name in ("hello", "ismaster"):
            return self._greeting()
        if name == "saslStart":
            return scram.start(command["payload"])
        if name == "saslContinue":
            return scram.go_on(command["payload"])
        self.commands.append(command)
        found: Mapping[str, Any] | None = self._answers.get(name, _no_such_command(name))
        return found

    def _greeting(self) -> Mapping[str, Any]:
        return {
            "helloOk": True,
            "isWritablePrimary": True,
            "ismaster": True,
            "maxBsonObjectSize": 16777216,
            "maxMessageSizeBytes": 48000000,
            "maxWriteBatchSize": 100000,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "saslSupportedMechs": ["SCRAM-SHA-256"],
            **self._hello,
        }


def _no_such_command(name: str) -> Mapping[str, Any]:
    return {"ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": f"no such command: '{name}'"}


class _Scram:
    def __init__(self, password: str) -> None:
        self._salt, self._turns = b"sixteen salty by", 4096
        self._salted = hashlib.pbkdf2_hmac("sha256", password.encode(), self._salt, self._turns)
        self._heard = b""

    def start(self, payload: bytes) -> Mapping[str, Any]:
        bare = bytes(payload)[3:]
        nonce = bare.partition(b",r=")[2] + b"server"
        first = b"r=" + nonce + b",s=" + base64.b64encode(self._salt) + b",i=%d" % self._turns
        self._heard = bare + b"," + first
        return {"conversationId": 1, "done": False, "payload": first}

    def go_on(self, payload: bytes) -> Mapping[str, Any]:
        without, _, proof = bytes(payload).partition(b",p=")
        said = self._heard + b"," + without
        client_key = self._hmac(self._salted, b"Client Key")
        signature = self._hmac(hashlib.sha256(client_key).digest(), said)
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if key != client_key:
            return {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
        verifier = self._hmac(self._hmac(self._salted, b"Server Key"), said)
        return {"conversationId": 1, "done": True, "payload": b"v=" + base64.b64encode(verifier)}

    @staticmethod
    def _hmac(key: bytes, said: bytes) -> bytes:
        return hmac.digest(key, said, "sha256")
