"""SQL by which syncs write accounts, their rights and what changed, of an instance that is held."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, bindparam, delete, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.bulk_loads import insert_rows, reserve_ids
from app.database.statements import is_listed, stored_timestamp
from app.inventory.account_changes import AccountChange, Rights
from app.inventory.account_states import RIGHTS, AccountAttributes, Pair, SeenAccount, StoredAccount
from app.inventory.row_updates import update_rows
from app.inventory.stored_text import canonical_json
from app.models.base import UtcDateTime, table_of
from app.models.inventory import (
    AccountChangeLog,
    AccountClassificationAssignment,
    AccountPermission,
    InstanceAccount,
)
from app.turns import in_turns

# Rows that are made into values before others have their turn.
PART_ROWS: Final = 200
# Of snapshots, which can be long.
PART_SNAPSHOTS: Final = 20

_accounts = table_of(InstanceAccount)
_permissions = table_of(AccountPermission)
_assignments = table_of(AccountClassificationAssignment)
_logs = table_of(AccountChangeLog)
_values = AccountAttributes._fields

# Every sync executes these; what is made once needs not be taken apart again to find what it was compiled to.
_of_instance = _accounts.c.instance_id == bindparam("held_id", type_=BigInteger())
_stored = (
    select(
        _accounts.c.id,
        _accounts.c.username,
        _accounts.c.host,
        _accounts.c.is_present,
        _permissions.c.digest,
        *(_accounts.c[name] for name in _values),
    )
    .join_from(_accounts, _permissions, _permissions.c.account_id == _accounts.c.id, isouter=True)
    .where(_of_instance)
)
_refreshed = (
    update(_accounts)
    .where(_of_instance, _accounts.c.is_present == true())
    .values(last_seen_at=bindparam("seen_at", type_=UtcDateTime()), updated_at=_accounts.c.updated_at)
)


async def stored_accounts(session: AsyncSession, instance_id: int) -> list[StoredAccount]:
    """Every account that was ever seen on the instance, which for this needs not be held."""
    result = await session.execute(_stored, {"held_id": instance_id}, execution_options=SPACES_CHECKED)
    found: list[StoredAccount] = []
    for part in result.partitions(PART_ROWS):
        found.extend(StoredAccount._make((*row[:5], AccountAttributes._make(row[5:]))) for row in part)
        await asyncio.sleep(0)
    return found


async def stored_rights(session: AsyncSession, account_ids: Sequence[int]) -> dict[int, Rights]:
    """By account, the last snapshot of its rights, where there is one."""
    if not account_ids:
        return {}
    statement = select(_permissions.c.account_id, *(_permissions.c[name] for name in RIGHTS)).where(
        is_listed(session, _permissions.c.account_id, account_ids)
    )
    result = await session.execute(statement, execution_options=SPACES_CHECKED)
    found: dict[int, Rights] = {}
    for part in result.partitions(PART_SNAPSHOTS):
        found.update((row[0], dict(zip(RIGHTS, row[1:], strict=True))) for row in part)
        await asyncio.sleep(0)
    return found


async def add(
    session: AsyncSession, instance_id: int, accounts: Sequence[SeenAccount], seen_at: datetime
) -> list[tuple[int, SeenAccount]]:
    """Each with the id that it got."""
    if not accounts:
        return []
    numbered = list(zip(await reserve_ids(session, _accounts, len(accounts)), accounts, strict=True))
    moment = stored_timestamp(session, seen_at)
    columns = ("id", "instance_id", "username", "host", *_values, "is_present", "first_seen_at", "last_seen_at")
    rows = (
        (key, instance_id, account.username, account.host, *_as_columns(session, account), True, moment, moment)
        for key, account in numbered
    )
    await insert_rows(session, _accounts, columns, rows)
    return numbered


async def change(session: AsyncSession, instance_id: int, pairs: Sequence[Pair]) -> None:
    """Gives the accounts the attributes that they were seen with; they are there, if they were not before."""
    rows = [(pair.stored.id, *_as_members(session, pair.seen)) for pair in pairs]
    await update_rows(session, _accounts, instance_id, "id", _values, rows, is_present=True)


async def add_rights(
    session: AsyncSession, instance_id: int, accounts: Sequence[tuple[int, SeenAccount]], seen_at: datetime
) -> None:
    """The first snapshot of each account's rights."""
    if not accounts:
        return
    moment = stored_timestamp(session, seen_at)
    columns = ("instance_id", "account_id", *RIGHTS, "digest", "captured_at")
    rows = [
        (instance_id, key, *(text.decode() for text in _snapshot(account)), account.digest, moment)
        async for key, account in in_turns(accounts)
    ]
    await insert_rows(session, _permissions, columns, rows)


async def change_rights(session: AsyncSession, instance_id: int, pairs: Sequence[Pair], seen_at: datetime) -> None:
    """Replaces the snapshots, each of which is there already."""
    rows = [
        (pair.stored.id, *(orjson.Fragment(text) for text in _snapshot(pair.seen)), pair.seen.digest)
        async for pair in in_turns(pairs)
    ]
    await update_rows(session, _permissions, instance_id, "account_id", (*RIGHTS, "digest"), rows, captured_at=seen_at)


async def deactivate(session: AsyncSession, instance_id: int, account_ids: Sequence[int]) -> None:
    """The accounts and their rights stay as they were last seen, but are in no class any more."""
    if not account_ids:
        return
    gone = update(_accounts).where(
        _accounts.c.instance_id == instance_id, is_listed(session, _accounts.c.id, account_ids)
    )
    await session.execute(gone.values(is_present=False), execution_options=SPACES_CHECKED)
    snapshots = select(_permissions.c.id).where(is_listed(session, _permissions.c.account_id, account_ids))
    unassigned = delete(_assignments).where(
        _assignments.c.instance_id == instance_id, _assignments.c.permission_id.in_(snapshots)
    )
    await session.execute(unassigned, execution_options=SPACES_CHECKED)


async def refresh(session: AsyncSession, instance_id: int, seen_at: datetime) -> None:
    """Notes that the accounts that are there were seen. It is no change, and `updated_at` stays."""
    await session.execute(_refreshed, {"held_id": instance_id, "seen_at": seen_at}, execution_options=SPACES_CHECKED)


async def log(session: AsyncSession, instance_id: int, changes: Sequence[AccountChange], seen_at: datetime) -> None:
    if not changes:
        return
    moment = stored_timestamp(session, seen_at)
    columns = ("instance_id", "username", "host", "change_type", "changes", "diff", "changed_at")
    rows = [
        (
            instance_id,
            each.username,
            each.host,
            each.change_type.value,
            each.as_json.decode(),
            each.diff,
            moment,
        )
        async for each in in_turns(changes)
    ]
    await insert_rows(session, _logs, columns, rows)


def _as_columns(session: AsyncSession, account: SeenAccount) -> tuple[Any, ...]:
    """The attributes as `insert_rows` takes them."""
    *values, further = _as_members(session, account)
    return *values, None if further is None else canonical_json(further).decode()


def _as_members(session: AsyncSession, account: SeenAccount) -> tuple[Any, ...]:
    """The same as `update_rows` takes them."""
    values = account.values._asdict()
    if values["password_expires_at"] is not None:
        values["password_expires_at"] = stored_timestamp(session, values["password_expires_at"])
    return tuple(values.values())


def _snapshot(account: SeenAccount) -> list[bytes]:
    """JSON of the rights, in the order of RIGHTS."""
    rights = account.rights
    return [canonical_json(rights[name]) for name in RIGHTS]
