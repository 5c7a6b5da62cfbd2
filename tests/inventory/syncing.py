"""Syncs as the tests run them, each in a transaction of its own, and what they left in the tables."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, select

from app.database import Database
from app.database.transactions import run_in_transaction
from app.inventory.account_sync import AccountSync
from app.inventory.database_sync import DatabaseSync
from app.inventory.member_sync import MemberSync
from app.inventory.records import FoundAccount, FoundDatabase, FoundPermissions, Member, SyncCounts
from app.inventory.settings_sync import SettingsSync
from app.models import Base

FIRST = datetime(2026, 5, 1, 12, tzinfo=UTC)
# Microseconds too: both databases must keep them.
SECOND = FIRST + timedelta(hours=1, microseconds=123456)
THIRD = SECOND + timedelta(hours=1)

tables = Base.metadata.tables


def account(username: str, host: str = "", /, *, rights: FoundPermissions | None = None, **values: Any) -> FoundAccount:
    return FoundAccount(username, host, permissions=rights or FoundPermissions(), **values)


def on_objects(**rights: list[str]) -> FoundPermissions:
    """Rights by object, whose dots are written as two underscores."""
    return FoundPermissions(object_privileges={name.replace("__", "."): held for name, held in rights.items()})


async def sync_accounts(database: Database, instance_id: int, *found: FoundAccount, at: datetime = FIRST) -> SyncCounts:
    return await run_in_transaction(
        database.writers, lambda session: AccountSync(session).apply(instance_id, found, at)
    )


async def sync_databases(
    database: Database, instance_id: int, *found: FoundDatabase, at: datetime = FIRST
) -> SyncCounts:
    synced = await run_in_transaction(
        database.writers, lambda session: DatabaseSync(session).apply(instance_id, found, at)
    )
    assert len(synced.unchanged) == synced.counts.unchanged
    return synced.counts


async def sync_settings(
    database: Database, instance_id: int, settings: Mapping[str, str], at: datetime = FIRST
) -> SyncCounts:
    return await run_in_transaction(
        database.writers, lambda session: SettingsSync(session).apply(instance_id, settings, at)
    )


async def sync_members(database: Database, instance_id: int, *members: Member, at: datetime = FIRST) -> None:
    await run_in_transaction(database.writers, lambda session: MemberSync(session).apply(instance_id, members, at))


async def rows(database: Database, table_name: str, instance_id: int) -> list[dict[str, Any]]:
    """In order of the primary key."""
    table = tables[table_name]
    statement = select(table).where(table.c.instance_id == instance_id).order_by(*table.primary_key)
    async with database.readers() as session:
        return [dict(row) for row in (await session.execute(statement)).mappings()]


async def accounts(database: Database, instance_id: int) -> dict[tuple[str, str], dict[str, Any]]:
    """By username and host."""
    return {(row["username"], row["host"]): row for row in await rows(database, "instance_accounts", instance_id)}


async def snapshots(database: Database, instance_id: int) -> dict[int, dict[str, Any]]:
    """Of rights, by account."""
    return {row["account_id"]: row for row in await rows(database, "account_permissions", instance_id)}


async def logs(database: Database, instance_id: int) -> list[tuple[str, str, str]]:
    """Type, username and diff of each, in order."""
    found = await rows(database, "account_change_logs", instance_id)
    return [(row["change_type"].value, row["username"], row["diff"]) for row in found]


@contextmanager
def statements_of(database: Database) -> Iterator[list[str]]:
    """What is sent while the block runs, but for COPY, which goes straight to the driver."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
