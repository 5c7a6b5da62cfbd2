"""MySQL 5.7 to 9 and MariaDB 10.4 to 12, over aiomysql. Which rights an account for this needs, and what is read, is
in docs/syncs/mysql.md."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from app.capacity.records import Sizes
from app.inventory.records import FoundAccount, FoundDatabase, Member
from app.syncs.adapters.address_order import connect_to_first
from app.syncs.adapters.mysql_accounts import mysql_accounts
from app.syncs.adapters.mysql_catalogue import found_databases, found_settings, found_sizes
from app.syncs.adapters.mysql_connection import MysqlConnection
from app.syncs.adapters.mysql_mariadb_accounts import mariadb_accounts
from app.syncs.adapters.mysql_members import found_members
from app.syncs.adapters.mysql_release import Release
from app.syncs.adapters.port import ServerCheck, ServerSession, Target
from app.syncs.adapters.tls import loaded_context

VERSION_CHARACTERS = 100


class MysqlSession:
    def __init__(self, connection: MysqlConnection, release: Release) -> None:
        self._connection = connection
        self._release = release

    async def check(self) -> ServerCheck:
        began = time.perf_counter()
        await self._connection.value("SELECT 1")
        return ServerCheck(self._release.text[:VERSION_CHARACTERS], time.perf_counter() - began)

    async def accounts(self) -> Sequence[FoundAccount]:
        if self._release.is_mariadb:
            return await mariadb_accounts(self._connection, self._release)
        return await mysql_accounts(self._connection, self._release)

    async def databases(self) -> Sequence[FoundDatabase]:
        return await found_databases(self._connection)

    async def sizes(self, largest_tables: int) -> Sizes:
        return await found_sizes(self._connection, self._release, largest_tables)

    async def settings(self) -> Mapping[str, str]:
        return await found_settings(self._connection)

    async def members(self) -> Sequence[Member]:
        return await found_members(self._connection, self._release)


class MysqlAdapter:
    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[ServerSession]:
        connection, release = await connect_to_first(target, partial(_signed_in, target))
        try:
            yield MysqlSession(connection, release)
        finally:
            await connection.leave()


async def _signed_in(target: Target, address: str) -> tuple[MysqlConnection, Release]:
    """The connection, read-only from here on, and with the server's own time limits."""
    connection = MysqlConnection(target, address, await loaded_context(target))
    await connection.open()
    try:
        release = Release(await connection.value("SELECT VERSION()"))
        await connection.execute(f"SET SESSION {', '.join(_session_settings(release, target))}")
        await connection.execute("SET SESSION TRANSACTION READ ONLY")
    except BaseException:
        connection.close()
        raise
    return connection, release


def _session_settings(release: Release, target: Target) -> list[str]:
    settings = [
        "autocommit = 1",
        # The server's own could pad names with blanks, or take quotes for names.
        "sql_mode = ''",
        "sql_select_limit = DEFAULT",
        f"lock_wait_timeout = {max(1, int(target.statement_seconds))}",
    ]
    if release.is_mariadb:
        settings.append(f"max_statement_time = {target.statement_seconds:.3f}")
    else:
        settings.append(f"max_execution_time = {max(1, int(target.statement_seconds * 1000))}")
    if release.is_mysql_since(8, 0):
        # Else sizes are up to a day old.
        settings.append("information_schema_stats_expiry = 0")
    return settings


adapter = MysqlAdapter()
