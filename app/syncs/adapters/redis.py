"""Redis 6 to 8 and Valkey, over redis-py. Which rules an account for this needs, and what is read, is in
docs/syncs/redis.md."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from app.capacity.records import DatabaseSize, Sizes
from app.inventory.records import FoundAccount, FoundDatabase, Member
from app.syncs.adapters.address_order import connect_to_first
from app.syncs.adapters.port import ServerCheck, ServerSession, Target
from app.syncs.adapters.redis_accounts import account_of
from app.syncs.adapters.redis_connection import RedisConnection, Reply
from app.syncs.adapters.redis_members import member_of, whole_number
from app.syncs.adapters.redis_settings import SETTINGS, settings_of_info
from app.syncs.adapters.tls import loaded_context
from app.syncs.failures import FailureKind, ServerFailure

VERSION_CHARACTERS = 100
# The one "database" that has a size: the server does not tell how much of its memory a keyspace takes.
MEMORY = "used_memory"
FIRST_KEYSPACE = "db0"
# Lines between two looks at the event loop: a server can have thousands of accounts.
SLICE_LINES = 200

_keyspace = re.compile(r"db\d{1,9}")


class RedisSession:
    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def check(self) -> ServerCheck:
        began = time.perf_counter()
        await self._connection.ask("PING", grant="+ping")
        seconds = time.perf_counter() - began
        return ServerCheck(_version(await self._info("server"))[:VERSION_CHARACTERS], seconds)

    async def accounts(self) -> Sequence[FoundAccount]:
        lines = await self._connection.ask("ACL", "LIST", grant="+acl|list")
        accounts = []
        for count, line in enumerate(_texts(lines), start=1):
            if (account := account_of(line)) is not None:
                accounts.append(account)
            if count % SLICE_LINES == 0:
                await asyncio.sleep(0)
        return accounts

    async def databases(self) -> Sequence[FoundDatabase]:
        """The keyspaces that hold keys; the first is always there."""
        found = {name for name in await self._info("keyspace") if _keyspace.fullmatch(name)}
        return [FoundDatabase(name) for name in sorted(found | {FIRST_KEYSPACE}, key=lambda each: int(each[2:]))]

    async def sizes(self, largest_tables: int) -> Sizes:
        """Of the whole server's memory, and no tables: a key's size is only told for one key after the other."""
        memory = await self._info("memory")
        used = whole_number(memory.get(MEMORY))
        return Sizes(
            [] if used is None else [DatabaseSize(MEMORY, used, whole_number(memory.get("used_memory_dataset")))]
        )

    async def settings(self) -> Mapping[str, str]:
        """From INFO where CONFIG may not be asked, as on many hosted servers: the few that it tells."""
        replies = await self._connection.ask_all([("CONFIG", "GET", name) for name in SETTINGS])
        if any(isinstance(each, ServerFailure) for each in replies):
            return settings_of_info(await self._info("default"))
        pairs = (_texts(each) for each in replies if not isinstance(each, ServerFailure))
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0] in SETTINGS}

    async def members(self) -> Sequence[Member]:
        info = await self._info("default")
        node_id = await self._node_id() if info.get("cluster_enabled") == "1" else None
        return [member_of(info, node_id)]

    async def _node_id(self) -> str | None:
        (reply,) = await self._connection.ask_all([("CLUSTER", "MYID")])
        return reply if isinstance(reply, str) else None

    async def _info(self, section: str) -> dict[str, str]:
        reply = await self._connection.ask("INFO", section, grant="+info")
        lines = reply.splitlines() if isinstance(reply, str) else []
        pairs = (line.partition(":") for line in lines if not line.startswith("#"))
        return {name: value for name, colon, value in pairs if colon}


class RedisAdapter:
    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[ServerSession]:
        connection = await connect_to_first(target, partial(_signed_in, target))
        try:
            yield RedisSession(connection)
        finally:
            connection.close()


async def _signed_in(target: Target, address: str) -> RedisConnection:
    connection = RedisConnection(target, address, await loaded_context(target))
    await connection.open()
    return connection


def _version(info: Mapping[str, str]) -> str:
    """Redis's own number alone; a server that stands in for Redis says its name and its own number first."""
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    if version := info.get("redis_version"):
        return version
    raise ServerFailure(FailureKind.PROTOCOL, "INFO tells no version", "look at what listens there: it is not Redis")


def _texts(reply: Reply) -> list[str]:
    """Of a list of texts; nothing of another reply."""
    return [each for each in reply if isinstance(each, str)] if isinstance(reply, list) else []


adapter = RedisAdapter()
