"""A connection to a PostgreSQL server, over asyncpg: how it begins, and what limits hold while it lasts.

asyncpg would connect to an address and verify the certificate for that address; its `prefer` would sign in a second
time without TLS when the first sign-in failed. So it is given an event loop that opens connections our way, with TLS
agreed on before asyncpg says anything, and otherwise is the running loop:

1. Connect to an address that was found allowed; nothing is resolved.
2. Unless TLS is disabled, ask for it. `S` begins the handshake for the host's name, `N` goes on without TLS under
   `prefer` and fails otherwise, and anything else is no PostgreSQL. There is no second try without TLS.
3. Hand over to asyncpg, which signs in. What arrives is counted, and a server that sends without end is cut off.
"""

import asyncio
import re
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import asyncpg

from app.models.instance import TlsMode
from app.syncs.adapters.address_order import connect_to_first
from app.syncs.adapters.network_failures import closed, timed_out
from app.syncs.adapters.port import Target
from app.syncs.adapters.postgresql_failures import as_failures
from app.syncs.adapters.tls import loaded_context
from app.syncs.failures import FailureKind, ServerFailure

# The SSLRequest message: https://www.postgresql.org/docs/current/protocol-message-formats.html
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# Of everything that one connection receives. 10,000 tables with grants are 2 MB.
MAX_RECEIVED_BYTES = 128 * 1024**2
# Before it is signed in; a server's greeting is some hundred bytes.
MAX_GREETING_BYTES = 64 * 1024
# asyncpg computes as many as the server asks for, in the event loop: this many take 0.1 s. The default is 4,096.
MAX_SCRAM_ITERATIONS = 250_000
# Beyond the server's own limit, for its answer to arrive.
ANSWER_SECONDS = 1.0
# For a server that wants to say goodbye.
CLOSE_SECONDS = 1.0
LOCK_SECONDS = 5.0

# Authentication…, ErrorResponse, NoticeResponse and NegotiateProtocolVersion.
_FIRST_MESSAGES = (b"R", b"E", b"N", b"v")
_scram_iterations = re.compile(rb",i=([0-9]+)")


