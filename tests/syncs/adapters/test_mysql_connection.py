"""Signing in to a real MariaDB, with TLS and without."""

import asyncio
import time
from dataclasses import replace

import pytest
import uvloop
from pydantic import SecretStr

from app.models.instance import TlsMode
from app.syncs.adapters.mysql import MysqlSession, adapter
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.adapters.mysql_targets import (
    failure,
    odd_target,
    run,
    target_of,
)
from tests.syncs.adapters.odd_servers import (
    listening,
    mysql_error,
    mysql_greeting,
    saying,
)
from tests.syncs.certificates import CertificateAuthority
from tests.syncs.servers import ROOT_PASSWORD, MariadbServer


@pytest.fixture
def muster(mariadb_with_muster: MariadbServer) -> MariadbServer:
    return mariadb_with_muster


class TestSigningIn:
    async def test_a_wrong_password(self, muster: MariadbServer) -> None:
        found = await failure(replace(target_of(muster), password=SecretStr("wrong-one")))
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "1045")
        assert "wrong-one" not in f"{found!r} {found.message} {found.hint}"

    async def test_a_locked_account(self, mariadb: MariadbServer) -> None:
        await run(mariadb, "CREATE USER shut@'%' IDENTIFIED BY 'x' ACCOUNT LOCK")
        found = await failure(target_of(mariadb, "shut", "x"))
        await run(mariadb, "DROP USER shut@'%'")
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "4151")
        assert "UNLOCK" in found.hint

    async def test_an_expired_password(self, mariadb: MariadbServer) -> None:
        await run(mariadb, "CREATE USER old@'%' IDENTIFIED BY 'x' PASSWORD EXPIRE")
        found = await failure(target_of(mariadb, "old", "x"))
        await run(mariadb, "DROP USER old@'%'")
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "1820")
        assert "expired" in found.hint

    async def test_a_database_that_is_not_there(self, mariadb: MariadbServer) -> None:
        target = replace(target_of(mariadb, "root", ROOT_PASSWORD), database_name="nowhere")
        found = await failure(target)
        assert (found.kind, found.server_code) == (FailureKind.DATABASE_MISSING, "1049")

    async def test_a_database_that_may_not_be_used(self, muster: MariadbServer, shop: str) -> None:
        await run(muster, "CREATE USER bare@'%' IDENTIFIED BY 'x'")
        found = await failure(replace(target_of(muster, "bare", "x"), database_name=shop))
        await run(muster, "DROP USER bare@'%'")
        assert (found.kind, found.server_code) == (FailureKind.PERMISSION_MISSING, "1044")

    async def test_too_many_connections_of_an_account(self, mariadb: MariadbServer) -> None:
        await run(mariadb, "CREATE USER one@'%' IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1")
        async with adapter.connect(target_of(mariadb, "one", "x")):
            found = await failure(target_of(mariadb, "one", "x"))
        await run(mariadb, "DROP USER one@'%'")
        assert found.kind is FailureKind.SERVER_ERROR
        assert found.server_code in ("1203", "1226")
        assert "max_connections" in found.hint

    async def test_a_way_that_the_driver_does_not_know(self, mariadb: MariadbServer) -> None:
        await run(mariadb, "INSTALL SONAME 'auth_ed25519'")
        await run(mariadb, "CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x')")
        found = await failure(target_of(mariadb, "ed", "x"))
        await run(mariadb, "DROP USER ed@'%'", "UNINSTALL SONAME 'auth_ed25519'")
        assert found.kind is FailureKind.SIGN_IN_REFUSED
        assert "client_ed25519" in found.message
        assert "mysql_native_password" in found.hint

    async def test_a_statement_that_takes_too_long(self, mariadb: MariadbServer) -> None:
        target = replace(target_of(mariadb, "root", ROOT_PASSWORD), statement_seconds=0.3)
        async with adapter.connect(target) as session:
            assert isinstance(session, MysqlSession)
            began = time.perf_counter()
            with pytest.raises(ServerFailure) as caught:
                await session._connection.execute("SELECT SLEEP(30)")
        assert caught.value.kind is FailureKind.TIMED_OUT
        assert time.perf_counter() - began < 2


class TestTls:
    async def _cipher(self, target: Target) -> str:
        async with adapter.connect(target) as session:
            assert isinstance(session, MysqlSession)
            rows = await session._connection.ask("SHOW SESSION STATUS LIKE 'Ssl_cipher'", 2)
            return rows[0][1] or ""

    async def test_disable_goes_without(self, muster: MariadbServer) -> None:
        assert await self._cipher(replace(target_of(muster), tls_mode=TlsMode.DISABLE)) == ""

    @pytest.mark.parametrize("mode", [TlsMode.PREFER, TlsMode.REQUIRE])
    async def test_prefer_and_require_take_what_is_there(self, muster: MariadbServer, mode: TlsMode) -> None:
        assert await self._cipher(replace(target_of(muster), tls_mode=mode))

    async def test_verify_full_with_the_authority(self, muster: MariadbServer) -> None:
        target = replace(target_of(muster), tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=muster.authority.file)
        assert await self._cipher(target)

    async def test_verify_full_over_uvloop(self, muster: MariadbServer) -> None:
        target = replace(target_of(muster), tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=muster.authority.file)
        assert await asyncio.to_thread(uvloop.run, self._cipher(target))

    async def test_another_authority(self, muster: MariadbServer, tmp_path_factory: pytest.TempPathFactory) -> None:
        other = CertificateAuthority(tmp_path_factory.mktemp("other"), "other")
        found = await failure(replace(target_of(muster), tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=other.file))
        assert found.kind is FailureKind.TLS
        assert "other.pem" in found.hint

    async def test_another_host(self, muster: MariadbServer) -> None:
        target = replace(target_of(muster), tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=muster.authority.file)
        found = await failure(replace(target, host="db.example.test"))
        assert found.kind is FailureKind.TLS
        assert "db.example.test" in found.hint

    @pytest.mark.parametrize("mode", [TlsMode.REQUIRE, TlsMode.VERIFY_FULL])
    async def test_a_server_without_tls_never_sees_the_sign_in(self, mode: TlsMode) -> None:
        heard: list[bytes] = []

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(mysql_greeting())
            heard.append(await reader.read(65536))

        async with listening(server) as port:
            found = await failure(replace(odd_target(port), tls_mode=mode))
            await asyncio.sleep(0.05)
        assert found.kind is FailureKind.TLS
        assert heard == [b""]

    async def test_a_server_that_demands_tls(self) -> None:
        async with listening(saying(mysql_error(0, 3159, "Insecure transport is prohibited"))) as port:
            found = await failure(replace(odd_target(port), tls_mode=TlsMode.DISABLE))
        assert (found.kind, found.server_code) == (FailureKind.TLS, "3159")

    async def test_one_that_does_not_say_so_leaves_a_hint(self, muster: MariadbServer) -> None:
        await run(muster, "CREATE USER safe@'%' IDENTIFIED BY 'x' REQUIRE SSL")
        found = await failure(replace(target_of(muster, "safe", "x"), tls_mode=TlsMode.DISABLE))
        await run(muster, "DROP USER safe@'%'")
        assert (found.kind, found.server_code) == (FailureKind.SIGN_IN_REFUSED, "1045")
        assert "demands TLS" in found.hint
