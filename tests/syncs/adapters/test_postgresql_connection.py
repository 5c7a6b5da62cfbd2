"""How the adapter connects: TLS, several addresses, refused sign-ins, and servers that misbehave."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from pydantic import SecretStr

from app.models.instance import TlsMode
from app.syncs.adapters.port import Target
from app.syncs.adapters.postgresql import adapter
from app.syncs.adapters.postgresql_connection import MAX_RECEIVED_BYTES, connected
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.adapters.postgresql_servers import (
    HOST,
    PASSWORD,
    SSL_REQUEST,
    CarefulServer,
    connection_to,
    listening,
    pumped,
    tls_before,
)
from tests.syncs.certificates import CertificateAuthority

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def failure_of(target: Target) -> ServerFailure:
    with pytest.raises(ServerFailure) as raised:
        async with adapter.connect(target) as session:
            await session.check()
    assert PASSWORD not in f"{raised.value!r} {raised.value}"
    return raised.value


async def answers(target: Target, query: str) -> object:
    """The first column of the answer's first row."""
    async with connected(target, target.database_name or "postgres") as connection:
        return (await connection.ask(query))[0][0]


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> CertificateAuthority:
        return CertificateAuthority(tmp_path)

    @pytest.fixture
    async def front(self, careful: CarefulServer, authority: CertificateAuthority) -> AsyncIterator[int]:
        async with tls_before(careful.postgres.port, authority.issue(HOST)) as port:
            yield port

    @pytest.mark.parametrize("mode", [TlsMode.PREFER, TlsMode.REQUIRE, TlsMode.VERIFY_FULL])
    async def test_carries_the_session(
        self, careful: CarefulServer, authority: CertificateAuthority, front: int, mode: TlsMode
    ) -> None:
        target = careful.target(await careful.role(), mode=mode, ca_file=authority.file, port=front)
        async with adapter.connect(target) as session:
            assert (await session.check()).version
            assert len(await session.accounts()) > 10

    async def test_works_on_uvloop(self, careful: CarefulServer, authority: CertificateAuthority, front: int) -> None:
        target = careful.target(await careful.role(), mode=TlsMode.VERIFY_FULL, ca_file=authority.file, port=front)

        async def version() -> str:
            async with adapter.connect(target) as session:
                return (await session.check()).version

        def on_uvloop() -> str:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(version())

        assert await asyncio.to_thread(on_uvloop)

    async def test_of_an_unknown_authority_is_refused(self, careful: CarefulServer, tmp_path: Path, front: int) -> None:
        stranger = CertificateAuthority(tmp_path, "stranger")
        found = await failure_of(careful.target(mode=TlsMode.VERIFY_FULL, ca_file=stranger.file, port=front))
        assert found.kind is FailureKind.TLS
        assert "stranger.pem" in found.hint

    async def test_for_another_host_is_refused(
        self, careful: CarefulServer, authority: CertificateAuthority, front: int
    ) -> None:
        """The address that is connected to is the same; the certificate is not for the name."""
        target = careful.target(mode=TlsMode.VERIFY_FULL, ca_file=authority.file, port=front, host="other.muster.test")
        found = await failure_of(target)
        assert found.kind is FailureKind.TLS
        assert "not for other.muster.test" in found.hint

    @pytest.mark.parametrize("mode", [TlsMode.REQUIRE, TlsMode.VERIFY_FULL])
    async def test_that_the_server_has_not_is_a_failure(self, careful: CarefulServer, mode: TlsMode) -> None:
        found = await failure_of(careful.target(mode=mode))
        assert found.kind is FailureKind.TLS
        assert found.message == "the server has no TLS"

    async def test_that_the_server_has_not_is_done_without_when_only_preferred(self, careful: CarefulServer) -> None:
        assert await answers(careful.target(mode=TlsMode.PREFER), "SELECT 1") == 1

    async def test_is_not_left_when_the_sign_in_fails(
        self, careful: CarefulServer, authority: CertificateAuthority
    ) -> None:
        """No second try without TLS, which would send the password's proof in the clear and hide the first failure."""
        connections = []
        files = authority.issue(HOST)
        async with tls_before(careful.postgres.port, files) as inner:

            async def counted(reader: Reader, writer: Writer) -> None:
                connections.append(1)
                await relayed(reader, writer, inner)

            async with listening(counted) as port:
                username = await careful.role()
                target = careful.target(username, mode=TlsMode.PREFER, port=port, password=SecretStr("wrong"))
                assert (await failure_of(target)).kind is FailureKind.SIGN_IN_REFUSED
        assert len(connections) == 1

    async def test_with_more_than_the_answer_in_the_clear_is_refused(self, careful: CarefulServer) -> None:
        async def stuffing(reader: Reader, writer: Writer) -> None:
            await reader.readexactly(len(SSL_REQUEST))
            writer.write(b"S" + b"R\x00\x00\x00\x08\x00\x00\x00\x00")
            await reader.read()

        async with listening(stuffing) as port:
            found = await failure_of(careful.target(mode=TlsMode.REQUIRE, port=port))
        assert found.kind is FailureKind.PROTOCOL


