"""Syncs in tests: instances to sync, servers that are faked where exact timing counts, and a worker at hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.permissions import Permission
from app.caller import Call, Caller, calling
from app.capacity.records import DatabaseSize, Sizes
from app.config import Settings
from app.credentials.sign_ins import SignIns
from app.database import Database
from app.inventory.records import FoundAccount, FoundDatabase, Member
from app.models import Base
from app.models.operation import Operation, OperationKind
from app.operations import repository
from app.operations.local_engine import LocalEngine
from app.operations.records import OperationRecord
from app.operations.runner import OperationRunner
from app.operations.service import OperationService
from app.syncs.adapters.port import ServerCheck, Target
from app.syncs.addresses import AddressPolicy
from app.syncs.breaker import CircuitBreaker
from app.syncs.failures import ServerFailure
from app.syncs.fetching import ServerReader
from app.syncs.instance_sync import InstanceSync
from app.syncs.records import SyncRequest
from app.syncs.server_access import ServerAccess
from app.syncs.service import DataSyncService
from app.syncs.slots import ConnectionSlots
from app.syncs.sync_operation import SyncOperation
from app.syncs.targets import Targets
from tests.factories import Registry

tables = Base.metadata.tables
PASSWORD = "s3cret-of-the-servers"
PATIENCE_SECONDS = 120.0
SHOP_SIZES = Sizes((DatabaseSize("shop", 1_000),))


@dataclass
class FakeServer:
    """What one host answers. `before` is awaited before each answer, with the answer's name; it may raise."""

    accounts: Sequence[FoundAccount] = (FoundAccount("app"),)
    databases: Sequence[FoundDatabase] = (FoundDatabase("shop"),)
    sizes: Sizes = SHOP_SIZES
    settings: Mapping[str, str] = field(default_factory=lambda: {"maxmemory": "0"})
    before: Callable[[str], Awaitable[None]] | None = None
    connected: int = 0


class FakeSession:
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def _ready(self, name: str) -> None:
        if self._server.before is not None:
            await self._server.before(name)

    async def check(self) -> ServerCheck:
        await self._ready("check")
        return ServerCheck("7.2.4", 0.001)

    async def accounts(self) -> Sequence[FoundAccount]:
        await self._ready("accounts")
        return self._server.accounts

    async def databases(self) -> Sequence[FoundDatabase]:
        await self._ready("databases")
        return self._server.databases

    async def sizes(self, largest_tables: int) -> Sizes:
        await self._ready("sizes")
        return self._server.sizes

    async def settings(self) -> Mapping[str, str]:
        await self._ready("settings")
        return self._server.settings

    async def members(self) -> Sequence[Member]:
        await self._ready("members")
        return ()


class FakeServers:
    """Stands in for the Redis adapter."""

    def __init__(self) -> None:
        self.by_host: dict[str, FakeServer] = {}
        self.targets: list[Target] = []
        self.at_once = 0
        self.most_at_once = 0
        self.most_of_host: dict[str, int] = {}

    def __getitem__(self, host: str) -> FakeServer:
        return self.by_host.setdefault(host, FakeServer())

    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[FakeSession]:
        server = self[target.host]
        self.targets.append(target)
        self.at_once += 1
        server.connected += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.most_of_host[target.host] = max(self.most_of_host.get(target.host, 0), server.connected)
        try:
            session = FakeSession(server)
            await session._ready("connect")
            yield session
        finally:
            self.at_once -= 1
            server.connected -= 1


def failing(name: str, failure: ServerFailure) -> Callable[[str], Awaitable[None]]:
    async def before(asked: str) -> None:
        if asked == name:
            raise failure

    return before


async def credential(app: FastAPI, registry: Registry, password: str = PASSWORD, **values: Any) -> int:
    sealed = app.state.secret_box.seal(password)
    return int(await registry.credential(encrypted_password=sealed, **{"username": "postgres"} | values))


async def server_at(registry: Registry, host: str, port: int = 6379, **values: Any) -> int:
    """An instance of a server there."""
    kind = values.get("db_type", "redis")
    key = f"{kind}:{host}:{port}"
    return int(
        await registry.instance(**{"db_type": "redis", "host": host, "port": port, "endpoint_key": key} | values)
    )


async def ended(client: httpx.AsyncClient, operation: Mapping[str, Any]) -> dict[str, Any]:
    """The operation, once somebody has ended it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = (await client.get(f"/api/v1/operations/{operation['id']}")).json()
            if found["state"] not in ("queued", "running"):
                return dict(found)
            await asyncio.sleep(0.05)


async def synced(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    """The ended operation of a POST."""
    answer = await client.post(f"/api/v1{path}", json=body)
    assert answer.status_code == 202, answer.text
    return await ended(client, answer.json())


async def items_of(client: httpx.AsyncClient, operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    return await all_of(client, f"/operations/{operation['id']}/items")


async def records_of(client: httpx.AsyncClient, operation: Mapping[str, Any], **query: Any) -> list[dict[str, Any]]:
    return await all_of(client, f"/syncs/{operation['sync_session_id']}/records", **query)


async def all_of(client: httpx.AsyncClient, path: str, **query: Any) -> list[dict[str, Any]]:
    """Every item of a list."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = {"limit": 200, **query} | ({"cursor": cursor} if cursor else {})
        answer = await client.get(f"/api/v1{path}", params=page)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if (cursor := answer.json()["next_cursor"]) is None:
            return found


