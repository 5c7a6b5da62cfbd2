"""Signing in to a real Redis, with TLS and without, and to servers that do not behave."""

import asyncio
import time
from dataclasses import replace

import pytest
import uvloop
from pydantic import SecretStr

from app.models.instance import TlsMode
from app.syncs.adapters import redis_connection
from app.syncs.adapters.port import ServerSession
from app.syncs.adapters.redis import RedisSession, adapter
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.adapters.odd_servers import Relay, answering, close_at_once, listening, pour, say_nothing
from tests.syncs.adapters.redis_targets import failure, odd_target, run, target_of
from tests.syncs.certificates import CertificateAuthority
from tests.syncs.servers import ROOT_PASSWORD, RedisServer


@pytest.fixture
def muster(redis_with_muster: RedisServer) -> RedisServer:
    return redis_with_muster


class TestSigningIn:
    async def test_a_wrong_password(self, muster: RedisServer) -> None:
        found = await failure(replace(target_of(muster), password=SecretStr("wrong-one")))
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "WRONGPASS")
        assert "wrong-one" not in repr(found)

    async def test_a_disabled_account(self, muster: RedisServer) -> None:
        await run(muster, ("ACL", "SETUSER", "shut", "off", ">x"))
        found = await failure(target_of(muster, "shut", "x"))
        await run(muster, ("ACL", "DELUSER", "shut"))
        assert found.kind is FailureKind.SIGN_IN_REFUSED

    async def test_an_account_without_the_right_to_anything(self, muster: RedisServer) -> None:
        await run(muster, ("ACL", "SETUSER", "bob", "on", ">x"))
        found = await failure(target_of(muster, "bob", "x"))
        await run(muster, ("ACL", "DELUSER", "bob"))
        assert (found.kind, found.server_code) == (FailureKind.PERMISSION_MISSING, "NOPERM")
        assert "+ping" in found.hint

    async def test_the_default_user(self, redis_server: RedisServer) -> None:
        async with adapter.connect(target_of(redis_server, "default", ROOT_PASSWORD)) as session:
            assert (await session.check()).version

    async def test_out_of_connections(self) -> None:
        small = RedisServer()
        held = []
        try:
            small.start("--maxclients", "2")
            # Until it has noticed that the one that looked whether it runs is gone.
            await asyncio.sleep(0.3)
            held = [await asyncio.open_connection("127.0.0.1", small.port) for _ in range(2)]
            target = target_of(small, "default", ROOT_PASSWORD)
            found = await failure(target)
            without_tls = await failure(replace(target, tls_mode=TlsMode.DISABLE))
        finally:
            for _, writer in held:
                writer.transport.abort()
            small.remove()
        for each in (found, without_tls):
            assert each.kind in (FailureKind.SERVER_ERROR, FailureKind.CLOSED)
        assert "maxclients" in found.hint


class TestTls:
    @pytest.mark.parametrize("mode", [TlsMode.PREFER, TlsMode.DISABLE])
    async def test_a_plain_port(self, muster: RedisServer, mode: TlsMode) -> None:
        async with adapter.connect(replace(target_of(muster), tls_mode=mode)) as session:
            assert not self._is_encrypted(session)
            assert (await session.check()).version

    @pytest.mark.parametrize("mode", [TlsMode.PREFER, TlsMode.REQUIRE])
    async def test_a_port_with_tls(self, muster: RedisServer, mode: TlsMode) -> None:
        async with adapter.connect(replace(target_of(muster, tls=True), tls_mode=mode)) as session:
            assert self._is_encrypted(session)
            assert (await session.check()).version

    async def test_verify_full_with_the_authority(self, muster: RedisServer) -> None:
        await self._verified(muster)

    async def test_the_same_over_uvloop(self, muster: RedisServer) -> None:
        await asyncio.to_thread(uvloop.run, self._verified(muster))

    async def _verified(self, muster: RedisServer) -> None:
        for mode in (TlsMode.VERIFY_FULL, TlsMode.PREFER):
            target = replace(target_of(muster, tls=True), tls_mode=mode, tls_ca_file=muster.authority.file)
            async with adapter.connect(target) as session:
                assert (await session.check()).version

    async def test_another_authority(self, muster: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> None:
        other = CertificateAuthority(tmp_path_factory.mktemp("other"), "other")
        target = replace(target_of(muster, tls=True), tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=other.file)
        assert (await failure(target)).kind is FailureKind.TLS

    async def test_another_host(self, muster: RedisServer) -> None:
        target = replace(
            target_of(muster, tls=True),
            tls_mode=TlsMode.VERIFY_FULL,
            tls_ca_file=muster.authority.file,
        )
        found = await failure(replace(target, host="cache.example.test"))
        assert found.kind is FailureKind.TLS
        assert "cache.example.test" in found.hint

    async def test_require_never_speaks_plainly(self) -> None:
        heard: list[bytes] = []

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(65536))
            writer.write(b"+PONG\r\n")

        async with listening(server) as port:
            found = await failure(odd_target(port, TlsMode.REQUIRE))
        assert found.kind is FailureKind.TLS
        assert b"hunter2" not in heard[0]

    def _is_encrypted(self, session: ServerSession) -> bool:
        assert isinstance(session, RedisSession)
        assert session._connection._writer is not None
        return session._connection._writer.get_extra_info("ssl_object") is not None