class TestSession:
    async def test_is_read_only(self, careful: CarefulServer) -> None:
        with pytest.raises(ServerFailure) as raised:
            await answers(careful.target(), "CREATE TABLE t ()")
        assert raised.value.server_code == "25006"

    async def test_has_limits_and_a_name(self, careful: CarefulServer) -> None:
        target = careful.target(statement_seconds=7.0)
        assert await answers(target, "SELECT current_setting('statement_timeout')") == "7s"
        assert await answers(target, "SELECT current_setting('lock_timeout')") == "5s"
        assert await answers(target, "SELECT current_setting('application_name')") == "muster"

    async def test_finds_the_catalogue_before_somebody_elses_functions(self, careful: CarefulServer) -> None:
        name = await careful.role()
        await careful.run(f"ALTER ROLE {name} SET search_path = public, pg_catalog")
        assert await answers(careful.target(name), "SELECT current_setting('search_path')") == "pg_catalog"

    async def test_is_gone_when_the_block_ends(self, careful: CarefulServer) -> None:
        name = await careful.role()
        async with adapter.connect(careful.target(name)) as session:
            await session.check()
        with pytest.raises(RuntimeError):
            async with adapter.connect(careful.target(name)):
                raise RuntimeError
        for _ in range(50):
            count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{name}'"
            if await answers(careful.target(), count) == 0:
                return
            await asyncio.sleep(0.1)
        pytest.fail("a session stayed")

    async def test_goes_on_after_a_statement_that_took_too_long(self, careful: CarefulServer) -> None:
        async with connected(careful.target(statement_seconds=0.2), "postgres") as connection:
            with pytest.raises(ServerFailure) as raised:
                await connection.ask("SELECT pg_sleep(10)")
            assert (raised.value.kind, raised.value.server_code) == (FailureKind.TIMED_OUT, "57014")
            assert (await connection.ask("SELECT 1"))[0][0] == 1

    async def test_that_was_ended_says_so_and_says_it_again(self, careful: CarefulServer) -> None:
        async with connected(careful.target(), "postgres") as connection:
            pid = (await connection.ask("SELECT pg_backend_pid()"))[0][0]
            await careful.run(f"SELECT pg_terminate_backend({pid})")
            await asyncio.sleep(0.1)
            for _ in range(2):
                with pytest.raises(ServerFailure) as raised:
                    await connection.ask("SELECT 1")
                assert raised.value.kind is FailureKind.CLOSED


