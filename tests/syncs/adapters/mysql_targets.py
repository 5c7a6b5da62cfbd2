"""How tests sign in to MariaDB, as the documented account and as root."""

import aiomysql
import pytest
from pydantic import SecretStr

from app.inventory.records import FoundAccount
from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters.mysql import adapter
from app.syncs.adapters.port import ServerSession, Target
from app.syncs.failures import ServerFailure
from tests.syncs.servers import ROOT_PASSWORD, MariadbServer

PASSWORD = "correct horse: Päß'wörd 🐎?"
# As docs/syncs/mysql.md has it.
LEAST = [
    "GRANT PROCESS, SHOW DATABASES, SHOW VIEW, SLAVE MONITOR ON *.* TO muster@'%'",
    *(
        f"GRANT SELECT ON mysql.{table} TO muster@'%'"
        for table in (
            "global_priv",
            "db",
            "tables_priv",
            "columns_priv",
            "procs_priv",
            "proxies_priv",
            "roles_mapping",
        )
    ),
]


def target_of(server: MariadbServer, username: str = "muster", password: str = PASSWORD) -> Target:
    return Target(
        DatabaseType.MARIADB,
        "localhost",
        server.port,
        ("127.0.0.1",),
        None,
        username,
        SecretStr(password),
        TlsMode.PREFER,
        connect_seconds=5,
        statement_seconds=10,
    )


def odd_target(port: int) -> Target:
    return Target(
        DatabaseType.MYSQL,
        "localhost",
        port,
        ("127.0.0.1",),
        None,
        "muster",
        SecretStr("hunter2-hunter2"),
        TlsMode.PREFER,
        connect_seconds=0.4,
        statement_seconds=0.4,
    )


async def run(server: MariadbServer, *statements: str) -> None:
    connection = await aiomysql.connect(
        host="127.0.0.1", port=server.port, user="root", password=ROOT_PASSWORD, charset="utf8mb4", autocommit=True
    )
    try:
        for statement in statements:
            await connection.query(statement)
    finally:
        await connection.ensure_closed()


def text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def ident(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


async def account(session: ServerSession, username: str) -> FoundAccount:
    return next(each for each in await session.accounts() if each.username == username)


async def failure(target: Target) -> ServerFailure:
    with pytest.raises(ServerFailure) as caught:
        async with adapter.connect(target) as session:
            await session.check()
    return caught.value
