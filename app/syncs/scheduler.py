"""Starts what is due: schedules, and instances by their own sync policy.

Every server and worker looks, again and again; a row or an advisory lock makes sure that one of them starts it, and
what comes next is noted in the transaction that starts it: each is started exactly once, and what was missed while
nobody looked is started once, however often it would have been due.

An instance's policy is due once as soon as it is there, and then at a place in the period that is the instance's own,
so that a fleet that was imported at once is spread over the period.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.background import in_background
from app.config import Settings
from app.database import Database
from app.database.transactions import run_beside_requests
from app.errors import AppError
from app.models.audit import AuditOutcome
from app.models.base import utc_now
from app.models.instance import SyncPolicy
from app.models.sync import SyncTrigger
from app.syncs import policy_repository, schedule_repository
from app.syncs.cron import Cron
from app.syncs.policy_repository import DueInstance
from app.syncs.records import SyncRequest
from app.syncs.schedule_records import ScheduleRecord
from app.syncs.schedule_service import ScheduleService
from app.syncs.service import DataSyncService

log = structlog.get_logger(__name__)

# Started in one transaction.
POLICY_INSTANCES = 1_000
PERIOD_BY_POLICY = {
    SyncPolicy.HOURLY: timedelta(hours=1),
    SyncPolicy.DAILY: timedelta(days=1),
    SyncPolicy.WEEKLY: timedelta(weeks=1),
}
_beginning = datetime(1970, 1, 1, tzinfo=UTC)


class Scheduler:
    def __init__(self, database: Database, syncs: DataSyncService) -> None:
        self._database = database
        self._syncs = syncs

    async def start_due(self) -> int:
        """How many syncs were started."""
        return await self._start_schedules() + await self._start_policies()

    async def _start_schedules(self) -> int:
        count = 0
        while await self._in_transaction(self._start_schedule):
            count += 1
        return count

    async def _start_policies(self) -> int:
        count = 0
        while started := await self._in_transaction(self._start_some_policies):
            count += started
        return count

    async def _in_transaction(self, work: Any) -> int:
        return int(await run_beside_requests(self._database, work))

    async def _start_schedule(self, session: AsyncSession) -> int:
        """The next one that is due; 0 when there is none."""
        now = utc_now()
        schedule = await schedule_repository.lock_due(session, now)
        if schedule is None:
            return 0
        values: dict[str, Any] = {"next_run_at": Cron(schedule.cron, schedule.timezone).next_after(now)}
        if await self._is_under_way(session, schedule):
            log.warning("a schedule's last run is still under way; this one is left out", schedule_id=schedule.id)
        else:
            operation_id = await self._started(session, schedule)
            values |= {"last_run_at": now, "last_operation_id": operation_id}
        await schedule_repository.note_run(session, schedule.id, values)
        return 1

    async def _is_under_way(self, session: AsyncSession, schedule: ScheduleRecord) -> bool:
        last = schedule.last_operation_id
        return last is not None and await schedule_repository.is_under_way(session, last)

    async def _started(self, session: AsyncSession, schedule: ScheduleRecord) -> int | None:
        """None when it is refused: the space is archived."""
        try:
            async with session.begin_nested():
                return (await ScheduleService(session, self._syncs).start(schedule, SyncTrigger.SCHEDULED)).id
        except AppError as refused:
            log.warning("a schedule could not be run", schedule_id=schedule.id, reason=refused.detail)
            await record(session, _not_run(schedule, refused))
            return None

    async def _start_some_policies(self, session: AsyncSession) -> int:
        if not await policy_repository.take_turn(session):
            return 0
        now = utc_now()
        found = await policy_repository.due(session, now, POLICY_INSTANCES)
        if not found:
            return 0
        started = 0
        for space_id, instances in groupby(found, key=lambda instance: instance.space_id):
            ids = tuple(instance.id for instance in instances)
            await self._syncs.start(session, SyncRequest(space_id, ids, trigger=SyncTrigger.SCHEDULED))
            started += 1
        await policy_repository.plan(session, _planned(found, now))
        return started


def next_turn(instance_id: int, policy: SyncPolicy, now: datetime) -> datetime:
    """The instance's next place in the policy's period, after `now`; the places are spread evenly over instances."""
    period = PERIOD_BY_POLICY[policy]
    # Knuth's multiplicative hash: neighbours are far from each other.
    share = (instance_id * 2_654_435_761 % 2**32) / 2**32
    offset = timedelta(seconds=int(period.total_seconds() * share))
    turns = (now - _beginning - offset) // period
    return _beginning + offset + (turns + 1) * period


def _planned(instances: Sequence[DueInstance], now: datetime) -> Iterator[dict[str, Any]]:
    for each in instances:
        yield {"instance_id": each.id, "policy": each.policy, "next_sync_at": next_turn(each.id, each.policy, now)}


def _not_run(schedule: ScheduleRecord, refused: AppError) -> AuditEntry:
    return AuditEntry(
        "schedule:run",
        "schedule",
        schedule.id,
        schedule.name,
        schedule.space_id,
        outcome=AuditOutcome.FAILED,
        changes={"reason": refused.detail},
    )


def scheduling(scheduler: Scheduler, settings: Settings) -> AbstractAsyncContextManager[None]:
    """Starts what is due beside the block, unless this process is not to."""
    if settings.scheduler == "off":
        return nullcontext()
    return in_background(keep_scheduling(scheduler, settings.scheduler_seconds))


async def keep_scheduling(scheduler: Scheduler, seconds: float) -> None:
    """Looks what is due until it is cancelled; a failure is logged, and the next look tries again."""
    while True:
        # Servers that were started together should not look together.
        await asyncio.sleep(seconds * random.uniform(0.5, 1))
        try:
            if started := await scheduler.start_due():
                log.info("syncs that were due were started", started=started)
        except Exception as error:
            log.error("what is due could not be started", exc_info=error)
