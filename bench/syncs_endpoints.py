"""What the benchmarks of syncs connect to: one PostgreSQL that listens on every loopback address, so that it counts as
many endpoints, and the instances that name them.

It has what a small server has: a few databases with tables, some dozens of roles with memberships and grants. The role
that signs in is as docs/syncs/postgresql.md says, but for the limit of its connections.
"""

import asyncio
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

import asyncpg
from cryptography.fernet import Fernet

from app.config import Settings
from app.credentials.encryption import open_secret_box
from bench.seed import POSTGRESQL
from tests.postgres_server import PostgresServer

USERNAME: Final = "muster"
PASSWORD: Final = "what-the-benchmarks-sign-in-with"
SECRET_KEY: Final = Fernet.generate_key().decode()
DATABASES: Final = ("billing", "shop")
TABLES: Final = 20
ROLES: Final = 30
# Whoever measures needs no password; the role that signs in does, as it would elsewhere.
_WHO_MAY_ENTER: Final = "host all postgres 127.0.0.0/8 trust\nhost all all 127.0.0.0/8 scram-sha-256\n"
# Of a server that is measured: it may connect to this machine, opens the credential, and starts nothing by itself.
SETTINGS: Final = {"allow_loopback": "on", "secret_key": SECRET_KEY, "scheduler": "off"}


class Endpoints:
    """From entering the block until leaving it."""

    def __init__(self) -> None:
        self._server = PostgresServer()
        (self._server.data / "pg_hba.conf").write_text(_WHO_MAY_ENTER)

    @property
    def port(self) -> int:
        return self._server.port

    def __enter__(self) -> Self:
        try:
            self._server.start(listen_addresses="0.0.0.0", max_connections=500)
            asyncio.run(self._fill())
        except BaseException:
            self._server.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.remove()

    async def _fill(self) -> None:
        await self._run("postgres", [*_roles(), *(f"CREATE DATABASE {name}" for name in DATABASES)])
        for name in DATABASES:
            await self._run(name, _tables())

    async def _run(self, database: str, statements: Sequence[str]) -> None:
        connection = await asyncpg.connect(self._server.url(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def host(number: int) -> str:
    """Of the endpoint with that number, from 1 on."""
    return f"127.0.{number // 250}.{number % 250 + 1}"


def registered(kind: str, count: int, port: int, *, first_id: int = 1) -> Iterator[str]:
    """Statements that register so many endpoints, with the credential that all of them are signed in to with."""
    box = open_secret_box(Settings(secret_key=SECRET_KEY))
    yield (
        "INSERT INTO credentials (id, space_id, name, type, username, encrypted_password) "
        f"VALUES (1, 1, 'muster', 'database', '{USERNAME}', '{box.seal(PASSWORD)}')"
    )
    rows = (_row(first_id + number - 1, host(number), port) for number in range(1, count + 1))
    yield (
        "INSERT INTO instances (id, space_id, name, db_type, host, port, endpoint_key, credential_id) "
        f"VALUES {', '.join(rows)}"
    )
    if kind == POSTGRESQL:
        yield "SELECT setval('instances_id_seq', (SELECT max(id) FROM instances))"


def _row(key: int, name: str, port: int) -> str:
    return f"({key}, 1, 'endpoint-{key}', 'postgresql', '{name}', {port}, 'postgresql:{name}:{port}', 1)"


def _roles() -> Iterator[str]:
    yield f"CREATE ROLE {USERNAME} LOGIN PASSWORD '{PASSWORD}'"
    yield f"GRANT pg_monitor TO {USERNAME}"
    yield from (f"CREATE ROLE team_{number}" for number in range(ROLES // 3))
    for number in range(ROLES - ROLES // 3):
        yield f"CREATE ROLE app_{number} LOGIN PASSWORD 'unused-{number}' IN ROLE team_{number % (ROLES // 3)}"


def _tables() -> Sequence[str]:
    made = [
        f"CREATE TABLE t_{number} AS SELECT n AS id, repeat('x', 100) AS text FROM generate_series(1, 1000) AS n"
        for number in range(TABLES)
    ]
    keys = [f"ALTER TABLE t_{number} ADD PRIMARY KEY (id)" for number in range(TABLES)]
    grants = [f"GRANT SELECT, INSERT ON t_{number} TO team_{number % (ROLES // 3)}" for number in range(TABLES)]
    return [*made, *keys, *grants, "ANALYZE"]
