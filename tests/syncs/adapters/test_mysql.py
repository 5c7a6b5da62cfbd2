"""What the adapter finds on a real MariaDB, with an account that has the documented rights and no more."""

import asyncio
import os
import time
from dataclasses import replace

import pytest

from app.inventory.records import MysqlMember
from app.models.instance import TlsMode
from app.syncs.adapters.mysql import MysqlSession, adapter
from app.syncs.adapters.port import ServerSession
from app.syncs.failures import ServerFailure
from tests.syncs.adapters.mysql_targets import (
    run,
    target_of,
)
from tests.syncs.servers import ROOT_PASSWORD, MariadbServer


@pytest.fixture
def session(mariadb_session: ServerSession) -> ServerSession:
    return mariadb_session


class TestCheck:
    async def test_tells_the_version_and_the_round_trip(self, session: ServerSession) -> None:
        check = await session.check()
        assert "MariaDB" in check.version
        assert 0 < check.round_trip_seconds < 5

    async def test_the_session_can_change_nothing(self, mariadb: MariadbServer, shop: str) -> None:
        async with adapter.connect(target_of(mariadb, "root", ROOT_PASSWORD)) as session:
            assert isinstance(session, MysqlSession)
            with pytest.raises(ServerFailure, match="READ ONLY"):
                await session._connection.execute("INSERT INTO shop.orders VALUES (1, 1)")
            with pytest.raises(ServerFailure, match="READ ONLY"):
                await session._connection.execute("CREATE USER mallory")
            assert await session._connection.value("SELECT @@SESSION.max_statement_time") == "10.000000"
            assert await session._connection.value("SELECT @@SESSION.sql_mode") == ""

    async def test_several_statements_in_one_are_refused(self, session: ServerSession) -> None:
        assert isinstance(session, MysqlSession)
        with pytest.raises(ServerFailure) as caught:
            await session._connection.execute("SELECT 1; SELECT 2")
        assert caught.value.server_code == "1064"

    async def test_leaves_no_aborted_connection_in_the_servers_log(self, mariadb_with_muster: MariadbServer) -> None:
        before = mariadb_with_muster.log.count("Aborted connection")
        async with adapter.connect(target_of(mariadb_with_muster)):
            pass
        async with adapter.connect(replace(target_of(mariadb_with_muster), tls_mode=TlsMode.DISABLE)):
            pass
        assert mariadb_with_muster.log.count("Aborted connection") == before


