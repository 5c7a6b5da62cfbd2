"""PostgreSQL 12 to 18. What it reads, and the rights that it needs for it: docs/syncs/postgresql.md."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from asyncpg import Record

from app.capacity.records import DatabaseSize, Sizes, TableSize
from app.inventory.records import FoundAccount, FoundDatabase, Member, PostgresqlMember
from app.syncs.adapters import postgresql_catalogue as catalogue
from app.syncs.adapters.port import ServerCheck, ServerSession, Target
from app.syncs.adapters.postgresql_accounts import Accounts
from app.syncs.adapters.postgresql_connection import Connection, connected
from app.syncs.adapters.postgresql_failures import as_failures
from app.syncs.adapters.postgresql_settings import NAMES
from app.syncs.failures import FailureKind, ServerFailure

DEFAULT_DATABASE = "postgres"
MAX_VERSION_CHARACTERS = 100
# Tables of a database whose files are looked at, at least.
MEASURED_TABLES = 1_000
# pg_parameter_acl is there from this version on.
PARAMETER_GRANTS_VERSION = 15

# invalid_authorization_specification (pg_hba.conf) and insufficient_privilege: that a database does not let the account
# in is a fact about it. Any other failure fails the whole answer, which would otherwise say that grants were taken.
_SHUT_OUT = frozenset({"28000", "42501"})
# Those of a database that was dropped a moment ago: invalid_catalog_name, and admin_shutdown from DROP … WITH (FORCE).
_DROPPED = "3D000"
_FORCED_OUT = "57P01"


class PostgresqlSession:
    def __init__(self, target: Target, connection: Connection) -> None:
        self._target = target
        self._connection = connection

    async def check(self) -> ServerCheck:
        started = time.perf_counter()
        await self._connection.ping()
        seconds = time.perf_counter() - started
        version = await self._connection.ask("SELECT current_setting('server_version') AS version")
        with as_failures(self._target):
            return ServerCheck(str(version[0]["version"])[:MAX_VERSION_CHARACTERS], seconds)

    async def accounts(self) -> Sequence[FoundAccount]:
        """In six questions, and one more for each database that lets the account in, up to `max_databases`."""
        roles = await self._connection.ask(catalogue.ROLES)
        memberships = await self._connection.ask(catalogue.MEMBERSHIPS)
        databases = await self._connection.ask(catalogue.DATABASE_GRANTS)
        server = [*await self._connection.ask(catalogue.TABLESPACE_GRANTS), *await self._parameter_grants()]
        objects, unread = await self._in_each_database(catalogue.OBJECT_GRANTS)

        def put_together() -> Sequence[FoundAccount]:
            accounts = Accounts(roles)
            accounts.add_memberships(memberships)
            accounts.add_database_grants(databases)
            accounts.add_server_grants(server)
            for database, rows in objects.items():
                accounts.add_object_grants(database, rows)
            return accounts.found(self._target.username, unread)

        with as_failures(self._target):
            # In a thread: 10,000 tables with grants take longer than the event loop should be held.
            return await asyncio.to_thread(put_together)

    async def databases(self) -> Sequence[FoundDatabase]:
        rows = await self._connection.ask(catalogue.DATABASES)
        with as_failures(self._target):
            return [
                FoundDatabase(row["name"], row["owner"], row["encoding"], row["collation"], row["is_system"])
                for row in rows
            ]

    async def sizes(self, largest_tables: int) -> Sizes:
        """Of databases that the account is not let in to only as a whole, and with pg_read_all_stats."""
        databases = await self._connection.ask(catalogue.DATABASE_SIZES)
        tables: Mapping[str, Sequence[Record]] = {}
        if largest_tables > 0:
            measured = max(MEASURED_TABLES, largest_tables)
            tables, _ = await self._in_each_database(catalogue.TABLE_SIZES, largest_tables, measured)
        with as_failures(self._target):
            return Sizes(
                [DatabaseSize(row["name"], row["size_bytes"]) for row in databases if row["size_bytes"] is not None],
                [_table_size(database, row) for database, rows in tables.items() for row in rows],
            )

    async def settings(self) -> Mapping[str, str]:
        rows = await self._connection.ask(catalogue.SETTINGS, NAMES)
        with as_failures(self._target):
            return {row["name"]: row["value"] for row in rows}

    async def members(self) -> Sequence[Member]:
        recovery = await self._connection.ask(catalogue.RECOVERY)
        receivers = await self._connection.ask(catalogue.RECEIVER)
        control = await self._unless_denied(catalogue.CONTROL)
        with as_failures(self._target):
            return [_member(recovery[0], receivers[0] if receivers else {}, control[0] if control else {})]

    async def _parameter_grants(self) -> Sequence[Record]:
        if self._connection.major_version < PARAMETER_GRANTS_VERSION:
            return []
        return await self._connection.ask(catalogue.PARAMETER_GRANTS)

    async def _unless_denied(self, query: str) -> Sequence[Record]:
        try:
            return await self._connection.ask(query)
        except ServerFailure as failure:
            if failure.kind is FailureKind.PERMISSION_MISSING:
                return []
            raise

    async def _in_each_database(
        self, query: str, *arguments: object
    ) -> tuple[Mapping[str, Sequence[Record]], Sequence[str]]:
        """The answers by database, and the databases that did not let the account in. The connected one comes first,
        then the others by name, as many as `max_databases` allow."""
        connectable = await self._connection.ask(catalogue.CONNECTABLE)
        answers: dict[str, Sequence[Record]] = {}
        unread = [row["name"] for row in connectable if not row["is_allowed"]]
        for row in [row for row in connectable if row["is_allowed"]][: self._target.max_databases]:
            try:
                answers[row["name"]] = await self._in_database_again(row["name"], query, *arguments)
            except ServerFailure as failure:
                if failure.server_code in _SHUT_OUT:
                    unread.append(row["name"])
                elif failure.server_code != _DROPPED:
                    raise
        return answers, unread

    async def _in_database_again(self, database: str, query: str, *arguments: object) -> Sequence[Record]:
        """A second time when the connection was ended by an administrator, who may have dropped the database."""
        try:
            return await self._in_database(database, query, *arguments)
        except ServerFailure as failure:
            if failure.server_code != _FORCED_OUT or database == self._connection.database:
                raise
        return await self._in_database(database, query, *arguments)

    async def _in_database(self, database: str, query: str, *arguments: object) -> Sequence[Record]:
        if database == self._connection.database:
            return await self._connection.ask(query, *arguments)
        same_server = replace(self._target, addresses=(self._connection.address,))
        async with connected(same_server, database) as connection:
            return await connection.ask(query, *arguments)


class PostgresqlAdapter:
    def connect(self, target: Target) -> AbstractAsyncContextManager[ServerSession]:
        return _session(target)


@asynccontextmanager
async def _session(target: Target) -> AsyncIterator[ServerSession]:
    async with connected(target, target.database_name or DEFAULT_DATABASE) as connection:
        yield PostgresqlSession(target, connection)


def _table_size(database: str, row: Record) -> TableSize:
    return TableSize(
        database,
        row["schema_name"],
        row["table_name"],
        row["size_bytes"],
        row["data_bytes"],
        row["index_bytes"],
        row["row_estimate"],
    )


def _member(recovery: Record, receiver: Mapping[str, Any], control: Mapping[str, Any]) -> PostgresqlMember:
    return PostgresqlMember(
        role="standby" if recovery["is_standby"] else "primary",
        system_identifier=control.get("system_identifier"),
        timeline=receiver.get("timeline") or control.get("timeline"),
        source_host=receiver.get("sender_host"),
        source_port=receiver.get("sender_port"),
        replication_state=receiver.get("status"),
        lag_seconds=recovery["lag_seconds"],
        replica_count=recovery["replica_count"],
    )


adapter = PostgresqlAdapter()
