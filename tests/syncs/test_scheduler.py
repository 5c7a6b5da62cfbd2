"""What is due is started, exactly once, whoever looks."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update

from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent, AuditOutcome
from app.models.base import utc_now
from app.models.instance import Instance, SyncPolicy
from app.models.operation import Operation, OperationState
from app.models.space import Space
from app.models.sync import InstanceSyncPlan, Schedule, SyncSession, SyncTrigger
from app.syncs import scheduler as module
from app.syncs.scheduler import PERIOD_BY_POLICY, Scheduler, keep_scheduling, next_turn
from app.syncs.service import DataSyncService
from tests.factories import Registry
from tests.operations.conftest import IdleEngine
from tests.syncs.syncing import chosen_for

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def scheduler(app: FastAPI, database: Database) -> Scheduler:
    return Scheduler(database, DataSyncService(IdleEngine()))


async def schedule(registry: Registry, name: str = "nightly", **values: Any) -> int:
    space_id = values.pop("space_id", None) or await registry.default_space()
    defaults = {"cron": "0 3 * * *", "timezone": "UTC", "kinds": ["accounts"], "filter": {}, "next_run_at": LONG_AGO}
    return int(await registry.insert("schedules", space_id=space_id, name=name, **defaults | values))


async def synced(registry: Registry, policy: str = "daily", **values: Any) -> int:
    space_id = values.get("space_id")
    credential = await registry.credential(space_id=space_id) if space_id else await registry.credential()
    return int(await registry.instance(sync_policy=policy, **{"credential_id": credential} | values))


async def operations(database: Database) -> list[Operation]:
    async with database.readers() as session:
        return list(await session.scalars(select(Operation).order_by(Operation.id)))


async def ids_of(database: Database) -> list[int]:
    return sorted([each for operation in await operations(database) for each in await chosen_for(database, operation)])


async def changed(database: Database, statement: Any) -> None:
    async with database.writers.begin() as session:
        await session.execute(statement)


class TestSchedules:
    async def test_one_that_is_due_is_started_as_the_services_own(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        instance = await registry.instance()
        schedule_id = await schedule(registry)
        assert await scheduler.start_due() == 1
        [operation] = await operations(database)
        assert (operation.user_id, await chosen_for(database, operation)) == (None, [instance])
        async with database.readers() as session:
            after = await session.get_one(Schedule, schedule_id)
            sync = await session.scalar(select(SyncSession))
        assert after.next_run_at is not None
        assert after.next_run_at > utc_now()
        assert (after.last_operation_id, after.revision) == (operation.id, 1)
        assert sync is not None
        assert (sync.trigger, sync.kinds, sync.operation_id) == (SyncTrigger.SCHEDULED, ["accounts"], operation.id)

    async def test_what_was_missed_is_made_up_for_once(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        await schedule(registry, cron="* * * * *")
        assert await scheduler.start_due() == 1
        assert await scheduler.start_due() == 0
        assert len(await operations(database)) == 1

    async def test_neither_paused_nor_future_ones_are_started(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        await schedule(registry, "paused", paused=True)
        await schedule(registry, "later", next_run_at=utc_now() + timedelta(minutes=1))
        await schedule(registry, "never", next_run_at=None)
        assert await scheduler.start_due() == 0
        assert await operations(database) == []

    async def test_one_that_is_still_under_way_is_left_out(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        schedule_id = await schedule(registry)
        await scheduler.start_due()
        due_again = update(Schedule).where(Schedule.id == schedule_id).values(next_run_at=LONG_AGO)
        await changed(database, due_again)
        await scheduler.start_due()
        assert len(await operations(database)) == 1
        await changed(database, update(Operation).values(state=OperationState.SUCCEEDED))
        await changed(database, due_again)
        await scheduler.start_due()
        assert len(await operations(database)) == 2

    async def test_one_that_is_refused_stops_no_other(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        space_id = await registry.space()
        await schedule(registry, "first", space_id=space_id)
        await schedule(registry, "second")
        await changed(database, update(Space).where(Space.id == space_id).values(archived_at=utc_now()))
        assert await scheduler.start_due() == 2
        assert len(await operations(database)) == 1
        async with database.readers() as session:
            failed = select(AuditEvent.resource_name).where(AuditEvent.outcome == AuditOutcome.FAILED)
            assert list(await session.scalars(failed)) == ["first"]
        assert await scheduler.start_due() == 0

    async def test_many_who_look_start_each_once(
        self, database: Database, registry: Registry, settings: Settings
    ) -> None:
        for number in range(12):
            await schedule(registry, f"s-{number}")
        for _ in range(6):
            await synced(registry)
        others = [Database(settings) for _ in range(3)]
        try:
            await asyncio.gather(
                *(Scheduler(each, DataSyncService(IdleEngine())).start_due() for each in (database, *others))
            )
        finally:
            for each in others:
                await each.dispose()
        found = await operations(database)
        async with database.readers() as session:
            noted = list(await session.scalars(select(Schedule.last_operation_id)))
        by_schedule = [each.id for each in found if each.id in noted]
        [by_policy] = [each for each in found if each.id not in noted]
        assert (len(set(by_schedule)), len(by_schedule)) == (12, 12)
        assert len(await chosen_for(database, by_policy)) == 6


class TestPolicies:
    async def test_a_new_instance_is_due_at_once_and_then_at_its_own_time(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        instance = await synced(registry)
        assert await scheduler.start_due() == 1
        [operation] = await operations(database)
        assert operation.request["kinds"] == ["accounts", "capacity", "settings"]
        async with database.readers() as session:
            plan = await session.get_one(InstanceSyncPlan, instance)
        assert plan.next_sync_at == next_turn(instance, SyncPolicy.DAILY, utc_now())
        assert await scheduler.start_due() == 0

    async def test_it_is_due_again_when_its_time_comes(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        instance = await synced(registry)
        await scheduler.start_due()
        await changed(database, update(InstanceSyncPlan).values(next_sync_at=LONG_AGO))
        await scheduler.start_due()
        await scheduler.start_due()
        assert await ids_of(database) == [instance, instance]

    async def test_another_policy_is_due_at_once(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        instance = await synced(registry, "weekly")
        await scheduler.start_due()
        await changed(database, update(Instance).values(sync_policy=SyncPolicy.HOURLY))
        await scheduler.start_due()
        async with database.readers() as session:
            plan = await session.get_one(InstanceSyncPlan, instance)
        assert plan.policy is SyncPolicy.HOURLY
        assert plan.next_sync_at - utc_now() <= timedelta(hours=1)
        assert await ids_of(database) == [instance, instance]

    async def test_who_is_left_out(self, database: Database, registry: Registry, scheduler: Scheduler) -> None:
        archived = await registry.space()
        await synced(registry, "off")
        await synced(registry, is_active=False)
        await synced(registry, deleted_at=utc_now())
        await synced(registry, credential_id=None)
        await synced(registry, space_id=archived)
        await changed(database, update(Space).where(Space.id == archived).values(archived_at=utc_now()))
        wanted = await synced(registry)
        await scheduler.start_due()
        assert await ids_of(database) == [wanted]

    async def test_each_space_has_a_sync_of_its_own(
        self, database: Database, registry: Registry, scheduler: Scheduler
    ) -> None:
        space_id = await registry.space()
        here, there = await synced(registry), await synced(registry, space_id=space_id)
        assert await scheduler.start_due() == 2
        by_space = {each.space_id: await chosen_for(database, each) for each in await operations(database)}
        assert by_space == {await registry.default_space(): [here], space_id: [there]}

    async def test_many_are_started_some_at_a_time(
        self, database: Database, registry: Registry, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "POLICY_INSTANCES", 2)
        wanted = [await synced(registry) for _ in range(5)]
        assert await scheduler.start_due() == 3
        assert await ids_of(database) == wanted
        async with database.readers() as session:
            assert await session.scalar(select(func.count()).select_from(InstanceSyncPlan)) == 5


class TestTurns:
    @pytest.mark.parametrize("policy", PERIOD_BY_POLICY)
    def test_are_spread_evenly_over_the_period(self, policy: SyncPolicy) -> None:
        now, period = datetime(2026, 11, 22, 12, tzinfo=UTC), PERIOD_BY_POLICY[policy]
        turns = [next_turn(instance_id, policy, now) for instance_id in range(1, 12_001)]
        assert all(now < turn <= now + period for turn in turns)
        parts = Counter(int((turn - now - timedelta(microseconds=1)) * 12 / period) for turn in turns)
        assert len(parts) == 12
        assert max(parts.values()) < 1.1 * 1_000
        assert min(parts.values()) > 0.9 * 1_000

    def test_of_an_instance_are_a_period_apart(self) -> None:
        now = datetime(2026, 11, 22, 12, tzinfo=UTC)
        first = next_turn(7, SyncPolicy.DAILY, now)
        assert next_turn(7, SyncPolicy.DAILY, first) == first + timedelta(days=1)


class TestKeepScheduling:
    async def test_goes_on_after_a_failure(self) -> None:
        looks: list[int] = []
        enough = asyncio.Event()

        class Failing:
            async def start_due(self) -> int:
                looks.append(1)
                if len(looks) == 1:
                    raise OSError("the database is away")
                enough.set()
                return 0

        task = asyncio.create_task(keep_scheduling(Failing(), 0.01))  # type: ignore[arg-type]
        await asyncio.wait_for(enough.wait(), 5)
        task.cancel()
        assert len(looks) >= 2