class TestRefusals:
    async def test_of_a_wrong_password(self, careful: CarefulServer) -> None:
        """Not in the server's words, which this password is one of: blotting it out would tell."""
        name = await careful.role()
        found = await failure_of(careful.target(name, password=SecretStr("authentication")))
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "28P01")
        assert found.message == f"the server refused the password of {name}"

    async def test_of_an_unknown_account(self, careful: CarefulServer) -> None:
        assert (await failure_of(careful.target("nobody"))).kind is FailureKind.SIGN_IN_REFUSED

    async def test_of_an_account_that_may_not_log_in(self, careful: CarefulServer) -> None:
        found = await failure_of(careful.target(await careful.role("NOLOGIN")))
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "28000")

    async def test_of_a_missing_database(self, careful: CarefulServer) -> None:
        found = await failure_of(careful.target(database="missing"))
        assert (found.kind, found.server_code) == (FailureKind.DATABASE_MISSING, "3D000")

    async def test_of_one_connection_too_many(self, careful: CarefulServer) -> None:
        name = await careful.role("LOGIN CONNECTION LIMIT 1")
        async with adapter.connect(careful.target(name)):
            found = await failure_of(careful.target(name))
        assert (found.kind, found.server_code) == (FailureKind.SERVER_ERROR, "53300")

    async def test_for_want_of_a_right(self, careful: CarefulServer) -> None:
        with pytest.raises(ServerFailure) as raised:
            await answers(careful.target(await careful.role()), "SELECT rolpassword FROM pg_authid")
        assert (raised.value.kind, raised.value.server_code) == (FailureKind.PERMISSION_MISSING, "42501")

    async def test_of_a_server_that_asks_for_kerberos(self, careful: CarefulServer) -> None:
        async with listening(after_greeting(struct.pack("!cii", b"R", 8, 7))) as port:
            found = await failure_of(careful.target(port=port))
        assert found.kind is FailureKind.SIGN_IN_REFUSED

    async def test_that_repeat_the_password_do_not_spread_it(self, careful: CarefulServer) -> None:
        words = f"you said {PASSWORD}"
        async with listening(after_greeting(error_message("XX000", words))) as port:
            found = await failure_of(careful.target(port=port))
        assert found.message == "you said ***"


class TestAddresses:
    async def test_are_tried_in_order(self, careful: CarefulServer) -> None:
        """Nothing listens at 127.0.0.2."""
        assert await answers(careful.target(addresses=("127.0.0.2", "127.0.0.1")), "SELECT 1") == 1

    async def test_that_are_silent_leave_time_for_the_others(self, careful: CarefulServer) -> None:
        async with listening(silent, "127.0.0.2", careful.postgres.port):
            target = careful.target(addresses=("127.0.0.2", "127.0.0.1"), connect_seconds=1.0)
            assert await answers(target, "SELECT 1") == 1

    async def test_that_all_refuse_are_a_failure(self, careful: CarefulServer) -> None:
        found = await failure_of(careful.target(addresses=("127.0.0.2", "127.0.0.3")))
        assert found.kind is FailureKind.REFUSED

    async def test_are_not_tried_on_when_one_refuses_the_sign_in(self, careful: CarefulServer) -> None:
        target = careful.target("nobody", addresses=("127.0.0.1", "127.0.0.2"))
        assert (await failure_of(target)).kind is FailureKind.SIGN_IN_REFUSED


async def silent(reader: Reader, writer: Writer) -> None:
    await asyncio.sleep(60)


async def closing(reader: Reader, writer: Writer) -> None:
    writer.close()


