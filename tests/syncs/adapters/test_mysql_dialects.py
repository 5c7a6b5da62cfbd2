"""What is asked of MySQL itself, which the test run has no server of.

Its grant tables are made on MariaDB, in another database and of the shape that the manual gives
(https://dev.mysql.com/doc/refman/8.4/en/grant-tables.html), so that the questions are really answered; what only MySQL
can answer is recorded.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from app.inventory.records import FoundAccount
from app.syncs.adapters.mysql import MysqlSession, _session_settings, adapter
from app.syncs.adapters.mysql_accounts import mysql_accounts
from app.syncs.adapters.mysql_connection import MysqlConnection, Row
from app.syncs.adapters.mysql_release import Release
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.adapters.mysql_targets import ident, odd_target, run, target_of
from tests.syncs.servers import ROOT_PASSWORD, MariadbServer

MYSQL_8 = Release("8.4.3")
MYSQL_5_7 = Release("5.7.44-log")
RIGHTS = [
    "Select", "Insert", "Update", "Delete", "Create", "Drop", "Reload", "Shutdown", "Process", "File", "Grant",
    "References", "Index", "Alter", "Show_db", "Super", "Create_tmp_table", "Lock_tables", "Execute", "Repl_slave",
    "Repl_client", "Create_view", "Show_view", "Create_routine", "Alter_routine", "Create_user", "Event", "Trigger",
    "Create_tablespace", "Create_role", "Drop_role",
]  # fmt: skip
ON_DATABASES = [
    "Select", "Insert", "Update", "Delete", "Create", "Drop", "Grant", "References", "Index", "Alter",
    "Create_tmp_table", "Lock_tables", "Create_view", "Show_view", "Create_routine", "Alter_routine", "Execute",
    "Event", "Trigger",
]  # fmt: skip


def switches(names: Sequence[str]) -> str:
    return ", ".join(f"{name}_priv enum('N','Y') NOT NULL DEFAULT 'N'" for name in names)


TABLES = [
    f"""user (Host char(255), User char(32), {switches(RIGHTS)}, ssl_type enum('','ANY','X509','SPECIFIED') DEFAULT '',
        max_user_connections int unsigned DEFAULT 0, plugin char(64) DEFAULT 'caching_sha2_password',
        authentication_string text, password_expired enum('N','Y') DEFAULT 'N', password_last_changed timestamp NULL,
        password_lifetime smallint unsigned, account_locked enum('N','Y') DEFAULT 'N', User_attributes json)""",
    f"db (Host char(255), Db char(64), User char(32), {switches(ON_DATABASES)})",
    "tables_priv (Host char(255), Db char(64), User char(32), Table_name char(64), Table_priv "
    "set('Select','Insert','Update','Delete','Create','Drop','Grant','References','Index','Alter','Create View',"
    "'Show view','Trigger'), Column_priv set('Select','Insert','Update','References'))",
    "columns_priv (Host char(255), Db char(64), User char(32), Table_name char(64), Column_name char(64), Column_priv "
    "set('Select','Insert','Update','References'))",
    "procs_priv (Host char(255), Db char(64), User char(32), Routine_name char(64), Routine_type "
    "enum('FUNCTION','PROCEDURE'), Proc_priv set('Execute','Alter Routine','Grant'))",
    "proxies_priv (Host char(255), User char(32), Proxied_host char(255), Proxied_user char(32), With_grant tinyint)",
    "global_grants (USER char(32), HOST char(255), PRIV char(32), WITH_GRANT_OPTION enum('N','Y'))",
    "role_edges (FROM_HOST char(255), FROM_USER char(32), TO_HOST char(255), TO_USER char(32), "
    "WITH_ADMIN_OPTION enum('N','Y'))",
    "default_roles (HOST char(255), USER char(32), DEFAULT_ROLE_HOST char(255), DEFAULT_ROLE_USER char(32))",
]


class GrantTables:
    """Asks a real connection, of the tables in the other database."""

    def __init__(self, connection: MysqlConnection, database: str) -> None:
        self._connection = connection
        self._database = database
        self.questions: list[str] = []

    async def ask(self, question: str, columns: int, *, grant: str | None = None) -> Sequence[Row]:
        self.questions.append(question)
        moved = question.replace("mysql.", f"{self._database}.").replace("'mysql'", f"'{self._database}'")
        return await self._connection.ask(moved, columns, grant=grant)

    async def put(self, table: str, **values: str | int | None) -> None:
        names = ", ".join(ident(name) for name in values)
        texts = ", ".join("NULL" if value is None else f"'{value}'" for value in values.values())
        await run(self._server, f"INSERT INTO {self._database}.{table} ({names}) VALUES ({texts})")

    async def accounts(self, release: Release = MYSQL_8) -> Mapping[str, FoundAccount]:
        found = await mysql_accounts(cast(MysqlConnection, self), release)
        return {each.username: each for each in found}

    _server: MariadbServer


@pytest.fixture
async def tables(mariadb: MariadbServer) -> AsyncIterator[GrantTables]:
    await run(mariadb, "CREATE DATABASE mysql8", *(f"CREATE TABLE mysql8.{each}" for each in TABLES))
    async with adapter.connect(target_of(mariadb, "root", ROOT_PASSWORD)) as session:
        assert isinstance(session, MysqlSession)
        tables = GrantTables(session._connection, "mysql8")
        tables._server = mariadb
        yield tables
    await run(mariadb, "DROP DATABASE mysql8")


class TestAccounts:
    async def test_rights_on_the_server(self, tables: GrantTables) -> None:
        await tables.put("user", User="dba", Host="%", Super_priv="Y", Grant_priv="Y", Show_db_priv="Y")
        await tables.put("global_grants", USER="dba", HOST="%", PRIV="BACKUP_ADMIN", WITH_GRANT_OPTION="N")
        await tables.put("global_grants", USER="dba", HOST="%", PRIV="CLONE_ADMIN", WITH_GRANT_OPTION="Y")
        found = (await tables.accounts())["dba"]
        assert found.is_superuser
        assert found.permissions.global_privileges == [
            "BACKUP_ADMIN", "CLONE_ADMIN", "GRANT OPTION", "SHOW DATABASES", "SUPER",
        ]  # fmt: skip
        assert found.permissions.grantable_privileges == ["*: CLONE_ADMIN", "*: SHOW DATABASES", "*: SUPER"]
        assert len(tables.questions) == 10

    async def test_every_right_has_its_name(self, tables: GrantTables) -> None:
        await tables.put("user", User="all", Host="%", **{f"{each}_priv": "Y" for each in RIGHTS})
        await tables.put("db", User="all", Host="%", Db="shop", **{f"{each}_priv": "Y" for each in ON_DATABASES})
        rights = (await tables.accounts())["all"].permissions
        # As SHOW GRANTS writes them: https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html
        on_databases = {
            "ALTER", "ALTER ROUTINE", "CREATE", "CREATE ROUTINE", "CREATE TEMPORARY TABLES", "CREATE VIEW", "DELETE",
            "DROP", "EVENT", "EXECUTE", "GRANT OPTION", "INDEX", "INSERT", "LOCK TABLES", "REFERENCES", "SELECT",
            "SHOW VIEW", "TRIGGER", "UPDATE",
        }  # fmt: skip
        assert set(rights.database_privileges["shop"]) == on_databases
        assert set(rights.global_privileges) - on_databases == {
            "CREATE ROLE", "CREATE TABLESPACE", "CREATE USER", "DROP ROLE", "FILE", "PROCESS", "RELOAD",
            "REPLICATION CLIENT", "REPLICATION SLAVE", "SHOW DATABASES", "SHUTDOWN", "SUPER",
        }  # fmt: skip
        assert "shop: LOCK TABLES" in rights.grantable_privileges

    async def test_rights_on_objects(self, tables: GrantTables) -> None:
        await tables.put("user", User="ann", Host="%")
        at = {"User": "ann", "Host": "%", "Db": "shop"}
        await tables.put("tables_priv", **at, Table_name="orders", Table_priv="Select,Create View,Grant")
        await tables.put("columns_priv", **at, Table_name="orders", Column_name="total", Column_priv="Update")
        await tables.put("procs_priv", **at, Routine_name="f", Routine_type="FUNCTION", Proc_priv="Execute")
        await tables.put("proxies_priv", User="ann", Host="%", Proxied_user="dba", Proxied_host="%", With_grant=0)
        rights = (await tables.accounts())["ann"].permissions
        assert rights.object_privileges == {
            "FUNCTION shop.f": ["EXECUTE"],
            "dba@%": ["PROXY"],
            "shop.orders": ["CREATE VIEW", "GRANT OPTION", "SELECT"],
            "shop.orders.total": ["UPDATE"],
        }
        assert rights.grantable_privileges == ["shop.orders: CREATE VIEW", "shop.orders: SELECT"]

    async def test_roles(self, tables: GrantTables) -> None:
        await tables.put("user", User="ann", Host="%")
        await tables.put("user", User="reader", Host="%", account_locked="Y", password_expired="Y")
        await tables.put(
            "role_edges", FROM_USER="reader", FROM_HOST="%", TO_USER="ann", TO_HOST="%", WITH_ADMIN_OPTION="Y"
        )
        await tables.put(
            "role_edges", FROM_USER="near", FROM_HOST="localhost", TO_USER="ann", TO_HOST="%", WITH_ADMIN_OPTION="N"
        )
        await tables.put("default_roles", USER="ann", HOST="%", DEFAULT_ROLE_USER="reader", DEFAULT_ROLE_HOST="%")
        accounts = await tables.accounts()
        assert accounts["ann"].permissions.roles == ["near@localhost", "reader"]
        assert accounts["ann"].permissions.grantable_privileges == ["*: reader"]
        assert accounts["ann"].attributes["default_roles"] == ["reader"]
        assert accounts["ann"].can_login
        assert not accounts["reader"].can_login

    async def test_locks_limits_and_passwords(self, tables: GrantTables) -> None:
        await tables.put(
            "user",
            User="ann",
            Host="10.%",
            account_locked="Y",
            max_user_connections=9,
            ssl_type="ANY",
            password_last_changed="2026-01-01 00:00:00",
            password_lifetime=31,
        )
        found = (await tables.accounts())["ann"]
        assert (found.host, found.is_locked, found.connection_limit) == ("10.%", True, 9)
        assert found.authentication_method == "caching_sha2_password"
        assert found.password_expires_at == datetime(2026, 2, 1, tzinfo=UTC)
        assert found.attributes == {
            "password_last_changed": "2026-01-01T00:00:00+00:00", "password_lifetime": 31, "ssl_type": "ANY",
        }  # fmt: skip

    async def test_partial_revokes_and_no_hash(self, tables: GrantTables) -> None:
        await tables.put(
            "user",
            User="ann",
            Host="%",
            authentication_string="$A$005$thehash",
            User_attributes='{"additional_password": "$A$005$another", "Restrictions": '
            '[{"Database": "mysql", "Privileges": ["SELECT", "INSERT"]}]}',
        )
        found = (await tables.accounts())["ann"]
        assert found.attributes == {"partial_revokes": ["SELECT, INSERT on mysql"]}
        assert not any("authentication_string" in each for each in tables.questions)
        assert "$A$005" not in repr(found)

    async def test_mysql_5_7_has_neither_roles_nor_dynamic_rights(self, tables: GrantTables) -> None:
        for table in ("global_grants", "role_edges", "default_roles"):
            await run(tables._server, f"DROP TABLE mysql8.{table}")
        await run(tables._server, "ALTER TABLE mysql8.user DROP COLUMN User_attributes")
        await tables.put("user", User="ann", Host="%", Select_priv="Y")
        found = (await tables.accounts(MYSQL_5_7))["ann"]
        assert found.permissions.global_privileges == ["SELECT"]
        assert len(tables.questions) == 7

    async def test_without_the_table_the_failure_says_which(self, tables: GrantTables) -> None:
        await run(tables._server, "DROP TABLE mysql8.user")
        with pytest.raises(ServerFailure) as caught:
            await tables.accounts()
        assert caught.value.kind is FailureKind.PERMISSION_MISSING
        assert "GRANT SELECT ON mysql.user" in caught.value.hint


class TestReleases:
    @pytest.mark.parametrize(
        ("text", "is_mariadb", "number"),
        [
            ("10.11.19-MariaDB-0+deb12u1", True, (10, 11, 19)),
            ("12.1.2-MariaDB-ubu2404-log", True, (12, 1, 2)),
            ("8.0.36-28", False, (8, 0, 36)),
            ("9.1.0", False, (9, 1, 0)),
            ("5.7.44-log", False, (5, 7, 44)),
            ("what?", False, (0,)),
        ],
    )
    def test_versions(self, text: str, is_mariadb: bool, number: tuple[int, ...]) -> None:
        assert (Release(text).is_mariadb, Release(text).number) == (is_mariadb, number)

    def test_sessions_are_limited_in_each_ones_words(self) -> None:
        assert "max_statement_time = 0.400" in _session_settings(Release("10.4.1-MariaDB"), odd_target(1))
        mysql_5_7 = _session_settings(MYSQL_5_7, odd_target(1))
        assert "max_execution_time = 400" in mysql_5_7
        assert "information_schema_stats_expiry = 0" not in mysql_5_7
        assert "information_schema_stats_expiry = 0" in _session_settings(MYSQL_8, odd_target(1))
