"""A connection to SQL Server, blocking: pytds over a socket that was dialled to a checked address.

`pytds.connect` is not used: it resolves names, follows the server's routing to any host, knows no TLS without a CA
file, and tries again while its time lasts. What is used of it is the protocol itself (python-tds 1.17).

Encryption is negotiated in PRELOGIN and its handshake travels inside of PRELOGIN packets
(https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-tds/60f56408-0188-4cd5-8b90-25c6f2423868). The client
asks for all to be encrypted or for nothing; what encrypts the sign-in only is never asked for.
"""

import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from pytds import tds_base  # type: ignore[import-untyped, unused-ignore]
from pytds.connection import NonMarsConnection  # type: ignore[import-untyped, unused-ignore]
from pytds.row_strategies import tuple_row_strategy  # type: ignore[import-untyped, unused-ignore]
from pytds.tds_session import _TdsSession  # type: ignore[import-untyped, unused-ignore]
from pytds.tds_socket import _TdsSocket  # type: ignore[import-untyped, unused-ignore]

from app.models.instance import TlsMode
from app.syncs.adapters.port import Target
from app.syncs.adapters.sqlserver_failures import routed
from app.syncs.adapters.tls import client_context
from app.syncs.failures import FailureKind, ServerFailure

# More than any catalogue's answers; a server that sends without end is left.
MOST_BYTES = 256 * 1024 * 1024
_CHUNK = 65536
_MOST_CHARACTERS = 128
# tds_base.TDS_ODBC_ON: the ANSI settings, and no limit to rows.
_ANSI_DEFAULTS = 0x02
# MS-TDS 2.2.6.5, PRELOGIN.
_ENCRYPTION = 1
_TERMINATOR = 0xFF


