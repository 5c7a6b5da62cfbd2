"""A real PostgreSQL to sync from, on every loopback address, with passwords: what tests change between syncs."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
from fastapi import FastAPI

from tests.factories import Registry
from tests.postgres_server import PostgresServer
from tests.syncs.syncing import PASSWORD, credential, server_at

USERNAME = "muster"
# The administrator of the tests needs no password; whoever comes from elsewhere is not let in.
_WHO_MAY_ENTER = "host all postgres 127.0.0.0/8 trust\nhost all all 127.0.0.0/8 scram-sha-256\n"


class TargetServer:
    """Signed in to as `muster`, with the rights that the documentation asks for."""

    def __init__(self) -> None:
        self._postgres = PostgresServer()
        (self._postgres.data / "pg_hba.conf").write_text(_WHO_MAY_ENTER)

    @property
    def port(self) -> int:
        return self._postgres.port

    def start(self) -> None:
        self._postgres.start(listen_addresses="0.0.0.0")
        asyncio.run(
            self.run(f"CREATE ROLE {USERNAME} LOGIN PASSWORD {literal(PASSWORD)}", f"GRANT pg_monitor TO {USERNAME}")
        )

    def remove(self) -> None:
        self._postgres.remove()

    async def run(self, *statements: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self._postgres.url(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def fetch(self, query: str) -> Sequence[Any]:
        connection = await asyncpg.connect(self._postgres.url())
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def credential(self, app: FastAPI, registry: Registry, password: str = PASSWORD) -> int:
        return await credential(app, registry, password, username=USERNAME)

    async def instance(self, registry: Registry, credential_id: int, host: str = "127.0.0.1", **values: Any) -> int:
        values = {"db_type": "postgresql", "credential_id": credential_id, **values}
        return await server_at(registry, host, values.pop("port", self.port), **values)


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
