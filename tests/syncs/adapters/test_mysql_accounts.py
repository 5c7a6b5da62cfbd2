"""Accounts of a real MariaDB and their rights, read by an account that has the documented rights and no more."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.syncs.adapters.mysql import MysqlSession, adapter
from app.syncs.adapters.port import ServerSession
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.adapters.mysql_targets import account, ident, run, target_of, text
from tests.syncs.servers import ROOT_PASSWORD, MariadbServer

CJK = "数据库账户管理员" * 8


@pytest.fixture
def session(mariadb_session: ServerSession) -> ServerSession:
    return mariadb_session


@pytest.fixture
async def ann(mariadb: MariadbServer) -> AsyncIterator[str]:
    await run(mariadb, "CREATE USER ann@'10.0.%' IDENTIFIED BY 'ann-secret'")
    yield "ann@'10.0.%'"
    await run(mariadb, "DROP USER ann@'10.0.%'")


class TestAccounts:
    async def test_an_account_that_may_do_nothing(self, session: ServerSession, ann: str) -> None:
        found = await account(session, "ann")
        assert (found.host, found.is_superuser, found.can_login, found.is_locked) == ("10.0.%", False, True, False)
        assert found.authentication_method == "mysql_native_password"
        assert found.permissions.global_privileges == []
        assert set(found.attributes) == {"password_last_changed"}

    async def test_root_is_a_superuser(self, session: ServerSession) -> None:
        found = await account(session, "root")
        assert found.is_superuser
        assert {"SUPER", "SELECT", "BINLOG ADMIN", "GRANT OPTION"} <= set(found.permissions.global_privileges)
        assert "*: SELECT" in found.permissions.grantable_privileges

    async def test_every_right_on_the_server_has_its_name(
        self, session: ServerSession, mariadb: MariadbServer, ann: str
    ) -> None:
        rights = [
            "ALTER", "ALTER ROUTINE", "BINLOG ADMIN", "BINLOG MONITOR", "BINLOG REPLAY", "CONNECTION ADMIN", "CREATE",
            "CREATE ROUTINE", "CREATE TABLESPACE", "CREATE TEMPORARY TABLES", "CREATE USER", "CREATE VIEW", "DELETE",
            "DELETE HISTORY", "DROP", "EVENT", "EXECUTE", "FEDERATED ADMIN", "FILE", "INDEX", "INSERT", "LOCK TABLES",
            "PROCESS", "READ_ONLY ADMIN", "REFERENCES", "RELOAD", "REPLICATION MASTER ADMIN", "REPLICATION SLAVE",
            "REPLICATION SLAVE ADMIN", "SELECT", "SET USER", "SHOW DATABASES", "SHOW VIEW", "SHUTDOWN",
            "SLAVE MONITOR", "SUPER", "TRIGGER", "UPDATE",
        ]  # fmt: skip
        for right in rights:
            await run(mariadb, f"REVOKE ALL, GRANT OPTION FROM {ann}", f"GRANT {right} ON *.* TO {ann}")
            assert (await account(session, "ann")).permissions.global_privileges == [right]

    async def test_rights_on_databases_tables_columns_and_routines(
        self, session: ServerSession, mariadb: MariadbServer, shop: str, ann: str
    ) -> None:
        await run(
            mariadb,
            f"GRANT SELECT, CREATE TEMPORARY TABLES, DELETE HISTORY ON shop.* TO {ann}",
            f"GRANT INSERT, SHOW VIEW ON shop.orders TO {ann} WITH GRANT OPTION",
            f"GRANT UPDATE (total) ON shop.orders TO {ann}",
            f"GRANT EXECUTE, ALTER ROUTINE ON PROCEDURE shop.settle TO {ann}",
            f"GRANT PROXY ON root@'%' TO {ann} WITH GRANT OPTION",
        )
        rights = (await account(session, "ann")).permissions
        assert rights.database_privileges == {"shop": ["CREATE TEMPORARY TABLES", "DELETE HISTORY", "SELECT"]}
        assert rights.object_privileges == {
            "PROCEDURE shop.settle": ["ALTER ROUTINE", "EXECUTE"],
            "root@%": ["PROXY"],
            "shop.orders": ["GRANT OPTION", "INSERT", "SHOW VIEW"],
            "shop.orders.total": ["UPDATE"],
        }
        assert rights.grantable_privileges == ["root@%: PROXY", "shop.orders: INSERT", "shop.orders: SHOW VIEW"]

    async def test_what_is_revoked_and_dropped_is_gone(
        self, session: ServerSession, mariadb: MariadbServer, shop: str
    ) -> None:
        await run(mariadb, "CREATE USER bob@'%'", "GRANT SELECT ON shop.* TO bob@'%'")
        before = await account(session, "bob")
        await run(mariadb, "REVOKE SELECT ON shop.* FROM bob@'%'")
        revoked = await account(session, "bob")
        await run(mariadb, "DROP USER bob@'%'")
        assert before.permissions.database_privileges == {"shop": ["SELECT"]}
        assert revoked.permissions.database_privileges == {}
        assert "bob" not in [each.username for each in await session.accounts()]

    async def test_roles(self, session: ServerSession, mariadb: MariadbServer, ann: str) -> None:
        await run(
            mariadb,
            "CREATE ROLE reader",
            "CREATE ROLE chief",
            "GRANT reader TO chief",
            f"GRANT chief TO {ann} WITH ADMIN OPTION",
            f"SET DEFAULT ROLE chief FOR {ann}",
            "GRANT RELOAD ON *.* TO reader",
        )
        by_name = {each.username: each for each in await session.accounts()}
        await run(mariadb, "DROP ROLE reader, chief")
        assert by_name["ann"].permissions.roles == ["chief"]
        assert by_name["ann"].permissions.grantable_privileges == ["*: chief"]
        assert by_name["ann"].attributes["default_role"] == "chief"
        assert by_name["chief"].permissions.roles == ["reader"]
        assert not by_name["reader"].can_login
        assert by_name["reader"].host == ""
        assert by_name["reader"].authentication_method is None
        assert by_name["reader"].permissions.global_privileges == ["RELOAD"]

    async def test_locks_limits_and_passwords(self, session: ServerSession, mariadb: MariadbServer, ann: str) -> None:
        await run(mariadb, f"ALTER USER {ann} REQUIRE X509 WITH MAX_USER_CONNECTIONS 7 ACCOUNT LOCK")
        await run(mariadb, f"ALTER USER {ann} PASSWORD EXPIRE INTERVAL 30 DAY")
        found = await account(session, "ann")
        assert (found.is_locked, found.connection_limit, found.attributes["ssl_type"]) == (True, 7, "X509")
        assert found.password_expires_at is not None
        assert abs(found.password_expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
        await run(mariadb, f"ALTER USER {ann} PASSWORD EXPIRE NEVER")
        assert (await account(session, "ann")).password_expires_at is None

    async def test_the_servers_own_password_lifetime(
        self, session: ServerSession, mariadb: MariadbServer, ann: str
    ) -> None:
        await run(mariadb, "SET GLOBAL default_password_lifetime = 10")
        expires_at = (await account(session, "ann")).password_expires_at
        await run(mariadb, "SET GLOBAL default_password_lifetime = 0")
        assert expires_at is not None
        assert abs(expires_at - datetime.now(UTC) - timedelta(days=10)) < timedelta(minutes=5)

    async def test_a_password_that_was_expired_by_hand(
        self, session: ServerSession, mariadb: MariadbServer, ann: str
    ) -> None:
        await run(mariadb, f"ALTER USER {ann} PASSWORD EXPIRE")
        found = await account(session, "ann")
        assert found.attributes["password_expired"] is True
        assert "password_last_changed" not in found.attributes

    async def test_several_ways_to_sign_in(self, session: ServerSession, mariadb: MariadbServer) -> None:
        await run(
            mariadb,
            "CREATE USER twofold@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('x')",
        )
        found = await account(session, "twofold")
        await run(mariadb, "DROP USER twofold@localhost")
        assert found.authentication_method == "mysql_native_password,unix_socket"

    # No emoji: names are utf8mb3 on these servers, which refuse what is beyond it.
    @pytest.mark.parametrize(
        "name",
        ['o\'brien "the boss"', CJK, "semi; -- x", "back`tick", "per%cent", "b\\s", "tab\there", "with.dot"],
    )
    async def test_strange_names(self, session: ServerSession, mariadb: MariadbServer, name: str) -> None:
        # A file's name takes five bytes for each such character.
        database, user = name[:45], f"{text(name)}@'%'"
        await run(
            mariadb,
            f"CREATE USER {user}",
            f"CREATE DATABASE {ident(database)}",
            f"CREATE TABLE {ident(database)}.{ident(database)} (id int)",
            f"GRANT SELECT ON {ident(database)}.{ident(database)} TO {user}",
        )
        found = await account(session, name)
        databases = [each.name for each in await session.databases()]
        sizes = await session.sizes(5)
        await run(mariadb, f"DROP USER {user}", f"DROP DATABASE {ident(database)}")
        part = ident(database) if {".", "`"} & set(database) else database
        assert found.permissions.object_privileges == {f"{part}.{part}": ["SELECT"]}
        assert database in databases
        assert (database, database) in [(each.database_name, each.table_name) for each in sizes.tables]

    async def test_no_hash_leaves_the_server(self, session: ServerSession, ann: str) -> None:
        found = repr(await session.accounts())
        assert isinstance(session, MysqlSession)
        hashed = await session._connection.value("SELECT PASSWORD('ann-secret')")
        assert len(hashed) == 41
        assert hashed not in found

    async def test_without_the_right_the_failure_says_which(self, mariadb: MariadbServer, ann: str) -> None:
        await run(mariadb, "CREATE USER bare@'%' IDENTIFIED BY 'bare'")
        try:
            async with adapter.connect(target_of(mariadb, "bare", "bare")) as session:
                with pytest.raises(ServerFailure) as caught:
                    await session.accounts()
                # The session goes on after a refusal.
                assert (await session.check()).version
                with pytest.raises(ServerFailure) as unmonitored:
                    await session.members()
        finally:
            await run(mariadb, "DROP USER bare@'%'")
        assert caught.value.kind is FailureKind.PERMISSION_MISSING
        assert "GRANT SELECT ON mysql.db TO" in caught.value.hint
        assert unmonitored.value.kind is FailureKind.PERMISSION_MISSING
        assert unmonitored.value.server_code == "1227"
        assert "SLAVE MONITOR" in unmonitored.value.hint

    async def test_five_thousand_accounts_in_a_fixed_number_of_questions(self, mariadb: MariadbServer) -> None:
        await run(mariadb, "CREATE DATABASE crowd", "CREATE TABLE crowd.t (id int)")
        await run(
            mariadb,
            "INSERT INTO mysql.global_priv SELECT '%', CONCAT('crowd', seq), "
            '\'{"access":0,"plugin":"mysql_native_password","authentication_string":""}\' FROM crowd.seq_1_to_5000',
            "INSERT INTO mysql.db (Host, Db, User, Select_priv) SELECT '%', 'crowd', CONCAT('crowd', seq), 'Y' "
            "FROM crowd.seq_1_to_5000",
        )
        try:
            async with adapter.connect(target_of(mariadb, "root", ROOT_PASSWORD)) as session:
                assert isinstance(session, MysqlSession)
                before = await _questions(session)
                began = time.perf_counter()
                found = await session.accounts()
                seconds = time.perf_counter() - began
                asked = await _questions(session) - before - 1
        finally:
            await run(
                mariadb,
                "DELETE FROM mysql.global_priv WHERE User LIKE 'crowd%'",
                "DELETE FROM mysql.db WHERE User LIKE 'crowd%'",
                "FLUSH PRIVILEGES",
                "DROP DATABASE crowd",
            )
        crowd = [each for each in found if each.username.startswith("crowd")]
        assert len(crowd) == 5000
        assert {str(each.permissions.database_privileges) for each in crowd} == {"{'crowd': ['SELECT']}"}
        assert asked == 8
        assert seconds < 20


async def _questions(session: MysqlSession) -> int:
    rows = await session._connection.ask("SHOW SESSION STATUS LIKE 'Questions'", 2)
    return int(rows[0][1] or 0)
