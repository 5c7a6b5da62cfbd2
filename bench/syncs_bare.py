"""What a sync is measured against: a script that connects with the same driver and runs the same catalogue queries.

It knows the server beforehand, checks nothing, waits for as long as it takes, and throws away what it is told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import asyncpg
import uvloop
from pydantic import SecretStr

from app.models.instance import DatabaseType, TlsMode
from app.models.sync import SyncKind
from app.syncs.adapters import postgresql_catalogue as catalogue
from app.syncs.adapters.port import ServerSession, Target
from app.syncs.adapters.postgresql import MEASURED_TABLES, adapter
from bench.syncs_endpoints import PASSWORD, USERNAME

LARGEST_TABLES: Final = 20
# As the adapter's sessions have them, of those that change how queries are run.
_SETTINGS: Final = {"default_transaction_read_only": "on", "search_path": "pg_catalog", "jit": "off"}
_ACCOUNTS: Final = (
    catalogue.ROLES, catalogue.MEMBERSHIPS, catalogue.DATABASE_GRANTS, catalogue.TABLESPACE_GRANTS,
    catalogue.PARAMETER_GRANTS,
)  # fmt: skip
_CAPACITY: Final = (catalogue.DATABASES, catalogue.DATABASE_SIZES)

# Asks the server at one address about these kinds.
Ask = Callable[[str, int, Sequence[SyncKind]], Awaitable[None]]


def run(ask: Ask, hosts: Sequence[str], port: int, kinds: Sequence[SyncKind], at_once: int) -> None:
    uvloop.run(_all(ask, hosts, port, kinds, at_once))


async def _all(ask: Ask, hosts: Sequence[str], port: int, kinds: Sequence[SyncKind], at_once: int) -> None:
    waiting = iter(hosts)
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(_each(ask, waiting, port, kinds))


async def _each(ask: Ask, waiting: Iterator[str], port: int, kinds: Sequence[SyncKind]) -> None:
    for host in waiting:
        await ask(host, port, kinds)


async def by_driver(host: str, port: int, kinds: Sequence[SyncKind]) -> None:
    connection = await _connected(host, port, "postgres")
    try:
        await connection.execute("SELECT 1")
        await connection.fetch("SELECT current_setting('server_version')")
        for kind in kinds:
            if kind is SyncKind.ACCOUNTS:
                await _ask_of_accounts(connection, host, port)
            else:
                await _ask_of_capacity(connection, host, port)
    finally:
        await connection.close()


async def _ask_of_accounts(connection: asyncpg.Connection, host: str, port: int) -> None:
    for query in _ACCOUNTS:
        await connection.fetch(query)
    await _in_each_database(connection, host, port, catalogue.OBJECT_GRANTS)


async def _ask_of_capacity(connection: asyncpg.Connection, host: str, port: int) -> None:
    for query in _CAPACITY:
        await connection.fetch(query)
    await _in_each_database(connection, host, port, catalogue.TABLE_SIZES, LARGEST_TABLES, MEASURED_TABLES)


async def _in_each_database(
    connection: asyncpg.Connection, host: str, port: int, query: str, *arguments: object
) -> None:
    _, *others = await connection.fetch(catalogue.CONNECTABLE)
    await connection.fetch(query, *arguments)
    for row in others:
        other = await _connected(host, port, row["name"])
        try:
            await other.fetch(query, *arguments)
        finally:
            await other.close()


async def _connected(host: str, port: int, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=host, port=port, user=USERNAME, password=PASSWORD, database=database, statement_cache_size=0,
        server_settings=_SETTINGS,
    )  # fmt: skip


async def by_adapter(host: str, port: int, kinds: Sequence[SyncKind]) -> None:
    """The service's own adapter, with nothing around it."""
    target = Target(
        DatabaseType.POSTGRESQL, host, port, (host,), None, USERNAME, SecretStr(PASSWORD), TlsMode.PREFER
    )  # fmt: skip
    async with adapter.connect(target) as server:
        await server.check()
        for kind in kinds:
            await _asked(server, kind)


async def _asked(server: ServerSession, kind: SyncKind) -> None:
    if kind is SyncKind.ACCOUNTS:
        await server.accounts()
    else:
        await server.databases()
        await server.sizes(LARGEST_TABLES)
