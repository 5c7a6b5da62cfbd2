"""A PostgreSQL server with passwords, what tests do on it as its administrator, and TLS before it."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncpg
from pydantic import SecretStr

from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters.port import Target
from tests.postgres_server import PostgresServer
from tests.syncs.certificates import ServerFiles

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# What the certificate is for.
HOST = "db.muster.test"
PASSWORD = "correct horse: Päß'wörd\"?"

# Administrators need no password; nobody else is let in without one, nor to the database `closed`.
_WHO_MAY_ENTER = """
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host closed all 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
"""


class CarefulServer:
    """With passwords (SCRAM) for everybody but `postgres`."""

    def __init__(self) -> None:
        self.postgres = PostgresServer()
        (self.postgres.data / "pg_hba.conf").write_text(_WHO_MAY_ENTER)
        self.postgres.start()

    def target(
        self,
        username: str = "postgres",
        *,
        database: str | None = None,
        mode: TlsMode = TlsMode.DISABLE,
        ca_file: Path | None = None,
        **more: object,
    ) -> Target:
        values = {"connect_seconds": 5.0, "statement_seconds": 30.0, "password": SecretStr(PASSWORD), **more}
        return Target(
            db_type=DatabaseType.POSTGRESQL,
            host=values.pop("host", HOST),
            port=values.pop("port", self.postgres.port),
            addresses=values.pop("addresses", ("127.0.0.1",)),
            database_name=database,
            username=username,
            tls_mode=mode,
            tls_ca_file=ca_file,
            **values,
        )

    async def run(self, *statements: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self.postgres.url(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def role(self, options: str = "LOGIN") -> str:
        """A new role's name."""
        name = f"r_{uuid4().hex[:12]}"
        await self.run(f"CREATE ROLE {name} PASSWORD {quoted(PASSWORD)} {options}")
        return name

    async def database(self, options: str = "") -> str:
        """A new database's name."""
        name = f"d_{uuid4().hex[:12]}"
        await self.run(f"CREATE DATABASE {name} {options}")
        return name


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@asynccontextmanager
async def tls_before(port: int, files: ServerFiles) -> AsyncIterator[int]:
    """Yields a port where a server with TLS seems to be: the binaries that tests run have been built without.

    It answers the question for TLS, and passes on what comes out of it to the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (greeting := await reader.readexactly(8)) == SSL_REQUEST:
            writer.write(b"S")
            await writer.start_tls(context)
            greeting = b""
        async with connection_to(port) as (behind_reader, behind_writer):
            behind_writer.write(greeting)
            await asyncio.gather(pumped(reader, behind_writer), pumped(behind_reader, writer))

    async with listening(relay) as front:
        yield front


@asynccontextmanager
async def connection_to(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[int]:
    """Yields the port on which `serve` is called for each connection; all of them end with the block."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        # A task that ends by being cancelled would be logged as one that failed.
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)

    server = await asyncio.start_server(served, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
