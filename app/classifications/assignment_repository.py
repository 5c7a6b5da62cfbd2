"""SQL about accounts as rules judge them, and about what rules have assigned."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.classifications.evaluation import AccountRights, JudgedAccount
from app.classifications.records import MatchedAccount
from app.database import insert_rows, is_listed, stored_timestamp
from app.models.base import table_of
from app.models.instance import DatabaseType, Instance
from app.models.inventory import AccountClassificationAssignment, AccountPermission, InstanceAccount

_accounts = table_of(InstanceAccount)
_permissions = table_of(AccountPermission)
_assignments = table_of(AccountClassificationAssignment)
_instances = table_of(Instance)

_judged = (
    select(
        _permissions.c.id,
        _accounts.c.instance_id,
        _instances.c.db_type,
        _accounts.c.username,
        _accounts.c.is_superuser,
        _permissions.c.digest,
        *(_permissions.c[name] for name in AccountRights._fields),
    )
    .join_from(_permissions, _accounts, _accounts.c.id == _permissions.c.account_id)
    .join(_instances, _instances.c.id == _accounts.c.instance_id)
    .where(_accounts.c.is_present)
)
_NO_RIGHTS: dict[str, Any] = {"roles": (), "global_privileges": (), "database_privileges": {}, "object_privileges": {}}


class Assignment(NamedTuple):
    """That the version of a class' rule matched the rights."""

    permission_id: int
    classification_id: int
    rule_version: int


async def space_of(session: AsyncSession, instance_id: int) -> int | None:
    return await session.scalar(select(_instances.c.space_id).where(_instances.c.id == instance_id))


async def accounts_of_instance(session: AsyncSession, instance_id: int) -> list[JudgedAccount]:
    return await _accounts_of(session, _judged.where(_accounts.c.instance_id == instance_id))


async def accounts_after(session: AsyncSession, space_id: int, permission_id: int, limit: int) -> list[JudgedAccount]:
    """The next ones of the space's instances that are not deleted, in order of `permission_id`."""
    statement = (
        _judged.where(
            _instances.c.space_id == space_id, _instances.c.deleted_at.is_(None), _permissions.c.id > permission_id
        )
        .order_by(_permissions.c.id)
        .limit(limit)
    )
    return await _accounts_of(session, statement)


async def _accounts_of(session: AsyncSession, statement: Select[Any]) -> list[JudgedAccount]:
    return [
        JudgedAccount(row[0], row[1], DatabaseType(row[2]), row[3], row[4], row[5], _rights(row[6:]))
        for row in await session.execute(statement)
    ]


def _rights(values: Sequence[Any]) -> AccountRights:
    named = zip(AccountRights._fields, values, strict=True)
    return AccountRights(**{name: _NO_RIGHTS[name] if value is None else value for name, value in named})


async def described(session: AsyncSession, permission_ids: Sequence[int]) -> list[MatchedAccount]:
    """In order of instance and name."""
    if not permission_ids:
        return []
    statement = (
        select(
            _accounts.c.instance_id,
            _instances.c.name,
            _instances.c.db_type,
            _accounts.c.username,
            _accounts.c.host,
            _accounts.c.is_superuser,
        )
        .join_from(_permissions, _accounts, _accounts.c.id == _permissions.c.account_id)
        .join(_instances, _instances.c.id == _accounts.c.instance_id)
        .where(is_listed(session, _permissions.c.id, permission_ids))
        .order_by(_instances.c.name, _accounts.c.username, _accounts.c.host)
    )
    return [MatchedAccount._make(row) for row in await session.execute(statement)]


async def still_there(session: AsyncSession, permission_ids: Sequence[int]) -> set[int]:
    """Those whose account is there, which stay until the transaction ends."""
    statement = (
        select(_permissions.c.id)
        .join_from(_permissions, _accounts, _accounts.c.id == _permissions.c.account_id)
        .where(is_listed(session, _permissions.c.id, permission_ids), _accounts.c.is_present)
        .with_for_update(read=True, key_share=True, of=_permissions)
    )
    return set(await session.scalars(statement))


async def assignments_of_instance(session: AsyncSession, instance_id: int) -> set[Assignment]:
    columns = (_assignments.c[name] for name in Assignment._fields)
    statement = select(*columns).where(_assignments.c.instance_id == instance_id)
    return {Assignment._make(row) for row in await session.execute(statement)}


async def assignments_of(
    session: AsyncSession, classification_id: int, permission_ids: Sequence[int]
) -> set[Assignment]:
    columns = (_assignments.c[name] for name in Assignment._fields)
    statement = select(*columns).where(
        _assignments.c.classification_id == classification_id,
        is_listed(session, _assignments.c.permission_id, permission_ids),
    )
    return {Assignment._make(row) for row in await session.execute(statement)}


async def replace(
    session: AsyncSession,
    taken: Iterable[Assignment],
    given: Iterable[tuple[int, Assignment]],
    moment: datetime,
) -> None:
    """Removes the one and adds the other, of which each comes with its instance's id."""
    by_class: dict[int, list[int]] = {}
    for each in taken:
        by_class.setdefault(each.classification_id, []).append(each.permission_id)
    for classification_id, permission_ids in by_class.items():
        statement = delete(_assignments).where(
            _assignments.c.classification_id == classification_id,
            is_listed(session, _assignments.c.permission_id, permission_ids),
        )
        await session.execute(statement)
    assigned_at = stored_timestamp(session, moment)
    rows = [(instance_id, *each, assigned_at) for instance_id, each in given]
    if rows:
        await insert_rows(session, _assignments, ("instance_id", *Assignment._fields, "assigned_at"), rows)


async def remove_all(session: AsyncSession, classification_id: int) -> None:
    await session.execute(delete(_assignments).where(_assignments.c.classification_id == classification_id))


async def remove_all_of_instance(session: AsyncSession, instance_id: int) -> None:
    await session.execute(delete(_assignments).where(_assignments.c.instance_id == instance_id))
