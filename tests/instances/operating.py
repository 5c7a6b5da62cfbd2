"""Deletions as operations, with a worker at hand that runs one when it is told to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.permissions import Permission
from app.caller import Call, Caller, calling
from app.database import Database
from app.instances.cascade import DeletionMode, plan
from app.instances.deletion_batch import DeletionRequest
from app.instances.deletion_operation import DeletionOperation
from app.models.base import table_of
from app.models.operation import OperationItem, OperationKind
from app.operations import repository
from app.operations.local_engine import LocalEngine
from app.operations.records import OperationRecord
from app.operations.runner import OperationRunner
from app.operations.service import OperationService

CONNECTIONS = 4
_items = table_of(OperationItem)


class Deletions:
    """Of one user's; the engine dispatches nothing, so that a test decides when a worker begins."""

    def __init__(self, app: FastAPI, user_id: int) -> None:
        self._app = app
        self._user_id = user_id
        self._database: Database = app.state.database
        self._engine = LocalEngine(self._database, at_once=1)
        self.runner = self.new_runner()

    def new_runner(self) -> OperationRunner:
        handler = DeletionOperation(self._database, plan, connections=CONNECTIONS)
        handlers = {OperationKind.INSTANCE_DELETION: handler}
        return OperationRunner(self._database, self._app.state.identities, self._engine, handlers, _tell_nobody)

    async def start(
        self, ids: Sequence[int], mode: str = "hard", *, force: bool = False, plan_token: str | None = None
    ) -> OperationRecord:
        request = DeletionRequest(tuple(ids), DeletionMode(mode), force, plan_token=plan_token)
        with self._calling(await self._rights()):
            plan = await self._app.state.batch_deletion.plan_operation(request)
            async with self._database.writers.begin() as session:
                return await OperationService(session, self._engine).start(plan)

    async def run(self, operation: OperationRecord) -> OperationRecord:
        """As it is when the worker is done with it."""
        await self.runner.run(operation.id)
        return await self.get(operation)

    async def delete(self, ids: Sequence[int], mode: str = "hard", **options: Any) -> OperationRecord:
        return await self.run(await self.start(ids, mode, **options))

    async def change(self, operation: OperationRecord, verb: str) -> OperationRecord:
        """Has it cancelled, resumed or retried by its owner."""
        with self._calling(await self._rights()):
            async with self._database.writers.begin() as session:
                service = OperationService(session, self._engine)
                changed: OperationRecord = await getattr(service, verb)(operation.id)
                return changed

    async def get(self, operation: OperationRecord) -> OperationRecord:
        async with self._database.readers() as session:
            found = await repository.find(session, operation.id)
        assert found is not None
        return found

    async def items(self, operation: OperationRecord) -> list[dict[str, Any]]:
        """By position."""
        statement = select(_items).where(_items.c.operation_id == operation.id).order_by(_items.c.position)
        async with self._database.readers() as session:
            return [dict(row) for row in (await session.execute(statement)).mappings()]

    async def statuses(self, operation: OperationRecord) -> dict[int, str]:
        """By instance."""
        return {item["instance_id"]: item["status"] for item in await self.items(operation)}

    async def _rights(self) -> Any:
        identity = await self._app.state.identities.of_owner(self._user_id, list(Permission))
        assert identity is not None
        return identity.rights

    @contextmanager
    def _calling(self, rights: Any) -> Iterator[None]:
        caller = Caller(self._user_id, "deleter")
        with calling(Call("POST", "/api/v1/instances/batch-delete", "192.0.2.7", caller, rights, spaces=None)):
            yield


async def _tell_nobody(session: AsyncSession, operation: OperationRecord) -> None:
    pass