class Transport:
    """A socket whose limit is on the whole of an exchange: a server that sends a byte now and then meets it too."""

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain
        self._until = 0.0
        self._bytes_left = MOST_BYTES

    def limit(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def sendall(self, data: bytes, flags: int = 0) -> None:
        self._socket.settimeout(self._seconds_left())
        self._socket.sendall(data, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._socket.settimeout(self._seconds_left())
        return self._counted(self._socket.recv(size, flags))

    def recv_into(self, buffer: memoryview, size: int = 0, flags: int = 0) -> int:
        received = self.recv(size or len(buffer), flags)
        buffer[: len(received)] = received
        return len(received)

    def gettimeout(self) -> float | None:
        return self._socket.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """The limit is ours to set, not the driver's."""

    def close(self) -> None:
        self._socket.close()

    def _seconds_left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _counted(self, received: bytes) -> bytes:
        self._bytes_left -= len(received)
        if self._bytes_left < 0:
            raise ServerFailure(
                FailureKind.PROTOCOL, f"the server sent more than {MOST_BYTES} bytes", "look whether it is SQL Server"
            )
        return received


class _TlsTransport(Transport):
    """The same through TLS, whose handshake is done."""

    def __init__(self, below: Transport, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._below = below
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing

    def limit(self, seconds: float) -> None:
        self._below.limit(seconds)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        self._tls.write(data)
        self._below.sendall(self._outgoing.read(), flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                received = self._below.recv(_CHUNK, flags)
                if not received:
                    return b""
                self._incoming.write(received)

    def gettimeout(self) -> float | None:
        return self._below.gettimeout()

    def close(self) -> None:
        self._below.close()


class _Session(_TdsSession):  # type: ignore[misc, unused-ignore]
    """Encrypts with the service's own context, which knows the host's name; the driver's would not."""

    tls_mode: TlsMode
    context: ssl.SSLContext | None
    _transport: Transport

    def parse_prelogin(self, octets: bytes, login: Any) -> None:
        login.server_enc_flag = offered = _encryption(octets)
        is_on = offered in (tds_base.PreLoginEnc.ENCRYPT_ON, tds_base.PreLoginEnc.ENCRYPT_REQ)
        if self.context is None and is_on:
            raise ServerFailure(FailureKind.TLS, "the server demands TLS", "set the TLS mode to require or verify-full")
        if self.context is not None and is_on:
            self._encrypt(self.context)
        elif self.context is not None and self.tls_mode is not TlsMode.PREFER:
            raise ServerFailure(FailureKind.TLS, "the server has no TLS", "give it a certificate, or allow no TLS")

    def _encrypt(self, context: ssl.SSLContext) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        while True:
            is_done = _shake(tls)
            if outgoing.pending:
                self._writer.begin_packet(tds_base.PacketType.PRELOGIN)
                self._writer.write(outgoing.read())
                self._writer.flush()
            if is_done:
                break
            self._receive(incoming)
        encrypted = _TlsTransport(self._transport, tls, incoming, outgoing)
        self._transport = self._tds.sock = self._reader._transport = self._writer._transport = encrypted

    def _receive(self, incoming: ssl.MemoryBIO) -> None:
        if self._reader.begin_response().type != tds_base.PacketType.PRELOGIN:
            raise ValueError("no PRELOGIN packet in the handshake")
        while not self._reader.stream_finished():
            incoming.write(self._reader.recv(_CHUNK))


class _Socket(_TdsSocket):  # type: ignore[misc, unused-ignore]
    def __init__(self, transport: Transport, login: Any, target: Target) -> None:
        super().__init__(transport, login, row_strategy=tuple_row_strategy, autocommit=True)
        self._main_session = _Session(
            tds=self,
            transport=transport,
            tzinfo_factory=None,
            env=self.env,
            bufsize=login.blocksize,
            row_strategy=tuple_row_strategy,
        )
        self._main_session.tls_mode = target.tls_mode
        self._main_session.context = client_context(target)


class SignedIn:
    """Asks; not for two threads at a time. `numbers` are those of the server's messages on the last question."""

    def __init__(self, transport: Transport, tds: _Socket) -> None:
        self._transport = transport
        self._tds = tds
        self._connection = NonMarsConnection(pooling=False, key=(), tds_socket=tds)

    @property
    def numbers(self) -> Sequence[int]:
        return message_numbers(self._tds)

    def rows(self, statement: str, seconds: float) -> list[tuple[Any, ...]]:
        self._transport.limit(seconds)
        cursor = self._connection.cursor()
        cursor.execute(statement)
        return [] if cursor.description is None else list(cursor.fetchall())


def sign_in(plain: socket.socket, target: Target, seconds: float, *, reads_only: bool) -> SignedIn | None:
    """None when the server routed a connection that said it only reads, as the listener of an availability group does.

    Raises whatever the driver does; the server's messages are then the error's."""
    transport = Transport(plain)
    transport.limit(seconds)
    tds = _Socket(transport, _login(target, reads_only=reads_only), target)
    try:
        route = tds.login()
    except tds_base.DatabaseError as error:
        error.numbers = message_numbers(tds)
        raise
    if route is None:
        return SignedIn(transport, tds)
    if reads_only:
        return None
    raise routed(route["server"], route["port"], target)


def message_numbers(tds: _Socket) -> Sequence[int]:
    """Of errors; what is less severe than 11 only informs."""
    return [message["msgno"] for message in tds.main_session.messages if message["severity"] > 10]


def _login(target: Target, *, reads_only: bool) -> Any:
    _check_sendable(target)
    login = tds_base._TdsLogin()
    login.user_name = target.username
    login.password = target.password.get_secret_value()
    login.database = target.database_name or ""
    login.server_name = target.host[:_MOST_CHARACTERS]
    login.app_name = login.client_host_name = login.library = "muster"
    login.option_flag2 = _ANSI_DEFAULTS
    login.readonly = reads_only
    login.bytes_to_unicode = True
    encryption = tds_base.PreLoginEnc
    login.enc_flag = encryption.ENCRYPT_NOT_SUP if target.tls_mode is TlsMode.DISABLE else encryption.ENCRYPT_ON
    return login


def _check_sendable(target: Target) -> None:
    """LOGIN7 counts UTF-16 units, at most 128 of each; the driver counts characters."""
    for name, value in (
        ("user name", target.username),
        ("password", target.password.get_secret_value()),
        ("database", target.database_name or ""),
    ):
        if len(value) > _MOST_CHARACTERS or any(ord(character) > 0xFFFF for character in value):
            message = f"the {name} cannot be sent: it is too long, or has characters beyond U+FFFF"
            raise ServerFailure(FailureKind.SIGN_IN_REFUSED, message, "use a shorter or plainer one")


def _shake(tls: ssl.SSLObject) -> bool:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _encryption(prelogin: bytes) -> int:
    """The server's answer: each option is its number, and where its data begin and how long they are."""
    position = 0
    while prelogin[position] != _TERMINATOR:
        if prelogin[position] == _ENCRYPTION:
            return prelogin[int.from_bytes(prelogin[position + 1 : position + 3])]
        position += 5
    return int(tds_base.PreLoginEnc.ENCRYPT_NOT_SUP)
