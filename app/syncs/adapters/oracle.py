"""Oracle Database (12.1 and later), through oracledb's thin mode.

What a database is depends on what is connected to: in the root of a container database they are its containers; in a
pluggable database, or in one without containers, they are the schemas that hold segments."""

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from app.capacity.records import DatabaseSize, Sizes, TableSize
from app.inventory.records import FoundAccount, FoundDatabase, Member, OracleMember
from app.syncs.adapters import oracle_catalogue as catalogue
from app.syncs.adapters.oracle_accounts import Dictionary, accounts_in
from app.syncs.adapters.oracle_connection import Connection
from app.syncs.adapters.port import ServerCheck, Target
from app.syncs.adapters.question import Question
from app.syncs.failures import FailureKind, ServerFailure

T = TypeVar("T")

_ROOT = "CDB$ROOT"
_SYSTEM_CONTAINERS = frozenset({_ROOT, "PDB$SEED"})
# Which knows DBA_SCHEMA_PRIVS.
_SCHEMA_PRIVILEGES_SINCE = 23
_interval = re.compile(r"([+-]?\d+) (\d+):(\d+):(\d+)")


class Asked(Protocol):
    """Raises ServerFailure."""

    @property
    def version(self) -> str: ...

    async def ask(self, question: Question[T]) -> Sequence[T]: ...


class OracleSession:
    def __init__(self, server: Asked) -> None:
        self._server = server

    async def check(self) -> ServerCheck:
        began = time.perf_counter()
        await self._server.ask(catalogue.TRIVIAL)
        return ServerCheck(self._server.version[:100], time.perf_counter() - began)

    async def accounts(self) -> Sequence[FoundAccount]:
        ask = self._server.ask
        return accounts_in(
            Dictionary(
                users=await ask(catalogue.USERS),
                roles=await ask(catalogue.ROLES),
                session_limits=await ask(catalogue.SESSION_LIMITS),
                role_grants=await ask(catalogue.ROLE_GRANTS),
                system_privileges=await ask(catalogue.SYSTEM_PRIVILEGES),
                schema_privileges=await ask(catalogue.SCHEMA_PRIVILEGES) if self._has_schema_privileges else (),
                object_privileges=await ask(catalogue.OBJECT_PRIVILEGES),
                password_file=await ask(catalogue.PASSWORD_FILE_USERS),
            )
        )

    async def databases(self) -> Sequence[FoundDatabase]:
        character_set = next(iter(await self._server.ask(catalogue.CHARACTER_SET)), None)
        if await self._is_root():
            # Each container may have a character set of its own.
            containers = await self._server.ask(catalogue.CONTAINERS)
            return [FoundDatabase(each.name, is_system=each.name in _SYSTEM_CONTAINERS) for each in containers]
        return [
            FoundDatabase(schema.name, schema.name, character_set, is_system=schema.oracle_maintained == "Y")
            for schema in await self._server.ask(catalogue.SCHEMAS)
        ]

    async def sizes(self, largest_tables: int) -> Sizes:
        """A container that is not open has no size to tell, and is left out."""
        is_root = await self._is_root()
        ask = self._server.ask
        found = await ask(catalogue.CONTAINERS) if is_root else await ask(catalogue.SCHEMAS)
        databases = [DatabaseSize(each.name, int(each.size_bytes)) for each in found if each.size_bytes is not None]
        if not largest_tables:
            return Sizes(databases)
        uses = await self._server.ask(catalogue.largest_tables(largest_tables, by_container=is_root))
        return Sizes(databases, sorted(map(_table, uses), key=lambda table: -table.size_bytes))

    async def settings(self) -> Mapping[str, str]:
        parameters = await self._server.ask(catalogue.PARAMETERS)
        return {each.name: each.value for each in parameters if each.value is not None}

    async def members(self) -> Sequence[Member]:
        lags = await self._server.ask(catalogue.APPLY_LAG)
        lag = _seconds(lags[0].value) if lags else None
        return [
            OracleMember(
                role=place.role.lower(),
                database_unique_name=place.unique_name,
                open_mode=place.open_mode,
                protection_mode=place.protection_mode,
                instance_name=place.instance_name,
                instance_number=place.instance_number,
                lag_seconds=lag,
            )
            for place in await self._server.ask(catalogue.PLACE)
        ]

    @property
    def _has_schema_privileges(self) -> bool:
        major = self._server.version.partition(".")[0]
        return major.isdecimal() and int(major) >= _SCHEMA_PRIVILEGES_SINCE

    async def _is_root(self) -> bool:
        return list(await self._server.ask(catalogue.CONTAINER_NAME)) == [_ROOT]


class OracleAdapter:
    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[OracleSession]:
        if not target.database_name:
            hint = "register the service's name as the instance's database"
            raise ServerFailure(FailureKind.DATABASE_MISSING, "no service is named to connect to", hint)
        connection = Connection(target)
        try:
            await connection.open()
            await connection.ask(catalogue.READ_ONLY)
            yield OracleSession(connection)
        finally:
            await connection.leave()


def _table(use: catalogue.TableUse) -> TableSize:
    return TableSize(
        database_name=use.container or use.owner,
        schema_name=use.owner if use.container else "",
        table_name=use.table,
        size_bytes=int(use.data_bytes) + int(use.index_bytes),
        data_bytes=int(use.data_bytes),
        index_bytes=int(use.index_bytes),
        row_estimate=use.rows,
    )


def _seconds(interval: str | None) -> int | None:
    matched = _interval.match(interval or "")
    if matched is None:
        return None
    days, hours, minutes, seconds = map(int, matched.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


adapter = OracleAdapter()
