"""SQL about accounts as rules judge them, and about what rules have assigned."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, delete, exists, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.classifications.evaluation import AccountRights, JudgedAccount
from app.classifications.records import MatchedAccount, StoredRule
from app.database.bulk_loads import insert_rows
from app.database.statements import is_listed, stored_timestamp
from app.models.base import table_of
from app.models.instance import DatabaseType, Instance
from app.models.inventory import (
    AccountClassification,
    AccountClassificationAssignment,
    AccountPermission,
    InstanceAccount,
)

_accounts = table_of(InstanceAccount)
_permissions = table_of(AccountPermission)
_assignments = table_of(AccountClassificationAssignment)
_instances = table_of(Instance)
_classes = table_of(AccountClassification)
_instance_id = bindparam("instance_id", type_=BigInteger())

# The space is looked up inside, so that no other space's rules are locked; and they are in order.
_applied = (
    select(_classes.c.id, _classes.c.rule_version, _classes.c.rule)
    .where(
        _classes.c.space_id == select(_instances.c.space_id).where(_instances.c.id == _instance_id).scalar_subquery(),
        _classes.c.is_enabled,
    )
    .order_by(_classes.c.id)
    .with_for_update(read=True)
    .subquery("applied")
)
# A row without a rule where there is none.
_applied_to_instance = (
    select(exists().where(_assignments.c.instance_id == _instance_id), *_applied.c)
    .select_from(_instances.outerjoin(_applied, true()))
    .where(_instances.c.id == _instance_id)
    .order_by(_applied.c.id)
)
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
_judged_of_instance = _judged.where(_accounts.c.instance_id == _instance_id)
_NO_RIGHTS: dict[str, Any] = {"roles": (), "global_privileges": (), "database_privileges": {}, "object_privileges": {}}


class Assignment(NamedTuple):
    """That the version of a class' rule matched the rights."""

    permission_id: int
    classification_id: int
    rule_version: int


_assigned = select(*(_assignments.c[name] for name in Assignment._fields))
_assigned_of_instance = _assigned.where(_assignments.c.instance_id == _instance_id)


class AppliedRules(NamedTuple):
    """Of an instance. `has_assignments`: whether any rule, of these or of others, matched before."""

    rules: Sequence[StoredRule]
    has_assignments: bool


async def applied_rules(session: AsyncSession, instance_id: int) -> AppliedRules:
    """What the space of the instance, which must have been looked up, applies to its accounts. Nobody changes these
    rules or applies them otherwise until the transaction ends."""
    parameters = {"instance_id": instance_id}
    rows = (await session.execute(_applied_to_instance, parameters, execution_options=SPACES_CHECKED)).all()
    rules = [StoredRule._make(row[1:]) for row in rows if row[1] is not None]
    return AppliedRules(rules, has_assignments=any(row[0] for row in rows))


async def accounts_of_instance(session: AsyncSession, instance_id: int) -> list[JudgedAccount]:
    """Of one that was looked up."""
    parameters = {"instance_id": instance_id}
    return _as_judged(await session.execute(_judged_of_instance, parameters, execution_options=SPACES_CHECKED))


async def accounts_after(session: AsyncSession, space_id: int, permission_id: int, limit: int) -> list[JudgedAccount]:
    """The next ones of the space's instances that are not deleted, in order of `permission_id`."""
    statement = (
        _judged.where(
            _instances.c.space_id == space_id, _instances.c.deleted_at.is_(None), _permissions.c.id > permission_id
        )
        .order_by(_permissions.c.id)
        .limit(limit)
    )
    return _as_judged(await session.execute(statement))


def _as_judged(rows: Iterable[Sequence[Any]]) -> list[JudgedAccount]:
    return [
        JudgedAccount(row[0], row[1], DatabaseType(row[2]), row[3], row[4], row[5], _rights(row[6:])) for row in rows
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
    """Of one that was looked up."""
    parameters = {"instance_id": instance_id}
    result = await session.execute(_assigned_of_instance, parameters, execution_options=SPACES_CHECKED)
    return {Assignment._make(row) for row in result}


async def assignments_of(
    session: AsyncSession, classification_id: int, permission_ids: Sequence[int]
) -> set[Assignment]:
    statement = _assigned.where(
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
