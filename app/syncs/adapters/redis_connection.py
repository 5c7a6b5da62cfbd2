"""A connection to a Redis server that holds its limits whatever the server does, over redis-py's own connection.

Redis speaks plainly on one port and TLS on another, and does not say which it is. Under `prefer`, a plain PING finds
out, before any password is sent: a server that speaks plainly answers it, one with TLS sends an alert or hangs up.
(A TLS greeting to a plain server would wait for ever: the server waits for the end of a line.)
"""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError, ResponseError

from app.models.instance import TlsMode
from app.syncs.adapters.network_failures import timed_out
from app.syncs.adapters.port import Target
from app.syncs.adapters.redis_failures import NO_ANSWER, failure_of, protocol_failure
from app.syncs.failures import FailureKind, ServerFailure

Reply = str | int | None | Sequence["Reply"]

# All that a server may say in one answer; 10,000 accounts with long rules are some MiB.
ANSWER_BYTES = 16 * 1024**2
# The first byte of a TLS alert: https://www.rfc-editor.org/rfc/rfc8446#section-5.1
_TLS_ALERT = b"\x15"


class RedisConnection(Connection):
    """To one address; everything raised is a ServerFailure. Closed after any failure but the server's own refusals."""

    def __init__(self, target: Target, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(
            host=address,
            port=target.port,
            protocol=2,
            decode_responses=True,
            # Names are any bytes; two different ones stay different.
            encoding_errors="backslashreplace",
            # The limits are ours; and nothing is sent that nobody asked for.
            socket_timeout=None,
            socket_connect_timeout=None,
            driver_info=None,
        )
        self._target = target
        self._context = context

    async def open(self) -> None:
        """Connects and signs in."""
        with self._failing():
            if self._target.tls_mode is not TlsMode.PREFER or not await self._speaks_plainly():
                await self._begin(self._context)
        password = self._target.password.get_secret_value()
        signed_in, _ = await self.ask_all([
            ("AUTH", self._target.username or "default", password),
            # For whoever looks at CLIENT LIST; an account that may not is welcome all the same.
            ("CLIENT", "SETNAME", "muster"),
        ])  # fmt: skip
        if isinstance(signed_in, ServerFailure):
            self.close()
            raise signed_in

    async def ask(self, *command: str, grant: str | None = None) -> Reply:
        """`grant` says which rule the command needs, for the hint when the server refuses it."""
        (reply,) = await self.ask_all([command], grant=grant)
        if isinstance(reply, ServerFailure):
            raise reply
        return reply

    async def ask_all(
        self, commands: Sequence[tuple[str, ...]], *, grant: str | None = None
    ) -> list[Reply | ServerFailure]:
        """In one round trip: a reply to each, or why the server refused it."""
        if not self.is_connected:
            # The driver would connect again, without signing in.
            raise ServerFailure(FailureKind.CLOSED, "the connection is closed", "look at the failure before this")
        with self._failing():
            try:
                async with asyncio.timeout(self._target.statement_seconds):
                    await self.send_packed_command(self.pack_commands(commands))
                    return [await self._reply(grant) for _ in commands]
            except TimeoutError as error:
                raise timed_out(self._target, "to answer", self._target.statement_seconds) from error

    def close(self) -> None:
        """At once: with TLS it would otherwise wait for the server's goodbye."""
        self._parser.on_disconnect()  # type: ignore[no-untyped-call]
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def disconnect(self, *_: object, **__: object) -> None:
        """The driver calls this after errors, and would wait."""
        self.close()

    async def _begin(self, context: ssl.SSLContext | None) -> None:
        """Instead of the driver's own way, which hides the causes of its errors."""
        loop = asyncio.get_running_loop()
        self._bounded = _BoundedReader(self._target, loop)
        protocol = asyncio.StreamReaderProtocol(self._bounded, loop=loop)
        name = None if context is None else self._target.host
        transport, _ = await loop.create_connection(
            lambda: protocol, self.host, self.port, ssl=context, server_hostname=name
        )
        self._reader = self._bounded
        self._writer = asyncio.StreamWriter(transport, protocol, self._bounded, loop)
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]

    async def _speaks_plainly(self) -> bool:
        """Whether the server answers without TLS; then the connection stands."""
        await self._begin(None)
        assert self._writer is not None
        try:
            self._writer.write(b"PING\r\n")
            first = await self._bounded.readexactly(1)
        except (ConnectionError, EOFError):
            first = _TLS_ALERT
        if first not in (b"+", b"-"):
            self.close()
            if first == _TLS_ALERT:
                return False
            raise protocol_failure(self._target, f"it begins with {first!r}")
        answer = first + await self._bounded.readuntil(b"\r\n")
        if first == b"-" and not answer.startswith((b"-NOAUTH", b"-NOPERM")):
            raise ResponseError(answer[1:-2].decode(errors="replace"))
        return True

    async def _reply(self, grant: str | None) -> Reply | ServerFailure:
        self._bounded.bytes_left = ANSWER_BYTES
        try:
            reply: Reply = await self.read_response(disconnect_on_error=False)
        except RedisError as error:
            failure = failure_of(error, self._target, grant)
            if failure.server_code is None:
                raise failure from error
            return failure
        return reply

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Makes failures of errors, and closes: whatever comes here, what comes next could be anything."""
        try:
            yield
        except (OSError, EOFError, RedisError, ServerFailure, *NO_ANSWER) as error:
            self.close()
            failure = failure_of(error, self._target)
            if failure is error:
                raise
            raise failure from error
        except BaseException:
            self.close()
            raise


class _BoundedReader(asyncio.StreamReader):
    """Ends the connection of a server that sends more than `bytes_left`."""

    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._target = target
        self.bytes_left = ANSWER_BYTES

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        self.bytes_left -= len(data)
        if self.bytes_left < 0:
            self.set_exception(protocol_failure(self._target, "it is too large"))
        else:
            super().feed_data(data)
