"""A server with 5,000 accounts costs a handful of statements, and leaves the event loop to others."""

import time
from collections import Counter
from dataclasses import replace

import pytest

from app.database import Database
from app.inventory.records import FoundAccount, FoundPermissions, SyncCounts
from tests.factories import Registry
from tests.inventory.syncing import SECOND, THIRD, account, rows, snapshots, statements_of, sync_accounts

ACCOUNTS = 5_000
# Of the process; the machine may be busy. The limit that is promised for an unchanged sync is a second.
UNCHANGED_SECONDS = 1.0


def many(right: str = "SELECT") -> list[FoundAccount]:
    return [
        account(
            f"user-{number}",
            "%",
            rights=FoundPermissions(
                roles=[f"role-{number % 10}"],
                global_privileges=["USAGE"],
                database_privileges={"shop": ["SELECT"], "stock": ["INSERT", "SELECT"]},
                object_privileges={f"shop.table-{table}": [right, "UPDATE"] for table in range(10)},
            ),
            authentication_method="caching_sha2_password",
            attributes={"ssl_type": "", "max_questions": 0},
        )
        for number in range(ACCOUNTS)
    ]


@pytest.fixture
async def instance(registry: Registry) -> int:
    return await registry.instance()


def sent_by(statements: list[str]) -> Counter[str]:
    """By their first words, but for the loads that SQLite has in pieces where PostgreSQL has one COPY."""
    return Counter(text.split()[0] for text in statements if not text.startswith(("BEGIN", "INSERT INTO")))


async def test_unchanged(database: Database, instance: int) -> None:
    found = many()
    assert await sync_accounts(database, instance, *found) == SyncCounts(found=ACCOUNTS, created=ACCOUNTS)
    started = time.process_time()
    with statements_of(database) as sent:
        counts = await sync_accounts(database, instance, *found, at=SECOND)
    assert counts == SyncCounts(found=ACCOUNTS, unchanged=ACCOUNTS)
    assert sent_by(sent) == {"SELECT": 1, "UPDATE": 1}
    assert time.process_time() - started < UNCHANGED_SECONDS


async def test_first(database: Database, instance: int) -> None:
    with statements_of(database) as sent:
        await sync_accounts(database, instance, *many())
    assert sent_by(sent).total() <= 6
    assert len(await snapshots(database, instance)) == ACCOUNTS


async def test_all_of_them_changed(database: Database, instance: int) -> None:
    await sync_accounts(database, instance, *many())
    found = [replace(each, is_locked=True) for each in many("DELETE")]
    with statements_of(database) as sent:
        counts = await sync_accounts(database, instance, *found, at=SECOND)
    assert counts == SyncCounts(found=ACCOUNTS, updated=ACCOUNTS)
    assert sent_by(sent).total() <= 20
    logs = await rows(database, "account_change_logs", instance)
    assert Counter(row["change_type"].value for row in logs) == {
        "privileges_changed": ACCOUNTS,
        "attributes_changed": ACCOUNTS,
    }
    assert await sync_accounts(database, instance, *found, at=THIRD) == SyncCounts(found=ACCOUNTS, unchanged=ACCOUNTS)


async def test_all_of_them_gone(database: Database, instance: int) -> None:
    await sync_accounts(database, instance, *many())
    with statements_of(database) as sent:
        counts = await sync_accounts(database, instance, account("last"), at=SECOND)
    assert counts == SyncCounts(found=1, created=1, removed=ACCOUNTS)
    assert sent_by(sent).total() <= 10


async def test_one_with_rights_on_many_tables(database: Database, instance: int) -> None:
    """More than one statement holds: they go in pieces."""
    objects = {f"shop.public.table_{number:05}": ["DELETE", "INSERT", "SELECT", "UPDATE"] for number in range(10_000)}
    found = [account(f"owner-{number}") for number in range(20)]
    await sync_accounts(database, instance, *found)
    rights = FoundPermissions(object_privileges=objects)
    found = [replace(each, permissions=rights) for each in found]
    assert (await sync_accounts(database, instance, *found, at=SECOND)).updated == len(found)
    assert [row["object_privileges"] for row in (await snapshots(database, instance)).values()] == [objects] * 20
    assert (await sync_accounts(database, instance, *found, at=THIRD)).unchanged == len(found)