class TestDatabasesAndSizes:
    async def test_databases(self, session: ServerSession, shop: str) -> None:
        by_name = {each.name: each for each in await session.databases()}
        assert by_name["shop"].character_set_name == "utf8mb4"
        assert by_name["shop"].collation_name == "utf8mb4_bin"
        assert not by_name["shop"].is_system
        assert by_name["mysql"].is_system

    async def test_sizes_with_the_largest_tables(
        self, session: ServerSession, mariadb: MariadbServer, shop: str
    ) -> None:
        await run(
            mariadb,
            "CREATE TABLE shop.big (id int PRIMARY KEY, filling varchar(200), KEY (filling))",
            "INSERT INTO shop.big SELECT seq, REPEAT('x', 200) FROM shop.seq_1_to_5000",
            "ANALYZE TABLE shop.big",
            "CREATE VIEW shop.seen AS SELECT * FROM shop.big",
            "CREATE DATABASE hollow",
        )
        sizes = await session.sizes(2)
        none = await session.sizes(0)
        await run(mariadb, "DROP DATABASE hollow")
        by_name = {each.name: each for each in sizes.databases}
        tables = [each for each in sizes.tables if each.database_name == "shop"]
        assert [each.table_name for each in tables] == ["big", "orders"]
        assert tables[0].size_bytes == (tables[0].data_bytes or 0) + (tables[0].index_bytes or 0) > 2_000_000
        assert tables[0].row_estimate == pytest.approx(5000, rel=0.2)
        assert by_name["shop"].size_bytes == sum(each.size_bytes for each in tables)
        assert by_name["hollow"].size_bytes == 0
        assert "information_schema" not in by_name
        assert len([each for each in sizes.tables if each.database_name == "mysql"]) == 2
        assert none.tables == []
        assert {each.name: each.size_bytes for each in none.databases} == {
            name: each.size_bytes for name, each in by_name.items()
        }

    async def test_the_same_without_window_functions(self, session: ServerSession, shop: str) -> None:
        """As MySQL 5.7 is asked."""
        assert isinstance(session, MysqlSession)
        with_windows = await session.sizes(3)
        object.__setattr__(session._release, "text", "5.7.44-log")
        assert await session.sizes(3) == with_windows

    async def test_ten_thousand_tables(self, session: ServerSession, mariadb: MariadbServer) -> None:
        await run(mariadb, "CREATE DATABASE many", "CREATE TABLE many.t (id int) ENGINE=MyISAM", "FLUSH TABLES")
        # The server takes for a table what looks like one, and making them by DDL takes a minute.
        directory = mariadb.directory / "data" / "many"
        for number in range(1, 10_000):
            for suffix in ("frm", "MYD", "MYI"):
                os.link(directory / f"t.{suffix}", directory / f"t{number}.{suffix}")
        began = time.perf_counter()
        sizes = await session.sizes(20)
        seconds = time.perf_counter() - began
        for path in directory.glob("t*.*"):
            path.unlink()
        await run(mariadb, "FLUSH TABLES", "DROP DATABASE many")
        assert len([each for each in sizes.tables if each.database_name == "many"]) == 20
        assert next(each for each in sizes.databases if each.name == "many").size_bytes == 10_000 * 1024
        assert seconds < 20


class TestSettingsAndMembers:
    async def test_settings_that_matter_and_no_secrets(self, session: ServerSession) -> None:
        settings = await session.settings()
        assert settings["max_connections"] == "500"
        assert settings["innodb_buffer_pool_size"] == str(32 * 1024**2)
        assert not {"wsrep_sst_auth", "report_password", "init_connect"} & set(settings)

    async def test_a_server_by_itself(self, session: ServerSession) -> None:
        (member,) = await session.members()
        assert isinstance(member, MysqlMember)
        assert (member.role, member.source_host, member.is_read_only) == ("standalone", None, False)
        assert member.server_id == 1

    async def test_a_source_and_its_replica(self) -> None:
        source, copy = MariadbServer(), MariadbServer()
        try:
            source.start("--server-id=11", "--log-bin=log")
            copy.start("--server-id=12", "--read-only=ON")
            await run(
                copy,
                f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={source.port}, MASTER_USER='root', "
                f"MASTER_PASSWORD='{ROOT_PASSWORD}', MASTER_USE_GTID=current_pos",
                "START SLAVE",
            )
            async with adapter.connect(target_of(copy, "root", ROOT_PASSWORD)) as session:
                replica = await _settled(session)
                async with adapter.connect(target_of(source, "root", ROOT_PASSWORD)) as at_source:
                    (primary,) = await at_source.members()
                await run(copy, "STOP SLAVE SQL_THREAD")
                (stopped,) = await session.members()
        finally:
            source.remove()
            copy.remove()
        assert isinstance(primary, MysqlMember)
        assert isinstance(stopped, MysqlMember)
        assert (primary.role, primary.server_id) == ("source", 11)
        assert (replica.role, replica.server_id, replica.is_read_only) == ("replica", 12, True)
        assert (replica.source_host, replica.source_port) == ("127.0.0.1", source.port)
        assert (replica.replication_state, replica.lag_seconds) == ("running", 0)
        assert stopped.replication_state == "receiver Yes, applier No"
        assert stopped.lag_seconds is None


async def _settled(session: ServerSession) -> MysqlMember:
    """Once the replica has caught up."""
    for _ in range(100):
        (member,) = await session.members()
        assert isinstance(member, MysqlMember)
        if member.replication_state == "running" and member.lag_seconds == 0:
            break
        await asyncio.sleep(0.05)
    return member