@pytest.mark.parametrize("mode", [TlsMode.DISABLE, TlsMode.PREFER])
class TestFaults:
    async def test_nobody_listens(self, mode: TlsMode) -> None:
        async with listening(say_nothing) as port:
            pass
        assert (await failure(odd_target(port, mode))).kind is FailureKind.REFUSED

    async def test_the_next_address_is_tried(self, muster: RedisServer, mode: TlsMode) -> None:
        target = replace(target_of(muster), addresses=("127.0.0.77", "127.0.0.1"), tls_mode=mode)
        async with adapter.connect(target) as session:
            assert (await session.check()).version

    async def test_accepts_and_never_answers(self, mode: TlsMode) -> None:
        async with listening(say_nothing) as port:
            began = time.perf_counter()
            found = await failure(odd_target(port, mode))
        assert found.kind is FailureKind.TIMED_OUT
        assert time.perf_counter() - began < 1

    async def test_closes_at_once(self, mode: TlsMode) -> None:
        async with listening(close_at_once) as port:
            assert (await failure(odd_target(port, mode))).kind is FailureKind.CLOSED

    @pytest.mark.parametrize(
        "garbage",
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"$abc\r\n\r\n",
            b"*1\r\n" * 5000,
            b"x" * 100_000,
            b"\xff\xfe\xfd\r\n",
        ],
    )
    async def test_answers_garbage(self, garbage: bytes, mode: TlsMode) -> None:
        async with listening(answering(garbage, garbage, garbage)) as port:
            found = await failure(odd_target(port, mode))
        assert found.kind is FailureKind.PROTOCOL
        assert str(port) in found.hint

    async def test_an_answer_without_end(self, mode: TlsMode, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis_connection, "ANSWER_BYTES", 100_000)

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answering(b"+PONG\r\n")(reader, writer) if mode is TlsMode.PREFER else None
            await reader.read(65536)
            writer.write(b"*100000000\r\n")
            await pour(reader, writer, b":1\r\n" * 1000)

        async with listening(server) as port:
            found = await failure(replace(odd_target(port, mode), statement_seconds=20, connect_seconds=20))
        assert found.kind is FailureKind.PROTOCOL
        assert "too large" in found.message

    @pytest.mark.parametrize(
        ("answer", "kind", "code"),
        [
            ("LOADING Redis is loading the dataset in memory", FailureKind.SERVER_ERROR, "LOADING"),
            ("MASTERDOWN Link with MASTER is down", FailureKind.SERVER_ERROR, "MASTERDOWN"),
            ("MISCONF Redis is configured to save RDB snapshots", FailureKind.SERVER_ERROR, "MISCONF"),
            ("BUSY Redis is busy running a script", FailureKind.SERVER_ERROR, "BUSY"),
            ("DENIED Redis is running in protected mode", FailureKind.SIGN_IN_REFUSED, "DENIED"),
            ("ERR max number of clients reached", FailureKind.SERVER_ERROR, "ERR"),
            ("ERR unknown command 'AUTH', with args: 'hunter2-hunter2'", FailureKind.PERMISSION_MISSING, "ERR"),
            ("ERR something else", FailureKind.SERVER_ERROR, "ERR"),
            ("WRONGPASS invalid username-password pair", FailureKind.SIGN_IN_REFUSED, "WRONGPASS"),
            ("MOVED 1 nowhere:1 " + "x" * 5000, FailureKind.PROTOCOL, None),
        ],
    )
    async def test_errors_by_their_words(self, answer: str, kind: FailureKind, code: str | None, mode: TlsMode) -> None:
        error = f"-{answer}\r\n".encode()
        answers = (b"+PONG\r\n", error * 2) if mode is TlsMode.PREFER else (error * 2,)
        async with listening(answering(*answers)) as port:
            found = await failure(odd_target(port, mode))
        assert (found.kind, found.server_code) == (kind, code)
        assert "hunter2" not in repr(found)
        assert len(found.message) <= 500

    @pytest.mark.parametrize("allowed_bytes", [0, 3, 12, 100])
    async def test_hangs_in_mid_result(self, muster: RedisServer, allowed_bytes: int, mode: TlsMode) -> None:
        relay = Relay(muster.port)
        async with listening(relay) as port:
            target = replace(target_of(muster), port=port, tls_mode=mode, statement_seconds=0.4)
            began = time.perf_counter()
            async with adapter.connect(target) as session:
                relay.limit = allowed_bytes
                with pytest.raises(ServerFailure) as caught:
                    await session.accounts()
                with pytest.raises(ServerFailure) as after:
                    await session.databases()
        assert caught.value.kind is FailureKind.TIMED_OUT
        assert after.value.kind is FailureKind.CLOSED
        assert time.perf_counter() - began < 2

    async def test_goes_away_in_the_middle(self, muster: RedisServer, mode: TlsMode) -> None:
        async with adapter.connect(replace(target_of(muster), tls_mode=mode)) as session:
            await run(muster, ("CLIENT", "KILL", "USER", "muster"))
            with pytest.raises(ServerFailure) as caught:
                await session.databases()
        assert caught.value.kind is FailureKind.CLOSED

    async def test_can_be_cancelled_at_any_time(self, mode: TlsMode) -> None:
        async with listening(say_nothing) as port:
            task = asyncio.create_task(failure(replace(odd_target(port, mode), connect_seconds=30)))
            await asyncio.sleep(0.1)
            task.cancel()
            began = time.perf_counter()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert time.perf_counter() - began < 0.5
