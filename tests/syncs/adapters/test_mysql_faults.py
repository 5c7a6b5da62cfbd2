"""Servers that are no MySQL, or stop being one: what the adapter makes of them."""

import asyncio
import time
from dataclasses import replace

import pytest

from app.models.instance import TlsMode
from app.syncs.adapters import mysql_connection
from app.syncs.adapters.mysql import MysqlSession, adapter
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.adapters.mysql_targets import (
    failure,
    odd_target,
    run,
    target_of,
)
from tests.syncs.adapters.odd_servers import (
    MYSQL_OK,
    Relay,
    answering,
    close_at_once,
    listening,
    mysql_error,
    mysql_greeting,
    mysql_packet,
    pour,
    say_nothing,
    saying,
)
from tests.syncs.servers import ROOT_PASSWORD, MariadbServer


@pytest.fixture
def muster(mariadb_with_muster: MariadbServer) -> MariadbServer:
    return mariadb_with_muster


class TestFaults:
    async def test_nobody_listens(self, mariadb: MariadbServer) -> None:
        async with listening(say_nothing) as port:
            pass
        assert (await failure(odd_target(port))).kind is FailureKind.REFUSED

    async def test_the_next_address_is_tried(self, muster: MariadbServer) -> None:
        target = replace(target_of(muster), addresses=("127.0.0.77", "127.0.0.1"))
        async with adapter.connect(target) as session:
            assert (await session.check()).version

    async def test_accepts_and_never_answers(self) -> None:
        async with listening(say_nothing) as port:
            began = time.perf_counter()
            found = await failure(odd_target(port))
        assert found.kind is FailureKind.TIMED_OUT
        assert time.perf_counter() - began < 1

    async def test_closes_at_once(self) -> None:
        async with listening(close_at_once) as port:
            assert (await failure(odd_target(port))).kind is FailureKind.CLOSED

    @pytest.mark.parametrize(
        "garbage",
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"-ERR unknown command\r\n",
            bytes(range(1, 256)) * 4,
            mysql_packet(0, b""),
            mysql_packet(0, b"\x0a"),
            mysql_packet(0, b"\x0anot a version\0" + bytes(40)),
        ],
    )
    async def test_answers_garbage(self, garbage: bytes) -> None:
        async with listening(saying(garbage)) as port:
            found = await failure(odd_target(port))
        assert found.kind is FailureKind.PROTOCOL
        assert str(port) in found.hint

    async def test_a_greeting_without_end(self) -> None:
        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await pour(reader, writer, b"\xff\xff\xff\x00" + bytes(65536))

        async with listening(server) as port:
            assert (await failure(odd_target(port))).kind is FailureKind.PROTOCOL

    async def test_an_answer_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mysql_connection, "ANSWER_BYTES", 100_000)
        rows = b"".join(mysql_packet(number % 256, b"\x01a") for number in range(5, 5 + 256 * 64))
        column = b"\x03def\0\0\0\x01a\0\x0c\x2d\0\x04\0\0\0\xfd\0\0\0\0\0"
        head = mysql_packet(1, b"\x01") + mysql_packet(2, column) + mysql_packet(3, b"\xfe\0\0\2\0")

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(mysql_greeting())
            await reader.read(65536)
            writer.write(mysql_packet(2, MYSQL_OK))
            await reader.read(65536)
            writer.write(head + mysql_packet(4, b"\x01a"))
            await pour(reader, writer, rows)

        async with listening(server) as port:
            found = await failure(replace(odd_target(port), statement_seconds=20, connect_seconds=20))
        assert found.kind is FailureKind.PROTOCOL
        assert "too large" in found.message

    async def test_never_gives_the_password_away_in_clear(self) -> None:
        heard: list[bytes] = []

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(mysql_greeting(method="mysql_clear_password"))
            heard.append(await reader.read(65536))
            writer.write(mysql_packet(2, b"\xfemysql_clear_password\0"))
            heard.append(await reader.read(65536))

        async with listening(server) as port:
            found = await failure(odd_target(port))
            await asyncio.sleep(0.05)
        assert found.kind is FailureKind.SIGN_IN_REFUSED
        assert heard
        assert b"hunter2" not in b"".join(heard)

    async def test_gives_no_file_away(self) -> None:
        heard: list[bytes] = []

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(mysql_greeting())
            await reader.read(65536)
            writer.write(mysql_packet(2, MYSQL_OK))
            await reader.read(65536)
            writer.write(mysql_packet(1, b"\xfb/etc/passwd"))
            heard.append(await reader.read(65536))

        async with listening(server) as port:
            found = await failure(odd_target(port))
            await asyncio.sleep(0.05)
        assert found.kind is FailureKind.PROTOCOL
        assert heard == [b""]

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (1040, FailureKind.SERVER_ERROR),
            (1129, FailureKind.SIGN_IN_REFUSED),
            (1130, FailureKind.SIGN_IN_REFUSED),
            (3118, FailureKind.SIGN_IN_REFUSED),
            (1862, FailureKind.SIGN_IN_REFUSED),
            (1698, FailureKind.SIGN_IN_REFUSED),
            (1053, FailureKind.CLOSED),
            (4711, FailureKind.SERVER_ERROR),
        ],
    )
    async def test_errors_by_their_numbers(self, code: int, kind: FailureKind) -> None:
        message = "said \0 with hunter2-hunter2 in it\n" + "x" * 5000
        async with listening(saying(mysql_error(0, code, message))) as port:
            found = await failure(odd_target(port))
        assert (found.kind, found.server_code) == (kind, str(code))
        assert "hunter2" not in repr(found)
        assert "\0" not in found.message
        assert len(found.message) <= 500

    async def test_an_unknown_method_is_named(self) -> None:
        async with listening(_asking_for("dialog")) as port:
            found = await failure(odd_target(port))
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "2059")
        assert "dialog" in found.message

    @pytest.mark.parametrize("allowed_bytes", [0, 3, 40, 400, 3000])
    async def test_hangs_in_mid_result(self, muster: MariadbServer, allowed_bytes: int) -> None:
        relay = Relay(muster.port)
        async with listening(relay) as port:
            target = replace(target_of(muster), port=port, tls_mode=TlsMode.DISABLE, statement_seconds=0.4)
            began = time.perf_counter()
            async with adapter.connect(target) as session:
                relay.limit = allowed_bytes
                with pytest.raises(ServerFailure) as caught:
                    await session.accounts()
                with pytest.raises(ServerFailure) as after:
                    await session.databases()
        assert caught.value.kind is FailureKind.TIMED_OUT
        assert after.value.kind is FailureKind.CLOSED
        assert time.perf_counter() - began < 4

    async def test_goes_away_in_the_middle(self, mariadb: MariadbServer) -> None:
        async with adapter.connect(target_of(mariadb, "root", ROOT_PASSWORD)) as session:
            assert isinstance(session, MysqlSession)
            await run(mariadb, f"KILL CONNECTION {await session._connection.value('SELECT CONNECTION_ID()')}")
            with pytest.raises(ServerFailure) as caught:
                await session.databases()
        assert caught.value.kind is FailureKind.CLOSED

    async def test_rows_of_another_shape(self) -> None:
        column = b"\x03def\0\0\0\x01a\0\x0c\x2d\0\x04\0\0\0\xfd\0\0\0\0\0"
        answer = mysql_packet(1, b"\x02") + mysql_packet(2, column) + mysql_packet(3, column)
        answer += mysql_packet(4, b"\xfe\0\0\2\0") + mysql_packet(5, b"\x01a\x01b") + mysql_packet(6, b"\xfe\0\0\2\0")

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(mysql_greeting())
            await reader.read(65536)
            writer.write(mysql_packet(2, MYSQL_OK))
            await answering(answer)(reader, writer)

        async with listening(server) as port:
            found = await failure(odd_target(port))
        assert found.kind is FailureKind.PROTOCOL

    async def test_leaves_in_a_moment_whatever_the_server_does(self, muster: MariadbServer) -> None:
        relay = Relay(muster.port)
        async with listening(relay) as port, adapter.connect(replace(target_of(muster), port=port)):
            relay.limit = 0
            began = time.perf_counter()
        assert time.perf_counter() - began < 1

    async def test_can_be_cancelled_at_any_time(self) -> None:
        async with listening(saying(mysql_greeting(tls=True))) as port:
            task = asyncio.create_task(failure(replace(odd_target(port), connect_seconds=30)))
            await asyncio.sleep(0.1)
            task.cancel()
            began = time.perf_counter()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert time.perf_counter() - began < 0.5


def _asking_for(method: str):  # type: ignore[no-untyped-def]
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(mysql_greeting())
        await reader.read(65536)
        writer.write(mysql_packet(2, b"\xfe" + method.encode() + b"\0salt"))
        await asyncio.sleep(5)

    return server