class Syncs:
    """Of one user's, or of the service itself (None); nothing is dispatched, so that a test decides when a worker
    begins."""

    def __init__(self, app: FastAPI, user_id: int | None) -> None:
        self._app = app
        self._user_id = user_id
        self._database: Database = app.state.database
        self._engine = LocalEngine(self._database, at_once=1)
        self.runner = self.new_runner()

    def new_runner(self) -> OperationRunner:
        handlers = {OperationKind.INSTANCE_SYNC: self._handler()}
        return OperationRunner(self._database, self._app.state.identities, self._engine, handlers, _tell_nobody)

    def _handler(self) -> SyncOperation:
        settings: Settings = self._app.state.settings
        slots = ConnectionSlots(settings.sync_connections, settings.sync_connections_per_host)
        return SyncOperation(self._database, self.instance_sync(), slots)

    def instance_sync(self) -> InstanceSync:
        settings: Settings = self._app.state.settings
        access = ServerAccess(
            Targets(settings, AddressPolicy(settings)),
            SignIns(self._database, self._app.state.secret_box),
            seconds=settings.sync_seconds,
        )
        reader = ServerReader(access, largest_tables=settings.sync_tables)
        return InstanceSync(
            self._database,
            CircuitBreaker(self._database),
            reader,
            statistics_days=settings.statistics_retention_days,
        )

    async def start(self, instance_ids: Sequence[int], **request: Any) -> OperationRecord:
        service = DataSyncService(self._engine)
        async with self._calling(), self._database.writers.begin() as session:
            return await service.start(session, SyncRequest(instance_ids=tuple(instance_ids), **request))

    async def run(self, operation: OperationRecord) -> OperationRecord:
        """As it is when the worker is done with it."""
        await self.runner.run(operation.id)
        return await self.get(operation)

    async def sync(self, instance_ids: Sequence[int], **request: Any) -> OperationRecord:
        return await self.run(await self.start(instance_ids, **request))

    async def change(self, operation: OperationRecord, verb: str) -> OperationRecord:
        """Has it cancelled, resumed or retried by its owner."""
        async with self._calling(), self._database.writers.begin() as session:
            changed: OperationRecord = await getattr(OperationService(session, self._engine), verb)(operation.id)
            return changed

    async def get(self, operation: OperationRecord) -> OperationRecord:
        async with self._database.readers() as session:
            found = await repository.find(session, operation.id)
        assert found is not None
        return found

    async def rows(self, table_name: str, **equal: Any) -> list[dict[str, Any]]:
        return await rows_of(self._database, table_name, **equal)

    async def items(self, operation: OperationRecord) -> list[dict[str, Any]]:
        found = await self.rows("operation_items", operation_id=operation.id)
        return sorted(found, key=lambda item: item["position"])

    async def statuses(self, operation: OperationRecord) -> dict[int, str]:
        """By instance."""
        return {item["instance_id"]: item["status"] for item in await self.items(operation)}

    async def records(self, operation: OperationRecord) -> list[dict[str, Any]]:
        return await self.rows("sync_instance_records", session_id=operation.request["sync_session_id"])

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[None]:
        if self._user_id is None:
            yield
            return
        identity = await self._app.state.identities.of_owner(self._user_id, list(Permission))
        assert identity is not None
        spaces = identity.rights[Permission.SYNC_RUN]
        caller = Caller(self._user_id, "syncer")
        with calling(Call("POST", "/api/v1/syncs", "192.0.2.7", caller, identity.rights, spaces=spaces)):
            yield


async def rows_of(database: Database, table_name: str, **equal: Any) -> list[dict[str, Any]]:
    table = tables[table_name]
    statement = select(table).where(*(table.c[name] == value for name, value in equal.items()))
    if "id" in table.c:
        statement = statement.order_by(table.c.id)
    async with database.readers() as session:
        return [dict(row) for row in (await session.execute(statement)).mappings()]


async def chosen_for(database: Database, operation: OperationRecord | Operation) -> list[int]:
    """The instances that it is to sync, in their order."""
    slices = await rows_of(database, "sync_slices", session_id=operation.request["sync_session_id"])
    found: list[int] = []
    for each in sorted(slices, key=lambda row: row["first_position"]):
        assert each["first_position"] == len(found) + 1
        found += each["instance_ids"]
    return found


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Waits for it; it may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.01)


async def _tell_nobody(session: AsyncSession, operation: OperationRecord) -> None:
    pass