class Connection:
    """Signed in, to one database, read-only. Questions come one after the other; each has a time limit."""

    def __init__(self, target: Target, database: str, address: str, raw: Any, dialling: "_Dialling") -> None:
        self.database = database
        self.address = address
        self._target = target
        self._raw = raw
        self._dialling = dialling

    @property
    def major_version(self) -> int:
        return int(self._raw.get_server_version().major)

    async def ask(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Raises ServerFailure, like everything here."""
        async with self._asking():
            rows: Sequence[asyncpg.Record] = await self._raw.fetch(query, *arguments)
        return rows

    async def ping(self) -> None:
        """One question and one answer, with nothing prepared."""
        async with self._asking():
            await self._raw.execute("SELECT 1")

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        if self._raw.is_closed():
            raise closed(self._target)
        with as_failures(self._target, lambda: self._dialling.refusal):
            try:
                async with asyncio.timeout(self._target.statement_seconds + ANSWER_SECONDS):
                    yield
            except TimeoutError as error:
                raise timed_out(self._target, "to answer", self._target.statement_seconds) from error

    async def close(self) -> None:
        """Takes a moment at most, whatever the server does, and raises nothing."""
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._raw.close(timeout=CLOSE_SECONDS)

    def terminate(self) -> None:
        self._raw.terminate()


@asynccontextmanager
async def connected(target: Target, database: str) -> AsyncIterator[Connection]:
    """To the first address that answers. Raises ServerFailure, like everything in the block."""
    connection = await connect_to_first(target, partial(_connect, target, database))
    try:
        yield connection
    except BaseException:
        # There is no telling in which state it is, nor time to find out.
        connection.terminate()
        raise
    await connection.close()


async def _connect(target: Target, database: str, address: str) -> Connection:
    dialling = _Dialling(target, await loaded_context(target))
    with as_failures(target, lambda: dialling.refusal):
        raw = await asyncpg.connect(
            # A list is taken as it is; a string would be searched for commas and ports.
            host=[address],
            port=target.port,
            user=target.username,
            password=target.password.get_secret_value(),
            database=database,
            # These would otherwise come from this process's PG* variables.
            ssl=False,
            direct_tls=False,
            target_session_attrs="any",
            # Whoever calls has a limit.
            timeout=None,
            statement_cache_size=0,
            server_settings=_session_settings(target),
            loop=dialling,
        )
    dialling.is_signed_in = True
    return Connection(target, database, address, raw, dialling)


def _session_settings(target: Target) -> dict[str, str]:
    """Set as the session begins: they win over what the role or the database has set."""
    return {
        "application_name": "muster",
        "default_transaction_read_only": "on",
        "statement_timeout": f"{target.statement_seconds * 1000:.0f}",
        "lock_timeout": f"{min(LOCK_SECONDS, target.statement_seconds) * 1000:.0f}",
        # So that a function of somebody else's cannot stand in for one of the catalogue's.
        "search_path": "pg_catalog",
        # Compiling costs more than it saves on the catalogue.
        "jit": "off",
    }


class _Dialling:
    """The running event loop to asyncpg, but for how connections begin.

    `refusal` tells why the connection was cut off from this side, which asyncpg only sees as its end."""

    def __init__(self, target: Target, context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._context = context
        self.refusal: ServerFailure | None = None
        self.is_signed_in = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        transport: asyncio.Transport
        transport, opening = await self._loop.create_connection(_Opening, host, port)
        try:
            if self._context is not None:
                transport = await self._with_tls(transport, opening)
            protocol = factory()
            counting = _Counting(self, transport, protocol)
            transport.set_protocol(counting)
            protocol.connection_made(transport)
        except BaseException:
            transport.abort()
            raise
        return transport, protocol

    async def _with_tls(self, transport: asyncio.Transport, opening: "_Opening") -> asyncio.Transport:
        transport.write(_SSL_REQUEST)
        answer = await opening.first_bytes
        if answer == b"N" and self._target.tls_mode is TlsMode.PREFER:
            return transport
        if answer == b"N":
            raise _no_tls(self._target)
        if answer == b"":
            raise closed(self._target)
        # More than one byte would be somebody's who has no key, but wants to be heard (CVE-2021-23222).
        if answer != b"S":
            raise _no_postgresql()
        assert self._context is not None
        secured = await self._loop.start_tls(transport, opening, self._context, server_hostname=self._target.host)
        if secured is None:
            raise ConnectionResetError("the connection was closed in the TLS handshake")
        return secured


class _Opening(asyncio.Protocol):
    """`first_bytes` is what the server says first."""

    def __init__(self) -> None:
        self.first_bytes: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.first_bytes.done():
            self.first_bytes.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.first_bytes.done():
            self.first_bytes.set_result(b"")


class _Counting(asyncio.Protocol):
    """Passes everything on to asyncpg's protocol, until it is too much."""

    def __init__(self, dialling: _Dialling, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self._dialling = dialling
        self._transport = transport
        self._protocol = protocol
        self._received = 0
        self._greeting = b""

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if not self._dialling.is_signed_in:
            self._greeting += data
        if self._dialling.refusal is None:
            self._dialling.refusal = self._objection()
            if self._dialling.refusal is None:
                self._protocol.data_received(data)
            else:
                self._transport.abort()

    def _objection(self) -> ServerFailure | None:
        if self._received > MAX_RECEIVED_BYTES:
            return _refused(f"it sent more than {MAX_RECEIVED_BYTES // 1024**2} MB")
        if self._dialling.is_signed_in:
            return None
        if _is_foreign(self._greeting):
            return _no_postgresql()
        if len(self._greeting) > MAX_GREETING_BYTES:
            return _refused(f"it sent more than {MAX_GREETING_BYTES // 1024} kB before the sign-in")
        if any(int(found[-20:]) > MAX_SCRAM_ITERATIONS for found in _scram_iterations.findall(self._greeting)):
            return _refused(f"it asks for more than {MAX_SCRAM_ITERATIONS} SCRAM iterations")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


def _is_foreign(greeting: bytes) -> bool:
    """Whether it cannot be what PostgreSQL says first; asyncpg would take `HTTP/1.1` for a message of 1.4 GB, and wait.

    A message is a letter and a size: https://www.postgresql.org/docs/current/protocol-message-formats.html"""
    if greeting[:1] not in _FIRST_MESSAGES:
        return True
    return len(greeting) >= 5 and not 4 <= int.from_bytes(greeting[1:5], "big") <= MAX_GREETING_BYTES


def _no_tls(target: Target) -> ServerFailure:
    hint = f"the TLS mode is {target.tls_mode.value}: set ssl = on in postgresql.conf, or choose another mode"
    return ServerFailure(FailureKind.TLS, "the server has no TLS", hint)


def _no_postgresql() -> ServerFailure:
    hint = "look at the port, and whether something between here and there cuts connections off"
    return ServerFailure(FailureKind.PROTOCOL, "the answer is not one of PostgreSQL's", hint)


def _refused(what: str) -> ServerFailure:
    return ServerFailure(FailureKind.PROTOCOL, f"the server was cut off: {what}", "look at what listens there")
