"""Schedules: syncs of a space's instances at the times of a cron expression."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.errors import FieldError, NotFound, ParameterError
from app.models.base import utc_now
from app.models.sync import SyncTrigger
from app.operations.records import OperationRecord
from app.pagination import PageRequest
from app.preconditions import require_match
from app.spaces.service import SpaceService
from app.syncs import schedule_repository as repository
from app.syncs.cron import Cron
from app.syncs.records import SyncRequest
from app.syncs.schedule_records import (
    ScheduleFilter,
    SchedulePage,
    ScheduleRecord,
    ScheduleValues,
    filter_of,
    kinds_of,
)
from app.syncs.service import DataSyncService
from app.taken_names import refusing_taken_name

_timed = frozenset({"cron", "timezone", "paused"})


class ScheduleService:
    """Works in the caller's transaction."""

    def __init__(self, session: AsyncSession, syncs: DataSyncService) -> None:
        self._session = session
        self._syncs = syncs

    async def page(self, wanted: ScheduleFilter, sort: str, request: PageRequest) -> SchedulePage:
        """Raises SpaceNotFound when the filter names a space that does not exist."""
        if wanted.space_id is not None:
            await SpaceService(self._session).resolve(wanted.space_id)
        return await repository.page(self._session, wanted, sort, request)

    async def get(self, schedule_id: int) -> ScheduleRecord:
        return _found(await repository.find(self._session, schedule_id), schedule_id)

    async def create(self, space_id: int | None, values: ScheduleValues) -> ScheduleRecord:
        """Raises ParameterError for a cron expression or a zone that is none, Conflict when the name is taken or the
        space is archived."""
        space = await SpaceService(self._session).resolve_open(space_id)
        await SpaceService(self._session).hold_open(space.id)
        first = _next_run(values["cron"], values["timezone"], is_paused=values.get("paused", False))
        with refusing_taken_name("the space has a schedule", values["name"]):
            schedule = await repository.create(self._session, space.id, {**values, "next_run_at": first})
        await self._record("schedule:create", schedule, {"after": dict(values)})
        return schedule

    async def update(self, schedule_id: int, values: ScheduleValues, if_match: str | None) -> ScheduleRecord:
        """Sets what `values` names. Where nothing differs, nothing is written and the revision stays."""
        schedule = await self._locked(schedule_id, if_match)
        await SpaceService(self._session).hold_open(schedule.space_id)
        before = {name: getattr(schedule, name) for name, value in values.items() if getattr(schedule, name) != value}
        if not before:
            return schedule
        changes: dict[str, Any] = dict(values)
        if before.keys() & _timed:
            cron, zone = values.get("cron", schedule.cron), values.get("timezone", schedule.timezone)
            changes["next_run_at"] = _next_run(cron, zone, is_paused=values.get("paused", schedule.paused))
        with refusing_taken_name("the space has a schedule", values.get("name")):
            changed = await repository.change(self._session, schedule_id, changes)
        after = {name: getattr(changed, name) for name in before}
        await self._record("schedule:update", changed, {"before": before, "after": after})
        return changed

    async def delete(self, schedule_id: int, if_match: str | None) -> None:
        schedule = await self._locked(schedule_id, if_match)
        await repository.remove(self._session, schedule_id)
        await self._record("schedule:delete", schedule, {"before": {"name": schedule.name, "cron": schedule.cron}})

    async def run(self, schedule_id: int) -> OperationRecord:
        """Starts it now, paused or not, whatever its times are; they stay as they are. Raises NotFound."""
        schedule = _found(await repository.lock(self._session, schedule_id), schedule_id)
        operation = await self.start(schedule, SyncTrigger.MANUAL)
        values = {"last_run_at": utc_now(), "last_operation_id": operation.id}
        await repository.note_run(self._session, schedule_id, values)
        return operation

    async def start(self, schedule: ScheduleRecord, trigger: SyncTrigger) -> OperationRecord:
        wanted = filter_of(schedule.filter, schedule.space_id)
        request = SyncRequest(schedule.space_id, None, wanted, kinds_of(schedule.kinds), trigger)
        operation = await self._syncs.start(self._session, request)
        await self._record("schedule:run", schedule, {"operation_id": operation.id, "trigger": trigger.value})
        return operation

    async def _locked(self, schedule_id: int, if_match: str | None) -> ScheduleRecord:
        schedule = _found(await repository.lock(self._session, schedule_id), schedule_id)
        require_match(if_match, schedule.revision)
        return schedule

    async def _record(self, action: str, schedule: ScheduleRecord, changes: dict[str, Any]) -> None:
        entry = AuditEntry(action, "schedule", schedule.id, schedule.name, schedule.space_id, changes=changes)
        await record(self._session, entry)


def upcoming(schedule: ScheduleRecord, count: int) -> list[datetime]:
    """When it runs next; never while it is paused."""
    if schedule.paused:
        return []
    return Cron(schedule.cron, schedule.timezone).upcoming(utc_now(), count)


def _next_run(cron: str, timezone: str, *, is_paused: bool) -> datetime | None:
    try:
        found = Cron(cron, timezone).next_after(utc_now())
    except FieldError as refused:
        field = "timezone" if refused.code == "unknown_value" else "cron"
        error = {"pointer": f"/body/{field}", "code": refused.code, "message": refused.message}
        raise ParameterError(refused.message, members={"errors": [error]}) from refused
    return None if is_paused else found


def _found(schedule: ScheduleRecord | None, schedule_id: int) -> ScheduleRecord:
    if schedule is None:
        raise NotFound(f"there is no schedule {schedule_id}")
    return schedule
