"""Snapshots of settings: a new one only when something changed."""

import asyncio

import pytest

from app.caller import Call, Caller, calling
from app.database import Database
from app.errors import NotFound
from app.inventory.records import SyncCounts
from tests.factories import Registry
from tests.inventory.syncing import FIRST, SECOND, THIRD, rows, statements_of, sync_settings

SETTINGS = {"max_connections": "100", "shared_buffers": "128MB"}


@pytest.fixture
async def instance(registry: Registry) -> int:
    return await registry.instance()


async def snapshots(database: Database, instance_id: int) -> list[tuple[object, object]]:
    found = await rows(database, "instance_config_snapshots", instance_id)
    return [(row["captured_at"], row["settings"]) for row in found]


async def test_the_first_creates_every_setting(database: Database, instance: int) -> None:
    assert await sync_settings(database, instance, SETTINGS) == SyncCounts(found=2, created=2)
    assert await snapshots(database, instance) == [(FIRST, SETTINGS)]


async def test_unchanged_costs_one_statement(database: Database, instance: int) -> None:
    await sync_settings(database, instance, SETTINGS)
    with statements_of(database) as sent:
        counts = await sync_settings(database, instance, dict(reversed(SETTINGS.items())), SECOND)
    assert counts == SyncCounts(found=2, unchanged=2)
    assert [text.split()[0] for text in sent if not text.startswith("BEGIN")] == ["SELECT"]
    assert await snapshots(database, instance) == [(FIRST, SETTINGS)]


async def test_a_change_is_another_snapshot(database: Database, instance: int) -> None:
    await sync_settings(database, instance, SETTINGS | {"work_mem": "4MB"})
    changed = {"max_connections": "200", "shared_buffers": "128MB", "wal_level": "logical"}
    assert await sync_settings(database, instance, changed, SECOND) == SyncCounts(3, 1, 1, 1, 1)
    assert (await snapshots(database, instance))[1:] == [(SECOND, changed)]


async def test_back_to_what_was_is_one_too(database: Database, instance: int) -> None:
    await sync_settings(database, instance, SETTINGS)
    await sync_settings(database, instance, {}, SECOND)
    assert await sync_settings(database, instance, SETTINGS, THIRD) == SyncCounts(found=2, created=2)
    assert [settings for _, settings in await snapshots(database, instance)] == [SETTINGS, {}, SETTINGS]


async def test_a_clock_that_went_back_does_not_hide_it(database: Database, instance: int) -> None:
    await sync_settings(database, instance, SETTINGS, SECOND)
    await sync_settings(database, instance, {"a": "1"}, FIRST)
    assert await sync_settings(database, instance, {"a": "1"}, FIRST) == SyncCounts(found=1, unchanged=1)
    assert [captured_at for captured_at, _ in await snapshots(database, instance)] == [SECOND, SECOND]


async def test_at_once(database: Database, instance: int) -> None:
    counts = await asyncio.gather(*(sync_settings(database, instance, SETTINGS) for _ in range(4)))
    assert sorted(each.created for each in counts) == [0, 0, 0, 2]
    assert len(await snapshots(database, instance)) == 1


async def test_of_another_space(database: Database, registry: Registry, instance: int) -> None:
    with calling(Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.space()}))), pytest.raises(NotFound):
        await sync_settings(database, instance, SETTINGS)
    with calling(Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.default_space()}))):
        assert (await sync_settings(database, instance, SETTINGS)).created == 2
