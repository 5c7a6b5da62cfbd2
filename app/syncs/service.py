"""Starts syncs: chooses the instances, makes the session that keeps what comes of it and the operation that does it."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.caller import current_call
from app.errors import Conflict, NotFound, ParameterError
from app.instances.records import InstanceFilter, InstanceStatus
from app.models.operation import OperationKind
from app.models.sync import SyncKind
from app.operations.engine import OperationEngine
from app.operations.records import OperationPlan, OperationRecord
from app.operations.service import OperationService
from app.spaces.service import SpaceService
from app.syncs import repository, slice_repository
from app.syncs.instance_sync import refusal
from app.syncs.outcomes import OwnErrorKind
from app.syncs.records import OrderedSync, SyncRequest


class DataSyncService:
    """Works in the caller's transaction, so that nothing of a sync is there without the rest."""

    def __init__(self, engine: OperationEngine) -> None:
        self._engine = engine

    async def start(self, session: AsyncSession, request: SyncRequest) -> OperationRecord:
        """The operation, whose items are in the order of the ids, or of the filter's by id. What is missing or cannot
        be synced is an item, not an error; a filter selects active instances, none or any number.

        Raises SpaceNotFound, SpaceArchived, and ParameterError when the ids are of several spaces.
        """
        if request.instance_ids is None:
            space_id = await SpaceService(session).resolve(_space_named(request))
            return await self._started(session, space_id, request, request.filter or InstanceFilter())
        ids = tuple(dict.fromkeys(request.instance_ids))
        space_id = await self._space_of(session, request.space_id, ids)
        return await self._started(session, space_id, request, ids)

    async def start_one(self, session: AsyncSession, instance_id: int, kinds: Sequence[SyncKind]) -> OperationRecord:
        """The same for one instance, which is tried even where its server was found unreachable a moment ago: whoever
        asks for it has maybe just repaired it.

        Raises NotFound, Conflict when it is deleted or disabled, ParameterError when it has no credential.
        """
        found = await repository.find_instance(session, instance_id)
        if found is None:
            raise NotFound(f"there is no instance {instance_id}")
        error = refusal(found)
        if error is not None and error.kind == OwnErrorKind.NO_CREDENTIAL:
            raise _refused("credential_id", "required", f"{error.message}; {error.hint}")
        if error is not None:
            raise Conflict(f"{error.message}; {error.hint}")
        request = SyncRequest(found.space_id, kinds=kinds, ignores_open_circuit=True)
        return await self._started(session, found.space_id, request, (instance_id,))

    async def _started(
        self, session: AsyncSession, space_id: int, request: SyncRequest, chosen: Sequence[int] | InstanceFilter
    ) -> OperationRecord:
        await SpaceService(session).hold_open(space_id)
        kinds = tuple(kind for kind in SyncKind if kind in request.kinds)
        session_id = await repository.create_session(session, space_id, kinds, request.trigger)
        total = await _put(session, session_id, space_id, chosen)
        ordered = OrderedSync(session_id, kinds, request.ignores_open_circuit)
        plan = OperationPlan(OperationKind.INSTANCE_SYNC, ordered.as_json(), uuid4(), total, space_id)
        operation = await OperationService(session, self._engine).start(plan)
        await repository.change_session(session, session_id, {"operation_id": operation.id})
        return operation

    async def _space_of(self, session: AsyncSession, space_id: int | None, ids: Sequence[int]) -> int:
        """The one named, or the only one that the instances are in."""
        if space_id is not None:
            return await SpaceService(session).resolve(space_id)
        found = await repository.spaces_of(session, ids) if ids else []
        if len(found) > 1:
            message = f"the instances are in {len(found)} spaces; sync those of one space at a time"
            raise _refused("instance_ids", "invalid_format", message)
        if found:
            return found[0]
        # Nothing is there to sync, which the items will say.
        spaces = current_call().spaces
        return min(spaces) if spaces else await SpaceService(session).resolve(None)


async def _put(session: AsyncSession, session_id: int, space_id: int, chosen: Sequence[int] | InstanceFilter) -> int:
    """How many instances are chosen, which are then the session's."""
    if isinstance(chosen, InstanceFilter):
        wanted = replace(chosen, space_id=space_id, status=InstanceStatus.ACTIVE)
        return await slice_repository.put_selected(session, session_id, wanted)
    await slice_repository.put(session, session_id, chosen)
    return len(chosen)


def _space_named(request: SyncRequest) -> int | None:
    if request.space_id is not None or request.filter is None:
        return request.space_id
    return request.filter.space_id


def _refused(field: str, code: str, message: str) -> ParameterError:
    return ParameterError(
        message, members={"errors": [{"pointer": f"/body/{field}", "code": code, "message": message}]}
    )
