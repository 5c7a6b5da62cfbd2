"""Starts imports and deletions as operations, once everything about them is judged that can be before the answer."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.database.transactions import run_in_transaction
from app.instances.batch_creation import InstanceBatchCreationService
from app.instances.batch_deletion import InstanceBatchDeletionService
from app.instances.creation_batch import CreationRequest, JudgedUpload
from app.instances.deletion_batch import DeletionRequest
from app.instances.import_operation import request_as_json
from app.instances.uploads import StoredUpload, Uploads
from app.models.operation import OperationKind
from app.operations.engine import OperationEngine
from app.operations.records import OperationPlan, OperationRecord
from app.operations.service import OperationService
from app.spaces.service import SpaceService

# What else belongs into the transaction that starts the operation: the answer under the caller's Idempotency-Key.
Complete = Callable[[AsyncSession, OperationRecord], Awaitable[None]]


class BackgroundBatches:
    def __init__(
        self,
        database: Database,
        engine: OperationEngine,
        uploads: Uploads,
        creation: InstanceBatchCreationService,
        deletion: InstanceBatchDeletionService,
    ) -> None:
        self._database = database
        self._engine = engine
        self._uploads = uploads
        self._creation = creation
        self._deletion = deletion

    async def start_import(
        self, upload: StoredUpload, judged: JudgedUpload, request: CreationRequest, complete: Complete
    ) -> OperationRecord:
        """Raises SpaceNotFound, SpaceArchived, and ParameterError when a row of an atomic batch is invalid."""
        if request.atomic and not request.dry_run:
            async with self._database.batch_connections:
                batch = await self._creation.settled(judged, request, uuid4())
            await self._creation.refuse_invalid(batch)

        async def start(session: AsyncSession) -> OperationRecord:
            await self._uploads.persist(session, upload)
            space = await SpaceService(session).resolve_open(request.space_id)
            plan = OperationPlan(
                kind=OperationKind.INSTANCE_IMPORT,
                request=request_as_json(request, upload.filename),
                batch_id=uuid4(),
                total=judged.file.rows,
                space_id=space.id,
                upload_id=upload.id,
            )
            return await self._started(session, plan, complete)

        return await run_in_transaction(self._database.writers, start)

    async def start_deletion(self, request: DeletionRequest, complete: Complete) -> OperationRecord:
        """Raises PreconditionFailed when a plan token no longer fits what is there."""
        plan = await self._deletion.plan_operation(request)

        async def start(session: AsyncSession) -> OperationRecord:
            return await self._started(session, plan, complete)

        return await run_in_transaction(self._database.writers, start)

    async def _started(self, session: AsyncSession, plan: OperationPlan, complete: Complete) -> OperationRecord:
        operation = await OperationService(session, self._engine).start(plan)
        await complete(session, operation)
        return operation
