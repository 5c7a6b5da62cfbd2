"""MongoDB (4.2 and later: mongod alone, in a replica set, or mongos), through pymongo's asynchronous client.

Every command is one of https://www.mongodb.com/docs/manual/reference/command/, and reads."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

from app.capacity.records import DatabaseSize, Sizes, TableSize
from app.inventory.records import FoundAccount, FoundDatabase, Member, MongodbMember
from app.syncs.adapters.mongodb_accounts import accounts_in, made_roles
from app.syncs.adapters.mongodb_connection import Connection
from app.syncs.adapters.mongodb_settings import OPTIONS, PARAMETERS, flattened
from app.syncs.adapters.port import ServerCheck, Target
from app.syncs.failures import ServerFailure

Document = Mapping[str, Any]

_SYSTEM = frozenset({"admin", "config", "local"})
# A question for each; those of the largest databases come first.
MOST_COLLECTIONS = 1000
# replSetGetStatus on what is in no replica set: NoReplicationEnabled, and NotYetInitialized.
_NOT_REPLICATED = frozenset({"76", "94"})
# The view or time-series collection has no storage of its own (CommandNotSupportedOnView), or is gone meanwhile.
_WITHOUT_STORAGE = frozenset({"26", "166"})


class Asked(Protocol):
    """Raises ServerFailure."""

    async def ask(self, command: Document, database: str = "admin") -> Document: ...


class MongodbSession:
    def __init__(self, server: Asked, max_databases: int) -> None:
        self._server = server
        self._max_databases = max_databases

    async def check(self) -> ServerCheck:
        began = time.perf_counter()
        await self._server.ask({"ping": 1})
        seconds = time.perf_counter() - began
        return ServerCheck(str((await self._server.ask({"buildInfo": 1}))["version"])[:100], seconds)

    async def accounts(self) -> Sequence[FoundAccount]:
        """usersInfo for every database tells no privileges; those of roles that somebody made come from rolesInfo."""
        users = (await self._server.ask({"usersInfo": {"forAllDBs": True}}))["users"]
        names = made_roles(users)
        roles = (await self._server.ask({"rolesInfo": names, "showPrivileges": True}))["roles"] if names else []
        return accounts_in(users, roles)

    async def databases(self) -> Sequence[FoundDatabase]:
        return [FoundDatabase(found["name"], is_system=found["name"] in _SYSTEM) for found in await self._listed()]

    async def sizes(self, largest_tables: int) -> Sizes:
        listed = await self._listed()
        databases = [DatabaseSize(found["name"], int(found.get("sizeOnDisk", 0))) for found in listed]
        by_size = sorted(databases, key=lambda database: -database.size_bytes)[: self._max_databases]
        tables: list[TableSize] = []
        left = MOST_COLLECTIONS if largest_tables else 0
        for database in by_size:
            names = (await self._collections(database.name))[:left] if left else []
            left -= len(names)
            tables += await self._largest(database.name, names, largest_tables)
        return Sizes(databases, sorted(tables, key=lambda table: -table.size_bytes))

    async def settings(self) -> Mapping[str, str]:
        parameters = await self._server.ask({"getParameter": 1, **dict.fromkeys(PARAMETERS, 1)})
        options = (await self._server.ask({"getCmdLineOpts": 1})).get("parsed", {})
        return {**flattened(parameters, PARAMETERS), **flattened(options, OPTIONS)}

    async def members(self) -> Sequence[Member]:
        hello = await self._server.ask({"hello": 1})
        status = await self._status() if hello.get("setName") else {}
        return [_member(hello, status)]

    async def _listed(self) -> Sequence[Document]:
        found: Sequence[Document] = (await self._server.ask({"listDatabases": 1}))["databases"]
        return found

    async def _collections(self, database: str) -> list[str]:
        """The first batch, of at most as many as are measured at all."""
        command = {
            "listCollections": 1,
            "nameOnly": True,
            "filter": {"type": {"$ne": "view"}},
            "cursor": {"batchSize": MOST_COLLECTIONS},
        }
        found = (await self._server.ask(command, database))["cursor"]["firstBatch"]
        return [each["name"] for each in found if not each["name"].startswith("system.")]

    async def _largest(self, database: str, names: Sequence[str], largest: int) -> Sequence[TableSize]:
        measured = [await self._measured(database, name) for name in names]
        found = [table for table in measured if table is not None]
        return sorted(found, key=lambda table: -table.size_bytes)[:largest]

    async def _measured(self, database: str, name: str) -> TableSize | None:
        """$collStats answers for each shard."""
        command = {"aggregate": name, "pipeline": [{"$collStats": {"storageStats": {}}}], "cursor": {}}
        try:
            shards = (await self._server.ask(command, database))["cursor"]["firstBatch"]
        except ServerFailure as failure:
            if failure.server_code in _WITHOUT_STORAGE:
                return None
            raise
        data, indexes, rows = (
            sum(int(shard["storageStats"].get(name, 0)) for shard in shards)
            for name in ("storageSize", "totalIndexSize", "count")
        )
        return TableSize(database, "", name, data + indexes, data, indexes, rows)

    async def _status(self) -> Document:
        try:
            return await self._server.ask({"replSetGetStatus": 1})
        except ServerFailure as failure:
            if failure.server_code in _NOT_REPLICATED:
                return {}
            raise


class MongodbAdapter:
    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[MongodbSession]:
        connection = Connection(target)
        try:
            await connection.open()
            yield MongodbSession(connection, target.max_databases)
        finally:
            await connection.leave()


def _member(hello: Document, status: Document) -> MongodbMember:
    host, _, port = str(hello.get("primary") or "").rpartition(":")
    own: Document = next((member for member in status.get("members", ()) if member.get("self")), {})
    role = _role(hello)
    return MongodbMember(
        role=role,
        replica_set_name=hello.get("setName"),
        member_name=hello.get("me"),
        source_host=host or None if role == "secondary" else None,
        source_port=int(port) if role == "secondary" and port.isdecimal() else None,
        replication_state=own.get("stateStr"),
        lag_seconds=_lag(own, status),
    )


def _role(hello: Document) -> str:
    if hello.get("msg") == "isdbgrid":
        return "mongos"
    if not hello.get("setName"):
        return "standalone"
    if hello.get("isWritablePrimary"):
        return "primary"
    return "arbiter" if hello.get("arbiterOnly") else "secondary"


def _lag(own: Document, status: Document) -> int | None:
    """Behind the primary's last operation, as replSetGetStatus tells both."""
    primary: Document = next(
        (member for member in status.get("members", ()) if member.get("stateStr") == "PRIMARY"), {}
    )
    ahead, at = primary.get("optimeDate"), own.get("optimeDate")
    if not isinstance(ahead, datetime) or not isinstance(at, datetime) or own is primary:
        return None
    return max(int((ahead - at).total_seconds()), 0)


adapter = MongodbAdapter()
