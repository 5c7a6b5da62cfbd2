"""What the adapter finds on a real PostgreSQL, with an account that has the documented rights and no more."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from app.inventory.records import FoundAccount, PostgresqlMember
from app.syncs.adapters.port import ServerSession
from app.syncs.adapters.postgresql import adapter
from tests.postgres_server import PostgresServer
from tests.syncs.adapters.postgresql_servers import PASSWORD, CarefulServer, quoted

# 21 of these are 63 bytes, the most that PostgreSQL keeps of a name.
CJK = "数据库账户管理员" * 8
STRANGE_NAMES = [
    'o\'brien "the boss"',
    "emoji 🐘 role",
    CJK,
    "with.dot",
    "semi;colon -- comment",
    "  spaces  ",
    "ÀÉ%s{}$1",
]


@pytest.fixture(scope="session")
async def muster(careful: CarefulServer) -> str:
    """An account as docs/syncs/postgresql.md says to make it."""
    await careful.run(f"CREATE ROLE muster LOGIN PASSWORD {quoted(PASSWORD)}", "GRANT pg_monitor TO muster")
    return "muster"


@pytest.fixture
async def session(careful: CarefulServer, muster: str) -> AsyncIterator[ServerSession]:
    async with adapter.connect(careful.target(muster)) as session:
        yield session


@pytest.fixture
async def database(careful: CarefulServer) -> AsyncIterator[str]:
    name = await careful.database()
    yield name
    await careful.run(f"DROP DATABASE {name} WITH (FORCE)")


async def account(session: ServerSession, username: str) -> FoundAccount:
    return next(account for account in await session.accounts() if account.username == username)


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class TestCheck:
    async def test_tells_the_version_and_the_round_trip(self, session: ServerSession, careful: CarefulServer) -> None:
        found = await session.check()
        connection = await asyncpg.connect(careful.postgres.url())
        assert found.version == await connection.fetchval("SHOW server_version")
        await connection.close()
        assert 0 < found.round_trip_seconds < 5


class TestAttributesOfRoles:
    async def test_are_read(self, session: ServerSession, careful: CarefulServer) -> None:
        name = await careful.role(
            "LOGIN CREATEDB REPLICATION NOINHERIT CONNECTION LIMIT 7 VALID UNTIL '2031-02-03 04:05:06+00'"
        )
        found = await account(session, name)
        assert found.can_login
        assert not found.is_superuser
        assert found.connection_limit == 7
        assert found.password_expires_at == datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
        assert found.permissions.global_privileges == ["CREATEDB", "REPLICATION"]
        assert found.attributes == {"inherit": False}

    async def test_of_groups_and_superusers(self, session: ServerSession, careful: CarefulServer) -> None:
        group, boss = (
            await careful.role("NOLOGIN"),
            await careful.role("SUPERUSER BYPASSRLS CREATEROLE VALID UNTIL 'infinity'"),
        )
        assert not (await account(session, group)).can_login
        found = await account(session, boss)
        assert found.is_superuser
        assert found.password_expires_at is None
        assert found.connection_limit is None
        assert found.permissions.global_privileges == ["BYPASSRLS", "CREATEROLE", "SUPERUSER"]

    async def test_settings_show_but_no_secrets_of_applications(
        self, session: ServerSession, careful: CarefulServer
    ) -> None:
        name = await careful.role()
        await careful.run(
            f"ALTER ROLE {name} SET work_mem = '8MB'", f"ALTER ROLE {name} SET pgrst.jwt_secret = 's3cr=t'"
        )
        assert (await account(session, name)).attributes["config"] == {"pgrst.jwt_secret": "***", "work_mem": "8MB"}

    async def test_tell_predefined_roles(self, session: ServerSession) -> None:
        found = await account(session, "pg_monitor")
        assert found.attributes["predefined"] is True
        assert "pg_read_all_stats" in found.permissions.roles

    async def test_hold_no_password_nor_its_hash(self, session: ServerSession, careful: CarefulServer) -> None:
        await careful.role()
        assert "SCRAM-SHA-256" not in repr(await session.accounts())

    async def test_a_dropped_role_is_gone(self, session: ServerSession, careful: CarefulServer) -> None:
        name = await careful.role()
        await careful.run(f"DROP ROLE {name}")
        assert name not in {account.username for account in await session.accounts()}

    @pytest.mark.parametrize("name", STRANGE_NAMES)
    async def test_whatever_the_name(
        self, session: ServerSession, careful: CarefulServer, database: str, name: str
    ) -> None:
        await careful.run(
            f"CREATE ROLE {ident(name)}",
            f"CREATE SCHEMA {ident(name)}",
            f"CREATE TABLE {ident(name)}.{ident(name)} ({ident(name)} int)",
            f"GRANT SELECT ({ident(name)}) ON {ident(name)}.{ident(name)} TO {ident(name)}",
            database=database,
        )
        kept = name.encode()[:63].decode()
        part = ident(kept) if "." in kept or '"' in kept else kept
        found = await account(session, kept)
        assert found.permissions.object_privileges == {f"{database}.{part}.{part}.{part}": ["SELECT"]}


class TestMemberships:
    async def test_show_with_their_options(self, session: ServerSession, careful: CarefulServer) -> None:
        readers, writers, member = await careful.role("NOLOGIN"), await careful.role("NOLOGIN"), await careful.role()
        await careful.run(
            f"GRANT {readers} TO {member} WITH ADMIN OPTION",
            f"GRANT {writers} TO {member} WITH INHERIT FALSE, SET FALSE",
        )
        found = await account(session, member)
        assert found.permissions.roles == sorted([readers, writers])
        assert found.permissions.grantable_privileges == [f"*: {readers}"]
        assert found.attributes["membership_limits"] == {writers: ["NOINHERIT", "NOSET"]}

    async def test_that_ended_are_gone(self, session: ServerSession, careful: CarefulServer) -> None:
        group, member = await careful.role("NOLOGIN"), await careful.role()
        await careful.run(f"GRANT {group} TO {member}")
        assert (await account(session, member)).permissions.roles == [group]
        await careful.run(f"REVOKE {group} FROM {member}")
        assert (await account(session, member)).permissions.roles == []


class TestRightsOnDatabases:
    async def test_of_an_owner_are_the_default_ones(self, session: ServerSession, careful: CarefulServer) -> None:
        owner = await careful.role()
        name = await careful.database(f"OWNER {owner}")
        found = await account(session, owner)
        assert found.permissions.database_privileges == {name: ["CONNECT", "CREATE", "TEMPORARY"]}

    async def test_given_and_taken(self, session: ServerSession, careful: CarefulServer, database: str) -> None:
        role = await careful.role()
        await careful.run(f"GRANT CREATE, CONNECT ON DATABASE {database} TO {role} WITH GRANT OPTION")
        found = (await account(session, role)).permissions
        assert found.database_privileges == {database: ["CONNECT", "CREATE"]}
        assert found.grantable_privileges == [f"{database}: CONNECT", f"{database}: CREATE"]
        await careful.run(f"REVOKE CREATE ON DATABASE {database} FROM {role}")
        assert (await account(session, role)).permissions.database_privileges == {database: ["CONNECT"]}

    async def test_of_everybody_are_publics(
        self, session: ServerSession, careful: CarefulServer, database: str
    ) -> None:
        assert (await account(session, "public")).permissions.database_privileges[database] == ["CONNECT", "TEMPORARY"]
        await careful.run(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        public = await account(session, "public")
        assert public.permissions.database_privileges[database] == ["CONNECT"]
        assert not public.can_login


class TestRightsOnTheServer:
    async def test_on_parameters_and_tablespaces(self, session: ServerSession, careful: CarefulServer) -> None:
        role = await careful.role()
        place = careful.postgres.storage / "fast"
        place.mkdir()
        await careful.run(
            f"GRANT SET, ALTER SYSTEM ON PARAMETER work_mem TO {role}",
            f"CREATE TABLESPACE fast LOCATION '{careful.postgres.own(place)}'",
            f"GRANT CREATE ON TABLESPACE fast TO {role} WITH GRANT OPTION",
        )
        found = (await account(session, role)).permissions
        assert found.global_privileges == [
            "ALTER SYSTEM ON PARAMETER work_mem",
            "CREATE ON TABLESPACE fast",
            "SET ON PARAMETER work_mem",
        ]
        assert found.grantable_privileges == ["*: CREATE ON TABLESPACE fast"]
        await careful.run("DROP TABLESPACE fast")


class TestRightsOnObjects:
    async def test_of_every_kind(self, session: ServerSession, careful: CarefulServer, database: str) -> None:
        role = await careful.role()
        await careful.run(
            "CREATE SCHEMA app",
            "CREATE TABLE app.orders (id serial PRIMARY KEY, card text)",
            "CREATE VIEW app.totals AS SELECT count(*) FROM app.orders",
            "CREATE FUNCTION app.pay(amount int, VARIADIC rest text[]) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"GRANT USAGE ON SCHEMA app TO {role}",
            f"GRANT SELECT, INSERT ON app.orders TO {role}",
            f"GRANT UPDATE (card) ON app.orders TO {role} WITH GRANT OPTION",
            f"GRANT USAGE ON SEQUENCE app.orders_id_seq TO {role}",
            f"GRANT SELECT ON app.totals TO {role}",
            f"GRANT EXECUTE ON FUNCTION app.pay TO {role}",
            database=database,
        )
        found = (await account(session, role)).permissions
        assert found.object_privileges == {
            f"{database}.app": ["USAGE"],
            f"{database}.app.orders": ["INSERT", "SELECT"],
            f"{database}.app.orders.card": ["UPDATE"],
            f"{database}.app.orders_id_seq": ["USAGE"],
            f"{database}.app.pay(amount integer, VARIADIC rest text[])": ["EXECUTE"],
            f"{database}.app.totals": ["SELECT"],
        }
        assert found.grantable_privileges == [f"{database}.app.orders.card: UPDATE"]

    async def test_that_were_taken_are_gone(
        self, session: ServerSession, careful: CarefulServer, database: str
    ) -> None:
        role = await careful.role()
        await careful.run("CREATE TABLE t ()", f"GRANT SELECT, DELETE ON t TO {role}", database=database)
        assert (await account(session, role)).permissions.object_privileges == {
            f"{database}.public.t": ["DELETE", "SELECT"]
        }
        await careful.run(f"REVOKE DELETE ON t FROM {role}", database=database)
        assert (await account(session, role)).permissions.object_privileges == {f"{database}.public.t": ["SELECT"]}

    async def test_of_an_owner_do_not_appear_when_another_is_granted_something(
        self, session: ServerSession, careful: CarefulServer, database: str
    ) -> None:
        owner, reader = await careful.role(), await careful.role()
        await careful.run("CREATE TABLE t ()", f"ALTER TABLE t OWNER TO {owner}", database=database)
        await careful.run(f"GRANT SELECT ON t TO {reader}", database=database)
        assert (await account(session, owner)).permissions.object_privileges == {}

    async def test_in_the_catalogue_show_when_they_are_not_initdbs(
        self, session: ServerSession, careful: CarefulServer, database: str
    ) -> None:
        role = await careful.role()
        await careful.run(f"GRANT SELECT ON pg_authid TO {role}", database=database)
        assert (await account(session, role)).permissions.object_privileges == {
            f"{database}.pg_catalog.pg_authid": ["SELECT"]
        }
        public = (await account(session, "public")).permissions.object_privileges
        assert not [name for name in public if ".pg_catalog" in name or ".information_schema" in name]

    async def test_of_databases_that_let_nobody_in_are_said_to_be_unread(
        self, session: ServerSession, careful: CarefulServer, muster: str, database: str
    ) -> None:
        await careful.run("CREATE DATABASE closed")
        await careful.run(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
        assert (await account(session, muster)).attributes["unread_databases"] == ["closed", database]
        await careful.run("DROP DATABASE closed")

    async def test_in_templates_are_left_out(self, session: ServerSession, careful: CarefulServer) -> None:
        """Nobody could create a database while somebody is connected to its template."""
        role = await careful.role()
        await careful.run(f"GRANT USAGE ON SCHEMA public TO {role}", database="template1")
        assert (await account(session, role)).permissions.object_privileges == {}
        await careful.run(f"REVOKE USAGE ON SCHEMA public FROM {role}", database="template1")

    async def test_of_at_most_so_many_databases(self, careful: CarefulServer, muster: str, database: str) -> None:
        role = await careful.role()
        await careful.run("CREATE TABLE t ()", f"GRANT SELECT ON t TO {role}", database=database)
        async with adapter.connect(careful.target(muster, max_databases=1)) as session:
            assert (await account(session, role)).permissions.object_privileges == {}


class TestDatabases:
    async def test_are_listed_with_owner_and_encoding(self, session: ServerSession, careful: CarefulServer) -> None:
        owner = await careful.role()
        name = await careful.database(f"OWNER {owner} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        found = {database.name: database for database in await session.databases()}
        assert (found[name].owner, found[name].character_set_name, found[name].collation_name) == (owner, "LATIN1", "C")
        assert not found[name].is_system
        assert found["template0"].is_system
        assert found["postgres"].is_system


class TestSizes:
    async def test_of_databases_and_their_largest_tables(
        self, session: ServerSession, careful: CarefulServer, database: str
    ) -> None:
        await careful.run(
            *(
                f"CREATE TABLE t{n} AS SELECT n, repeat('x', 100) t FROM generate_series(1, {n}000) n"
                for n in (1, 2, 9)
            ),
            "CREATE INDEX ON t2 (n)",
            "ANALYZE t2",
            database=database,
        )
        found = await session.sizes(2)
        tables = [table for table in found.tables if table.database_name == database]
        assert [(table.schema_name, table.table_name) for table in tables] == [("public", "t9"), ("public", "t2")]
        assert tables[1].index_bytes and tables[1].row_estimate == 2000
        assert tables[0].row_estimate is None
        assert all(table.size_bytes == (table.data_bytes or 0) + (table.index_bytes or 0) for table in tables)
        size = {each.name: each.size_bytes for each in found.databases}[database]
        assert size > sum(table.size_bytes for table in tables)
        assert found.total_bytes > size

    async def test_without_tables_when_none_are_asked_for(self, session: ServerSession) -> None:
        found = await session.sizes(0)
        assert list(found.tables) == []
        assert {"postgres", "template0", "template1"} <= {each.name for each in found.databases}

    async def test_of_a_database_that_may_not_be_read_are_left_out(self, careful: CarefulServer, database: str) -> None:
        stranger = await careful.role()
        await careful.run(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
        async with adapter.connect(careful.target(stranger)) as session:
            found = await session.sizes(5)
        assert database not in {each.name for each in found.databases}
        assert "postgres" in {each.name for each in found.databases}

    async def test_wait_for_no_lock(self, session: ServerSession, careful: CarefulServer, database: str) -> None:
        await careful.run(
            "CREATE TABLE locked AS SELECT n FROM generate_series(1, 5000) n",
            "CREATE TABLE indexed AS SELECT n FROM generate_series(1, 5000) n",
            "CREATE INDEX the_index ON indexed (n)",
            "ANALYZE",
            database=database,
        )
        connection = await asyncpg.connect(careful.postgres.url(database))
        async with connection.transaction():
            await connection.execute("LOCK TABLE locked; REINDEX INDEX the_index")
            started = time.monotonic()
            found = await session.sizes(5)
        await connection.close()
        assert time.monotonic() - started < 4
        sizes = {table.table_name: table for table in found.tables if table.database_name == database}
        assert sizes["locked"].size_bytes > 100_000
        assert sizes["indexed"].index_bytes


class TestSettings:
    async def test_are_those_that_matter_with_units(self, session: ServerSession) -> None:
        found = await session.settings()
        assert found["max_connections"] == "300"
        assert found["max_wal_size"] == "256MB"
        assert found["ssl"] == "off"
        assert found["hba_file"].endswith("pg_hba.conf")

    async def test_hold_no_secrets_and_nothing_of_this_session(self, session: ServerSession) -> None:
        found = await session.settings()
        assert not {"primary_conninfo", "ssl_passphrase_command", "archive_command", "restore_command"} & found.keys()
        assert not {"statement_timeout", "default_transaction_read_only", "application_name"} & found.keys()


class TestMembers:
    async def test_a_primary_and_its_standby(self, careful: CarefulServer, muster: str) -> None:
        standby = PostgresServer(standby_of=careful.postgres)
        standby.start()
        try:
            for _ in range(100):
                await asyncio.sleep(0.1)
                if (primary := await self.member(careful, muster)).replica_count == 1:
                    break
            found = await self.member(careful, muster, standby.port)
        finally:
            standby.remove()
        assert (primary.role, primary.timeline, primary.lag_seconds) == ("primary", 1, None)
        assert (found.role, found.timeline, found.replication_state) == ("standby", 1, "streaming")
        assert (found.source_host, found.source_port) == ("127.0.0.1", careful.postgres.port)
        assert found.system_identifier == primary.system_identifier
        assert found.lag_seconds is not None

    async def test_a_server_that_keeps_its_identifier_to_itself(self, careful: CarefulServer) -> None:
        role = await careful.role()
        await careful.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        try:
            async with adapter.connect(careful.target(role)) as session:
                assert await session.members() == [PostgresqlMember(role="primary", replica_count=0)]
        finally:
            await careful.run("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")

    async def member(self, careful: CarefulServer, username: str, port: int | None = None) -> PostgresqlMember:
        async with adapter.connect(careful.target(username, port=port or careful.postgres.port)) as session:
            (found,) = await session.members()
        assert isinstance(found, PostgresqlMember)
        return found


class TestLargeServers:
    async def test_5000_roles_take_seconds(self, session: ServerSession, careful: CarefulServer) -> None:
        await careful.run(
            "DO $$ BEGIN FOR n IN 1..5000 LOOP EXECUTE format('CREATE ROLE many_%s; GRANT many_%s TO muster', n, n);"
            " END LOOP; END $$"
        )
        started = time.monotonic()
        found = await session.accounts()
        assert time.monotonic() - started < 5
        assert len([account for account in found if account.username.startswith("many_")]) == 5000
        await careful.run("DO $$ BEGIN FOR n IN 1..5000 LOOP EXECUTE format('DROP ROLE many_%s', n); END LOOP; END $$")

    async def test_10000_tables_take_seconds(
        self, session: ServerSession, careful: CarefulServer, database: str
    ) -> None:
        role = await careful.role()
        for first in range(0, 10_000, 500):
            await careful.run(
                f"DO $$ BEGIN FOR n IN {first}..{first + 499} LOOP EXECUTE format("
                f"'CREATE TABLE t%s (id int PRIMARY KEY); GRANT SELECT ON t%s TO {role}', n, n); END LOOP; END $$",
                database=database,
            )
        await careful.run(
            "INSERT INTO t4711 SELECT generate_series(1, 5000)", "SELECT pg_stat_force_next_flush()", database=database
        )
        started = time.monotonic()
        found = await account(session, role)
        sizes = await session.sizes(3)
        assert time.monotonic() - started < 10
        assert len(found.permissions.object_privileges) == 10_000
        assert next(table.table_name for table in sizes.tables if table.database_name == database) == "t4711"
