"""SQL Server (2012 and later, Azure SQL Managed Instance), through python-tds in a thread.

SQL Server knows no session that only reads, beyond the intent that is declared at sign-in; what is asked is nothing but
SELECT, and the rights that docs/syncs/sqlserver.md lists allow nothing else. Its own limit on a statement is for locks;
for the whole of it the connection's is left, whose end rolls back and ends the statement."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from app.capacity.records import DatabaseSize, Sizes, TableSize
from app.inventory.records import FoundAccount, FoundDatabase, Member, SqlserverMember
from app.syncs.adapters import sqlserver_catalogue as catalogue
from app.syncs.adapters.port import ServerCheck, Target
from app.syncs.adapters.question import Question
from app.syncs.adapters.sqlserver_accounts import AccountGathering, DatabaseRights, ServerRights
from app.syncs.adapters.sqlserver_catalogue import Ability, Database, quoted
from app.syncs.adapters.sqlserver_failures import NOT_OPEN_NUMBERS
from app.syncs.adapters.sqlserver_thread import Connection
from app.syncs.failures import FailureKind, ServerFailure

T = TypeVar("T")

# SERVERPROPERTY('EngineEdition') of Azure SQL Database, which has no catalogue of a whole server.
_AZURE_SQL_DATABASE = 5


class Asked(Protocol):
    """Raises ServerFailure."""

    async def ask(self, question: Question[T]) -> Sequence[T]: ...


class SqlServerSession:
    def __init__(self, server: Asked, max_databases: int) -> None:
        self._server = server
        self._max_databases = max_databases

    async def check(self) -> ServerCheck:
        began = time.perf_counter()
        await self._server.ask(catalogue.TRIVIAL)
        seconds = time.perf_counter() - began
        version = (await self._server.ask(catalogue.VERSION))[0].version
        return ServerCheck(version[:100], seconds)

    async def accounts(self) -> Sequence[FoundAccount]:
        await self._able()
        gathering = AccountGathering(
            ServerRights(
                await self._server.ask(catalogue.LOGINS),
                await self._server.ask(catalogue.MEMBERSHIPS),
                await self._server.ask(catalogue.SERVER_PERMISSIONS),
            )
        )
        for database in await self._open_databases():
            if rights := await self._rights_in(database):
                gathering.add(rights)
        return gathering.accounts()

    async def databases(self) -> Sequence[FoundDatabase]:
        return [_found(database) for database in await self._server.ask(catalogue.DATABASES)]

    async def sizes(self, largest_tables: int) -> Sizes:
        await self._able()
        files = await self._server.ask(catalogue.FILE_SIZES)
        tables: list[TableSize] = []
        for database in await self._open_databases() if largest_tables else ():
            tables += await self._tables(database, largest_tables)
        return Sizes(
            [DatabaseSize(file.name, file.size_bytes) for file in files],
            sorted(tables, key=lambda table: -table.size_bytes),
        )

    async def settings(self) -> Mapping[str, str]:
        found = [*await self._server.ask(catalogue.CONFIGURATIONS), *await self._server.ask(catalogue.PROPERTIES)]
        return {setting.name: setting.value for setting in found if setting.value is not None}

    async def members(self) -> Sequence[Member]:
        ability = await self._able()
        if ability.has_availability_groups != 1:
            return []
        return [_member(replica) for replica in await self._server.ask(catalogue.REPLICAS)]

    async def _able(self) -> Ability:
        """Raises ServerFailure when the catalogue would show a part only, or the server has none."""
        ability = (await self._server.ask(catalogue.ABILITY))[0]
        if ability.engine_edition == _AZURE_SQL_DATABASE:
            raise ServerFailure(
                FailureKind.SERVER_ERROR,
                "Azure SQL Database has no catalogue of a whole server",
                "only its connection can be tested; Azure SQL Managed Instance and SQL Server can be synced",
            )
        for permission, is_held in (
            ("VIEW ANY DEFINITION", ability.views_definitions),
            ("VIEW SERVER STATE", ability.views_state),
        ):
            if is_held != 1:
                raise _lacking(permission)
        return ability

    async def _open_databases(self) -> Sequence[Database]:
        found = await self._server.ask(catalogue.DATABASES)
        return [database for database in found if database.has_access == 1][: self._max_databases]

    async def _rights_in(self, database: Database) -> DatabaseRights | None:
        name = quoted(database.name)
        try:
            return DatabaseRights(
                database,
                await self._server.ask(catalogue.DATABASE_PRINCIPALS.about(database=name)),
                await self._server.ask(catalogue.DATABASE_MEMBERSHIPS.about(database=name)),
                await self._server.ask(catalogue.DATABASE_PERMISSIONS.about(database=name)),
            )
        except ServerFailure as failure:
            _pass_over_closed(failure)
            return None

    async def _tables(self, database: Database, limit: int) -> Sequence[TableSize]:
        question = catalogue.LARGEST_TABLES.about(database=quoted(database.name), limit=str(limit))
        try:
            found = await self._server.ask(question)
        except ServerFailure as failure:
            _pass_over_closed(failure)
            return []
        return [
            TableSize(
                database.name, use.schema, use.table, use.size_bytes, use.data_bytes, max(use.index_bytes, 0), use.rows
            )
            for use in found
        ]


class SqlServerAdapter:
    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[SqlServerSession]:
        connection = Connection(target)
        try:
            await connection.open()
            await connection.ask(_careful(target))
            yield SqlServerSession(connection, target.max_databases)
        finally:
            connection.abandon()


def _careful(target: Target) -> Question[None]:
    """Gives up on locks before the time is over, and gives way in a deadlock
    (https://learn.microsoft.com/en-us/sql/t-sql/statements/set-lock-timeout-transact-sql)."""
    milliseconds = int(target.statement_seconds * 1000 * 0.9)
    return Question(f"SET LOCK_TIMEOUT {milliseconds}; SET DEADLOCK_PRIORITY LOW; SET NOCOUNT ON", lambda: None)


def _pass_over_closed(failure: ServerFailure) -> None:
    """Raises it unless it says that the database cannot be opened now: it was there a moment ago."""
    if failure.server_code is None or int(failure.server_code) not in NOT_OPEN_NUMBERS:
        raise failure


def _lacking(permission: str) -> ServerFailure:
    return ServerFailure(
        FailureKind.PERMISSION_MISSING,
        f"the login lacks {permission}, without which the catalogue shows a part only",
        f"GRANT {permission} TO [the login]; docs/syncs/sqlserver.md lists all that it needs",
    )


def _found(database: Database) -> FoundDatabase:
    # 0 is a collation for Unicode only.
    character_set = f"cp{database.code_page}" if database.code_page else None
    return FoundDatabase(database.name, database.owner, character_set, database.collation, database.is_system)


def _member(replica: catalogue.Replica) -> SqlserverMember:
    return SqlserverMember(
        group_name=replica.group,
        role=(replica.role or "resolving").lower(),
        replica_server_name=replica.replica_server,
        availability_mode=_lower(replica.availability_mode),
        failover_mode=_lower(replica.failover_mode),
        synchronization_health=_lower(replica.health),
        listener=replica.listener,
    )


def _lower(value: str | None) -> str | None:
    return value.lower() if value is not None else None


adapter = SqlServerAdapter()
