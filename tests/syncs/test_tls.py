"""What each TLS mode verifies, and that it is the registered host's name, on each kind of socket."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop
from pydantic import SecretStr

from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters.port import Target
from app.syncs.adapters.tls import client_context, tls_failure
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.certificates import CertificateAuthority

HOST = "db.muster.test"

# What connects to the port with a context, giving the address as the server's name as drivers do.
Connect = Callable[[int, ssl.SSLContext], None]


def over_blocking_socket(port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        context.wrap_socket(plain, server_hostname="127.0.0.1").close()


async def _over_streams(port: int, context: ssl.SSLContext) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def over_asyncio(port: int, context: ssl.SSLContext) -> None:
    with asyncio.Runner() as runner:
        runner.run(_over_streams(port, context))


def over_uvloop(port: int, context: ssl.SSLContext) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_over_streams(port, context))


@pytest.fixture(params=[over_blocking_socket, over_asyncio, over_uvloop])
def connect(request: pytest.FixtureRequest) -> Connect:
    return request.param


@dataclass
class TlsServer:
    """Shakes hands with whoever comes; `names` are those that clients asked for (SNI)."""

    port: int
    names: list[str | None]


@contextlib.contextmanager
def tls_server(authority: CertificateAuthority, *hosts: str, **issuing: object) -> Iterator[TlsServer]:
    files = authority.issue(*hosts, **issuing)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = TlsServer(listening.getsockname()[1], [])
        context.sni_callback = lambda _socket, name, _context: server.names.append(name)
        thread = threading.Thread(target=_serve, args=(listening, context))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _serve(listening: socket.socket, context: ssl.SSLContext) -> None:
    # The listening socket is shut down at the test's end.
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            with contextlib.suppress(OSError), client:
                client.settimeout(5)
                context.wrap_socket(client, server_side=True).close()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


def target(host: str = HOST, mode: TlsMode = TlsMode.VERIFY_FULL, ca_file: Path | None = None) -> Target:
    return Target(
        DatabaseType.POSTGRESQL, host, 5432, ("127.0.0.1",), None, "muster", SecretStr("x"), mode, tls_ca_file=ca_file
    )


def context_of(which: Target) -> ssl.SSLContext:
    context = client_context(which)
    assert context is not None
    return context


class TestNameThatIsVerified:
    def test_is_the_hosts_and_is_sent(self, authority: CertificateAuthority, connect: Connect) -> None:
        with tls_server(authority, HOST) as server:
            connect(server.port, context_of(target(ca_file=authority.file)))
        assert server.names == [HOST]

    def test_is_not_the_address(self, authority: CertificateAuthority, connect: Connect) -> None:
        with tls_server(authority, "127.0.0.1") as server, pytest.raises(ssl.SSLCertVerificationError, match=HOST):
            connect(server.port, context_of(target(ca_file=authority.file)))

    def test_may_be_an_address_which_is_not_sent(self, authority: CertificateAuthority, connect: Connect) -> None:
        with tls_server(authority, "192.0.2.7") as server:
            connect(server.port, context_of(target("192.0.2.7", ca_file=authority.file)))
        assert server.names == [None]

    def test_has_no_trailing_dot(self, authority: CertificateAuthority, connect: Connect) -> None:
        with tls_server(authority, HOST) as server:
            connect(server.port, context_of(target(f"{HOST}.", ca_file=authority.file)))

    def test_is_each_targets_own(self, authority: CertificateAuthority) -> None:
        """What verifies is shared between contexts; the name must not be."""
        first = context_of(target(ca_file=authority.file))
        context_of(target("other.muster.test", ca_file=authority.file))
        with tls_server(authority, HOST) as server:
            over_blocking_socket(server.port, first)


class TestModes:
    def test_disable_is_no_tls(self) -> None:
        assert client_context(target(mode=TlsMode.DISABLE)) is None

    @pytest.mark.parametrize("mode", [TlsMode.PREFER, TlsMode.REQUIRE])
    def test_without_a_ca_file_nothing_is_verified(self, authority: CertificateAuthority, mode: TlsMode) -> None:
        with tls_server(authority, "elsewhere.test") as server:
            over_blocking_socket(server.port, context_of(target(mode=mode)))
        assert server.names == [HOST]

    def test_require_with_a_ca_file_verifies_the_chain_only(self, authority: CertificateAuthority) -> None:
        with tls_server(authority, "elsewhere.test") as server:
            over_blocking_socket(server.port, context_of(target(mode=TlsMode.REQUIRE, ca_file=authority.file)))

    @pytest.mark.parametrize("mode", [TlsMode.REQUIRE, TlsMode.VERIFY_FULL])
    def test_a_stranger_s_certificate_is_refused(
        self, authority: CertificateAuthority, tmp_path: Path, mode: TlsMode
    ) -> None:
        stranger = CertificateAuthority(tmp_path, "stranger")
        with tls_server(stranger, HOST) as server, pytest.raises(ssl.SSLCertVerificationError):
            over_blocking_socket(server.port, context_of(target(mode=mode, ca_file=authority.file)))

    def test_prefer_verifies_nothing_with_a_ca_file_either(
        self, authority: CertificateAuthority, tmp_path: Path
    ) -> None:
        stranger = CertificateAuthority(tmp_path, "stranger")
        with tls_server(stranger, HOST) as server:
            over_blocking_socket(server.port, context_of(target(mode=TlsMode.PREFER, ca_file=authority.file)))

    def test_verify_full_without_a_ca_file_trusts_the_system_only(self, authority: CertificateAuthority) -> None:
        with tls_server(authority, HOST) as server, pytest.raises(ssl.SSLCertVerificationError):
            over_blocking_socket(server.port, context_of(target()))


class TestCaFile:
    def test_that_is_missing_is_a_failure_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(ServerFailure, match=r"corporate\.pem") as failure:
            client_context(target(ca_file=tmp_path / "corporate.pem"))
        assert failure.value.kind is FailureKind.TLS
        assert str(tmp_path) not in failure.value.message

    def test_without_certificates_is_a_failure(self, tmp_path: Path) -> None:
        file = tmp_path / "corporate.pem"
        file.write_text("nothing of the kind")
        with pytest.raises(ServerFailure, match="no certificates"):
            client_context(target(ca_file=file))

    def test_that_changed_is_read_again(self, authority: CertificateAuthority, tmp_path: Path) -> None:
        file = tmp_path / "rotated.pem"
        file.write_bytes(CertificateAuthority(tmp_path, "previous").file.read_bytes())
        client_context(target(ca_file=file))
        file.write_bytes(authority.file.read_bytes())
        with tls_server(authority, HOST) as server:
            over_blocking_socket(server.port, context_of(target(ca_file=file)))


class TestFailure:
    def failure(self, which: Target, authority: CertificateAuthority, *hosts: str, **issuing: object) -> ServerFailure:
        with tls_server(authority, *hosts, **issuing) as server, pytest.raises(ssl.SSLError) as error:
            over_blocking_socket(server.port, context_of(which))
        return tls_failure(error.value, which)

    def test_says_that_the_name_is_another(self, authority: CertificateAuthority) -> None:
        failure = self.failure(target(ca_file=authority.file), authority, "elsewhere.test")
        assert failure.kind is FailureKind.TLS
        assert failure.hint.startswith(f"the certificate is not for {HOST}")

    def test_says_which_authorities_did_not_sign_it(self, authority: CertificateAuthority, tmp_path: Path) -> None:
        stranger = CertificateAuthority(tmp_path, "stranger")
        assert "the system's authorities" in self.failure(target(), authority, HOST).hint
        assert "stranger.pem" in self.failure(target(ca_file=stranger.file), authority, HOST).hint

    def test_says_that_it_expired(self, authority: CertificateAuthority) -> None:
        which = target(ca_file=authority.file)
        failure = self.failure(which, authority, HOST, not_after=timedelta(hours=-1))
        assert "not valid today" in failure.hint

    def test_tells_of_any_other_handshake(self) -> None:
        failure = tls_failure(ssl.SSLError(1, "[SSL] wrong version number"), target())
        assert failure.kind is FailureKind.TLS
        assert "wrong version number" in failure.message
