"""Databases between syncs."""

import asyncio
from dataclasses import replace

import pytest

from app.caller import Call, Caller, calling
from app.database import Database
from app.errors import NotFound
from app.inventory.records import FoundDatabase, SyncCounts
from tests.factories import Registry
from tests.inventory.syncing import FIRST, SECOND, THIRD, rows, statements_of, sync_databases

SHOP = FoundDatabase("shop", owner="alice", character_set_name="UTF8", collation_name="C", is_system=False)
SYSTEM = FoundDatabase("postgres", is_system=True)


@pytest.fixture
async def instance(registry: Registry) -> int:
    return await registry.instance()


async def databases(database: Database, instance_id: int) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in await rows(database, "instance_databases", instance_id)}


async def test_are_created_as_they_were_found(database: Database, instance: int) -> None:
    assert await sync_databases(database, instance, SHOP, SYSTEM) == SyncCounts(found=2, created=2)
    stored = await databases(database, instance)
    shop = stored["shop"]
    assert (shop["owner"], shop["character_set_name"], shop["collation_name"]) == ("alice", "UTF8", "C")
    assert (shop["is_system"], shop["is_present"]) == (False, True)
    assert shop["first_seen_at"] == shop["last_seen_at"] == FIRST
    assert (stored["postgres"]["is_system"], stored["postgres"]["owner"]) == (True, None)


async def test_unchanged_cost_two_statements(database: Database, instance: int) -> None:
    await sync_databases(database, instance, SHOP, SYSTEM)
    before = await databases(database, instance)
    with statements_of(database) as sent:
        counts = await sync_databases(database, instance, SYSTEM, SHOP, at=SECOND)
    assert counts == SyncCounts(found=2, unchanged=2)
    assert [text.split()[0] for text in sent if not text.startswith("BEGIN")] == ["SELECT", "UPDATE"]
    assert await databases(database, instance) == {name: row | {"last_seen_at": SECOND} for name, row in before.items()}


async def test_change(database: Database, instance: int) -> None:
    await sync_databases(database, instance, SHOP, SYSTEM)
    changed = replace(SHOP, owner=None, collation_name="en_US.utf8")
    assert await sync_databases(database, instance, changed, SYSTEM, at=SECOND) == SyncCounts(
        found=2, updated=1, unchanged=1
    )
    shop = (await databases(database, instance))["shop"]
    assert (shop["owner"], shop["character_set_name"], shop["collation_name"]) == (None, "UTF8", "en_US.utf8")


async def test_go_and_come_back(database: Database, instance: int) -> None:
    await sync_databases(database, instance, SHOP, SYSTEM)
    key = (await databases(database, instance))["shop"]["id"]
    assert await sync_databases(database, instance, SYSTEM, at=SECOND) == SyncCounts(found=1, removed=1, unchanged=1)
    shop = (await databases(database, instance))["shop"]
    assert (shop["is_present"], shop["last_seen_at"], shop["owner"]) == (False, FIRST, "alice")
    assert await sync_databases(database, instance, SYSTEM, at=SECOND) == SyncCounts(found=1, unchanged=1)
    back = replace(SHOP, owner="bob")
    assert await sync_databases(database, instance, back, SYSTEM, at=THIRD) == SyncCounts(
        found=2, created=1, unchanged=1
    )
    shop = (await databases(database, instance))["shop"]
    assert (shop["id"], shop["is_present"], shop["owner"], shop["first_seen_at"]) == (key, True, "bob", FIRST)


async def test_of_two_with_one_name_the_first_stands(database: Database, instance: int) -> None:
    assert await sync_databases(database, instance, SHOP, replace(SHOP, owner="bob")) == SyncCounts(found=1, created=1)
    assert (await databases(database, instance))["shop"]["owner"] == "alice"


async def test_found_at_once(database: Database, instance: int) -> None:
    counts = await asyncio.gather(*(sync_databases(database, instance, SHOP, SYSTEM) for _ in range(4)))
    assert sorted(each.created for each in counts) == [0, 0, 0, 2]


async def test_of_another_space(database: Database, registry: Registry, instance: int) -> None:
    with calling(Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.space()}))), pytest.raises(NotFound):
        await sync_databases(database, instance, SHOP)
    with calling(Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.default_space()}))):
        await sync_databases(database, instance, SHOP)
        await sync_databases(database, instance, replace(SHOP, owner="bob"), SYSTEM, at=SECOND)
        await sync_databases(database, instance, SYSTEM, at=THIRD)
    assert [row["is_present"] for row in (await databases(database, instance)).values()] == [False, True]
