"""A connection to a MySQL or MariaDB server that holds its limits whatever the server does.

aiomysql speaks the protocol. What it leaves out is added here: TLS that was asked for is never silently left out,
a password never goes in clear over a plain connection, an answer has a largest size, and a time, and closing is at
once.
"""

import asyncio
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import aiomysql  # type: ignore[import-untyped]
from pymysql.constants import CLIENT, COMMAND  # type: ignore[import-untyped]
from pymysql.err import Error, OperationalError  # type: ignore[import-untyped]

from app.models.instance import TlsMode
from app.syncs.adapters.mysql_failures import NO_ANSWER, failure_of, protocol_failure
from app.syncs.adapters.network_failures import timed_out
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

Row = tuple[str | None, ...]

# All that a server may say until it is signed in to, and in answer to one question. The account rights of the largest
# servers take some ten MiB.
SIGN_IN_BYTES = 256 * 1024
ANSWER_BYTES = 64 * 1024**2
# What a packet costs beside its content: millions of tiny rows take more memory than their bytes.
PACKET_BYTES = 32
# For the server to close its end after the goodbye.
LEAVE_SECONDS = 0.5

# What to begin with; the server asks for the account's own method when it is another.
_FIRST_METHODS = frozenset({"mysql_native_password", "caching_sha2_password"})
_METHODS = frozenset({b"mysql_native_password", b"caching_sha2_password", b"sha256_password"})
_CLEAR = b"mysql_clear_password"


class MysqlConnection(aiomysql.Connection):  # type: ignore[misc]
    """To one address; everything raised is a ServerFailure. Closed after any failure but the server's own refusals."""

    def __init__(self, target: Target, address: str, context: ssl.SSLContext | None) -> None:
        self._reader: asyncio.StreamReader | None
        self._writer: asyncio.StreamWriter | None
        self._server_auth_plugin: str
        super().__init__(
            host=address,
            port=target.port,
            user=target.username,
            password=_password_of(target),
            db=target.database_name,
            # Values come as text: no conversion that a server's odd value could upset.
            conv={},
            charset="utf8mb4",
            ssl=context,
            program_name="muster",
        )
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self._target = target
        # For an empty name the driver takes this process's user.
        self._user = target.username
        self._bytes_left = SIGN_IN_BYTES
        self._is_signed_in = False

    async def open(self) -> None:
        """Connects and signs in. Instead of the driver's own way, which hides the causes of its errors and leaves a
        socket behind when it is cancelled."""
        with self._failing():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            self._next_seq_id = 0
            await self._get_server_information()
            await self._request_authentication()
        self._is_signed_in = True

    async def ask(self, question: str, columns: int, *, grant: str | None = None) -> Sequence[Row]:
        """Rows of text, each of so many columns. `grant` says what the question needs, for the hint when the server
        refuses it."""
        rows = await self._rows(question, grant)
        if any(len(row) != columns for row in rows):
            raise protocol_failure(self._target, f"not {columns} columns")
        return rows

    async def value(self, question: str) -> str:
        """The one value that the answer holds."""
        for (value,) in await self.ask(question, 1):
            return value or ""
        raise protocol_failure(self._target, "no row")

    async def execute(self, statement: str) -> None:
        await self._rows(statement, None)

    async def _rows(self, question: str, grant: str | None) -> list[Row]:
        with self._failing(grant):
            if self._writer is None:
                raise ServerFailure(FailureKind.CLOSED, "the connection is closed", "look at the failure before this")
            self._bytes_left = ANSWER_BYTES
            try:
                async with asyncio.timeout(self._target.statement_seconds):
                    await self.query(question)
            except TimeoutError as error:
                raise timed_out(self._target, "to answer", self._target.statement_seconds) from error
            return [tuple(map(_text, row)) for row in self._result.rows or ()]

    async def ask_by_name(self, question: str, *, grant: str | None = None) -> Sequence[dict[str, str | None]]:
        """The same, each row by its columns' names; for SHOW, whose columns are other ones in every release."""
        rows = await self._rows(question, grant)
        names = [each[0] for each in self._result.description or ()]
        return [dict(zip(names, row, strict=False)) for row in rows]

    async def leave(self) -> None:
        """Says goodbye, which keeps the server's log free of aborted connections, and closes in any case."""
        if self._writer is None or self._reader is None:
            return
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                self._writer.write(struct.pack("<iB", 1, COMMAND.COM_QUIT))
                await self._reader.read(1)
        except OSError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """At once: with TLS the driver would wait for the server's own goodbye."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._writer = None
        self._reader = None

    @contextmanager
    def _failing(self, grant: str | None = None) -> Iterator[None]:
        """Makes failures of errors. The connection is good for the next question only after the server itself refused
        one: after all else, what comes next could be anything."""
        try:
            yield
        except (OSError, Error, ServerFailure, *NO_ANSWER) as error:
            failure = failure_of(error, self._target, grant)
            if failure.server_code is None or not self._is_signed_in:
                self.close()
            if failure is error:
                raise
            raise failure from error
        except BaseException:
            self.close()
            raise

    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            self._go_on_without_tls()
        if self._server_auth_plugin not in _FIRST_METHODS:
            self._server_auth_plugin = "mysql_native_password"

    def _go_on_without_tls(self) -> None:
        """The driver would do so in any mode."""
        if self._target.tls_mode is not TlsMode.PREFER:
            hint = "turn TLS on at the server, or set the instance's TLS mode to prefer"
            raise ServerFailure(FailureKind.TLS, "the server offers no TLS", hint)
        self._ssl_context = None
        self.client_flag &= ~CLIENT.SSL

    async def _process_auth(self, plugin_name: bytes, auth_packet: object) -> object:
        if plugin_name not in _METHODS and not (plugin_name == _CLEAR and self._secure):
            raise OperationalError(2059, f"the server asks to sign in by {plugin_name.decode(errors='replace')}")
        return await super()._process_auth(plugin_name, auth_packet)

    async def _read_bytes(self, num_bytes: int) -> bytes:
        self._bytes_left -= num_bytes + PACKET_BYTES // 2
        if self._bytes_left < 0:
            raise protocol_failure(self._target, "it is too large")
        data: bytes = await super()._read_bytes(num_bytes)
        return data


def _password_of(target: Target) -> str:
    """Such that the driver's Latin-1 makes UTF-8 of it, which is how servers got the password that they hashed."""
    return target.password.get_secret_value().encode(errors="surrogatepass").decode("latin-1")


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