async def garbage(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await reader.read()


async def relayed(reader: Reader, writer: Writer, port: int, limit: int | None = None) -> None:
    """To a server's port; with a limit, nothing that the server says is passed on after so many bytes."""
    async with connection_to(port) as (behind_reader, behind_writer):

        async def back() -> None:
            passed = 0
            while data := await behind_reader.read(65536):
                if limit is not None and passed + len(data) > limit:
                    writer.write(data[: limit - passed])
                    await asyncio.sleep(60)
                passed += len(data)
                writer.write(data)
            writer.close()

        await asyncio.gather(back(), pumped(reader, behind_writer))


def after_greeting(*messages: bytes) -> Callable[[Reader, Writer], Awaitable[None]]:
    """Waits for the client's greeting, says these, and then is silent."""

    async def serve(reader: Reader, writer: Writer) -> None:
        (size,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(size - 4)
        for message in messages:
            writer.write(message)
        await asyncio.sleep(60)

    return serve


def error_message(code: str, words: str) -> bytes:
    fields = b"".join(kind + text.encode() + b"\0" for kind, text in ((b"S", "FATAL"), (b"C", code), (b"M", words)))
    return b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"


MODES = [TlsMode.DISABLE, TlsMode.PREFER, TlsMode.VERIFY_FULL]


class TestServersThatMisbehave:
    @pytest.mark.parametrize("mode", MODES)
    async def test_one_that_never_answers(self, careful: CarefulServer, mode: TlsMode) -> None:
        async with listening(silent) as port:
            started = time.monotonic()
            found = await failure_of(careful.target(mode=mode, port=port, connect_seconds=0.5))
        assert found.kind is FailureKind.TIMED_OUT
        assert time.monotonic() - started < 3

    @pytest.mark.parametrize("mode", MODES)
    async def test_one_that_closes_at_once(self, careful: CarefulServer, mode: TlsMode) -> None:
        async with listening(closing) as port:
            assert (await failure_of(careful.target(mode=mode, port=port))).kind is FailureKind.CLOSED

    @pytest.mark.parametrize("mode", MODES)
    async def test_one_that_answers_garbage(self, careful: CarefulServer, mode: TlsMode) -> None:
        async with listening(garbage) as port:
            found = await failure_of(careful.target(mode=mode, port=port, connect_seconds=2.0))
        assert found.kind is FailureKind.PROTOCOL

    async def test_one_that_hangs_in_mid_result(self, careful: CarefulServer) -> None:
        async def hanging(reader: Reader, writer: Writer) -> None:
            await relayed(reader, writer, careful.postgres.port, 30_000)

        async with listening(hanging) as port:
            started = time.monotonic()
            with pytest.raises(ServerFailure) as raised:
                await answers(
                    careful.target(port=port, statement_seconds=0.5),
                    "SELECT repeat('x', 1000) FROM generate_series(1, 10000)",
                )
        assert raised.value.kind is FailureKind.TIMED_OUT
        assert time.monotonic() - started < 4

    async def test_one_that_does_not_let_go(self, careful: CarefulServer) -> None:
        """The block's end waits a moment only."""
        leaving = asyncio.Event()

        async def clinging(reader: Reader, writer: Writer) -> None:
            async with connection_to(careful.postgres.port) as (behind_reader, behind_writer):

                async def forth() -> None:
                    while (data := await reader.read(65536)) and not leaving.is_set():
                        behind_writer.write(data)
                    await asyncio.sleep(60)

                await asyncio.gather(forth(), pumped(behind_reader, writer))

        async with listening(clinging) as port:
            async with connected(careful.target(port=port), "postgres") as connection:
                await connection.ask("SELECT 1")
                leaving.set()
                started = time.monotonic()
            assert time.monotonic() - started < 3

    async def test_one_whose_greeting_has_no_end(self, careful: CarefulServer) -> None:
        notice = b"N" + struct.pack("!i", 40_006) + b"M" + b"x" * 40_000 + b"\0"
        async with listening(after_greeting(struct.pack("!cii", b"R", 8, 0), notice, notice)) as port:
            found = await failure_of(careful.target(port=port))
        assert found.kind is FailureKind.PROTOCOL
        assert "before the sign-in" in found.message

    async def test_one_whose_answer_has_no_end(self, careful: CarefulServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.syncs.adapters.postgresql_connection.MAX_RECEIVED_BYTES", 1024**2)
        assert MAX_RECEIVED_BYTES > 1024**2
        with pytest.raises(ServerFailure) as raised:
            await answers(careful.target(), "SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
        assert raised.value.kind is FailureKind.PROTOCOL
        assert "1 MB" in raised.value.message

    async def test_one_that_wants_the_sign_in_to_take_minutes(self, careful: CarefulServer) -> None:
        """asyncpg would compute as many iterations as it is asked for, and hold the event loop as long."""

        async def demanding(reader: Reader, writer: Writer) -> None:
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            await reader.readexactly(size - 4)
            writer.write(b"R" + struct.pack("!ii", 23, 10) + b"SCRAM-SHA-256\0\0")
            _, size = struct.unpack("!ci", await reader.readexactly(5))
            first = await reader.readexactly(size - 4)
            nonce = first.rsplit(b"r=", 1)[1]
            answer = b"r=" + nonce + b"more,s=c2FsdHNhbHQ=,i="
            message = b"R" + struct.pack("!ii", 8 + len(answer) + 10, 11) + answer
            writer.write(message)
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.write(b"2000000000")
            await reader.read()

        async with listening(demanding) as port:
            started = time.monotonic()
            found = await failure_of(careful.target(port=port))
        assert found.kind is FailureKind.PROTOCOL
        assert "SCRAM" in found.message
        assert time.monotonic() - started < 3

    async def test_cancelling_leaves_at_once(self, careful: CarefulServer) -> None:
        async with listening(silent) as port:
            task = asyncio.create_task(failure_of(careful.target(port=port, connect_seconds=30.0)))
            await asyncio.sleep(0.2)
            task.cancel()
            started = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert time.monotonic() - started < 1
