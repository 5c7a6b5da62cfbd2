"""Real servers to sync from: one of each type for a test process, started when the first test asks for it."""

import sys
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest

from app.models.instance import DatabaseType
from app.syncs.adapters.port import ServerSession
from app.syncs.adapters.registry import adapter_of
from tests.syncs.adapters import mysql_targets, redis_targets
from tests.syncs.servers import MariadbServer, RedisServer
from tests.syncs.syncing import FakeServers
from tests.syncs.target_server import TargetServer


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    server = MariadbServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
async def mariadb_with_muster(mariadb: MariadbServer) -> MariadbServer:
    """With an account as docs/syncs/mysql.md says to make it."""
    password = mysql_targets.text(mysql_targets.PASSWORD)
    await mysql_targets.run(mariadb, f"CREATE USER muster@'%' IDENTIFIED BY {password}", *mysql_targets.LEAST)
    return mariadb


@pytest.fixture
async def mariadb_session(mariadb_with_muster: MariadbServer) -> AsyncIterator[ServerSession]:
    async with adapter_of(DatabaseType.MARIADB).connect(mysql_targets.target_of(mariadb_with_muster)) as session:
        yield session


@pytest.fixture
async def shop(mariadb: MariadbServer) -> AsyncIterator[str]:
    await mysql_targets.run(
        mariadb,
        "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "CREATE TABLE shop.orders (id int PRIMARY KEY, total int)",
        "CREATE PROCEDURE shop.settle() SELECT 1",
    )
    yield "shop"
    await mysql_targets.run(mariadb, "DROP DATABASE shop")


@pytest.fixture(scope="session")
async def redis_with_muster(redis_server: RedisServer) -> RedisServer:
    """With an account as docs/syncs/redis.md says to make it."""
    rules = ["on", f">{redis_targets.PASSWORD}", *redis_targets.LEAST.split()]
    await redis_targets.run(redis_server, ("ACL", "SETUSER", "muster", *rules))
    return redis_server


@pytest.fixture
async def redis_session(redis_with_muster: RedisServer) -> AsyncIterator[ServerSession]:
    async with adapter_of(DatabaseType.REDIS).connect(redis_targets.target_of(redis_with_muster)) as session:
        yield session


@pytest.fixture(scope="session")
def target_server() -> Iterator[TargetServer]:
    server = TargetServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> FakeServers:
    """In place of the Redis adapter, whether or not its driver is installed."""
    fakes = FakeServers()
    monkeypatch.setitem(sys.modules, "app.syncs.adapters.redis", SimpleNamespace(adapter=fakes))
    return fakes
