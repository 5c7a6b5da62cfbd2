"""How tests sign in to Redis, as the documented account and as the default one."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from app.inventory.records import FoundAccount
from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters.port import ServerSession, Target
from app.syncs.adapters.redis import adapter
from app.syncs.failures import ServerFailure
from tests.syncs.servers import ROOT_PASSWORD, RedisServer

PASSWORD = "correct horse: Päß'wörd 🐎?"
# As docs/syncs/redis.md has it.
LEAST = "resetkeys resetchannels -@all +ping +info +client|setname +acl|list +config|get +cluster|myid"


def target_of(server: RedisServer, username: str = "muster", password: str = PASSWORD, *, tls: bool = False) -> Target:
    return Target(
        DatabaseType.REDIS,
        "localhost",
        server.tls_port if tls else server.port,
        ("127.0.0.1",),
        None,
        username,
        SecretStr(password),
        TlsMode.PREFER,
        connect_seconds=5,
        statement_seconds=5,
    )


def odd_target(port: int, mode: TlsMode = TlsMode.DISABLE) -> Target:
    return Target(
        DatabaseType.REDIS,
        "localhost",
        port,
        ("127.0.0.1",),
        None,
        "muster",
        SecretStr("hunter2-hunter2"),
        mode,
        connect_seconds=0.4,
        statement_seconds=0.4,
    )


async def run(server: RedisServer, *commands: tuple[str, ...], database: int = 0) -> None:
    async with Redis(port=server.port, password=ROOT_PASSWORD, db=database) as client:
        for command in commands:
            await client.execute_command(*command)


async def account(session: ServerSession, username: str) -> FoundAccount:
    return next(each for each in await session.accounts() if each.username == username)


async def failure(target: Target) -> ServerFailure:
    with pytest.raises(ServerFailure) as caught:
        async with adapter.connect(target) as session:
            await session.check()
    return caught.value
