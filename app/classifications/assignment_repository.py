"""SQL about accounts as rules judge them, and about what rules have assigned."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Result,
    String,
    bindparam,
    delete,
    exists,
    select,
    true,
    update,
)
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
from app.turns import in_turns

# Rows that are made into accounts before others have their turn.
PART_ROWS: Final = 1_000

_accounts = table_of(InstanceAccount)
_permissions = table_of(AccountPermission)
_assignments = table_of(AccountClassificationAssignment)
_instances = table_of(Instance)
_classes = table_of(AccountClassification)
_instance_id = bindparam("instance_id", type_=BigInteger())

# The space is looked up inside, so that no other space's rules are locked; and they are in order.
_stored = (
    select(_classes.c.id, _classes.c.revision, _classes.c.rule_version, _classes.c.is_enabled, _classes.c.rule)
    .where(
        _classes.c.space_id == select(_instances.c.space_id).where(_instances.c.id == _instance_id).scalar_subquery()
    )
    .order_by(_classes.c.id)
    .with_for_update(read=True)
    .subquery("stored")
)
# A row without a rule where there is none.
_rules_of_instance = (
    select(
        _instances.c.db_type,
        _instances.c.classes_digest,
        exists().where(_assignments.c.instance_id == _instance_id),
        *_stored.c,
    )
    .select_from(_instances.outerjoin(_stored, true()))
    .where(_instances.c.id == _instance_id)
    .order_by(_stored.c.id)
)
_judged = (
    select(
        _permissions.c.id,
        _accounts.c.instance_id,
        _instances.c.db_type,
        _accounts.c.username,
        _accounts.c.is_superuser,
        _permissions.c.digest,
    )
    .join_from(_permissions, _accounts, _accounts.c.id == _permissions.c.account_id)
    .join(_instances, _instances.c.id == _accounts.c.instance_id)
    .where(_accounts.c.is_present)
    .order_by(_permissions.c.id)
)
# Of both: each is then found by its own index.
_judged_of_instance = _judged.where(_accounts.c.instance_id == _instance_id, _permissions.c.instance_id == _instance_id)
_assigned = select(_assignments.c.permission_id, _assignments.c.classification_id, _assignments.c.rule_version)
_assigned_of_instance = _assigned.where(
    _assignments.c.instance_id == _instance_id,
    _assignments.c.permission_id > bindparam("after", type_=BigInteger()),
    _assignments.c.permission_id <= bindparam("until", type_=BigInteger()),
)
_noted = (
    update(_instances)
    .where(_instances.c.id == _instance_id)
    .values(
        classes_digest=bindparam("seen_digest", type_=String()),
        # Nobody changed the instance: who changed it last, and when, stays.
        updated_at=_instances.c.updated_at,
        updated_by=_instances.c.updated_by,
    )
)

# By class and version of its rule, the snapshots of rights that it matched.
Assignments = Mapping[tuple[int, int], Set[int]]


class RulesOfInstance(NamedTuple):
    """What there is to judge an instance's accounts by: every rule of its space in order of id, disabled ones too.

    `classes_digest` is what was noted when they were judged last. `has_assignments`: whether any rule, of these or of
    others, matched before.
    """

    db_type: DatabaseType
    classes_digest: str | None
    has_assignments: bool
    rules: Sequence[StoredRule]


async def rules_of_instance(session: AsyncSession, instance_id: int) -> RulesOfInstance:
    """Of one that was looked up. Nobody changes these rules or applies them otherwise until the transaction ends."""
    parameters = {"instance_id": instance_id}
    rows = (await session.execute(_rules_of_instance, parameters, execution_options=SPACES_CHECKED)).all()
    rules = [StoredRule._make(row[3:]) for row in rows if row[3] is not None]
    db_type, classes_digest, has_assignments = rows[0][:3]
    return RulesOfInstance(db_type, classes_digest, has_assignments, rules)


async def accounts_of_instance(session: AsyncSession, instance_id: int) -> list[JudgedAccount]:
    """Of one that was looked up, in order of `permission_id`."""
    parameters = {"instance_id": instance_id}
    return await _as_judged(await session.execute(_judged_of_instance, parameters, execution_options=SPACES_CHECKED))


async def accounts_after(
    session: AsyncSession, space_id: int, permission_id: int, limit: int, *, are_held: bool = False
) -> list[JudgedAccount]:
    """The next ones of the space's instances that are not deleted, in order of `permission_id`. Held, their instances,
    and so the accounts, stay until the transaction ends."""
    statement = _judged.where(
        _instances.c.space_id == space_id, _instances.c.deleted_at.is_(None), _permissions.c.id > permission_id
    ).limit(limit)
    if are_held:
        statement = statement.with_for_update(read=True, key_share=True, of=_instances)
    return await _as_judged(await session.execute(statement))


async def _as_judged(result: Result[Any]) -> list[JudgedAccount]:
    found: list[JudgedAccount] = []
    for part in result.partitions(PART_ROWS):
        found.extend(map(JudgedAccount._make, part))
        await asyncio.sleep(0)
    return found


async def rights_of(
    session: AsyncSession, permission_ids: Sequence[int], names: Sequence[str]
) -> AsyncIterator[tuple[int, AccountRights]]:
    """By `permission_id`, those of the rights that are named."""
    statement = select(_permissions.c.id, *(_permissions.c[name] for name in names)).where(
        is_listed(session, _permissions.c.id, permission_ids)
    )
    async for row in in_turns(await session.execute(statement, execution_options=SPACES_CHECKED)):
        held = zip(names, row[1:], strict=True)
        yield row[0], AccountRights(**{name: value for name, value in held if value is not None})


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


async def assignments_of_instance(session: AsyncSession, instance_id: int, after: int, until: int) -> Assignments:
    """Of one that was looked up, those whose `permission_id` is between the two, the second included."""
    parameters = {"instance_id": instance_id, "after": after, "until": until}
    return await _grouped(await session.execute(_assigned_of_instance, parameters, execution_options=SPACES_CHECKED))


async def assignments_of(session: AsyncSession, classification_id: int, permission_ids: Sequence[int]) -> Assignments:
    statement = _assigned.where(
        _assignments.c.classification_id == classification_id,
        is_listed(session, _assignments.c.permission_id, permission_ids),
    )
    return await _grouped(await session.execute(statement))


async def _grouped(result: Result[int, int, int]) -> Assignments:
    found: dict[tuple[int, int], set[int]] = {}
    async for row in in_turns(result):
        found.setdefault((row[1], row[2]), set()).add(row[0])
    return found


async def take(session: AsyncSession, taken: Assignments) -> None:
    for (classification_id, _), permission_ids in taken.items():
        statement = delete(_assignments).where(
            _assignments.c.classification_id == classification_id,
            is_listed(session, _assignments.c.permission_id, list(permission_ids)),
        )
        await session.execute(statement)


async def give(session: AsyncSession, given: Assignments, instance_ids: Mapping[int, int], moment: datetime) -> None:
    """`instance_ids` by `permission_id`. Nobody may have removed the accounts meanwhile."""
    # In the order of the primary key.
    rows = sorted(
        (instance_ids[permission_id], permission_id, *version)
        for version, permission_ids in given.items()
        for permission_id in permission_ids
    )
    columns = ("instance_id", "permission_id", "classification_id", "rule_version")
    await insert_rows(session, _assignments, columns, rows, {"assigned_at": stored_timestamp(session, moment)})


async def note_classes_digest(session: AsyncSession, instance_id: int, digest: str | None) -> None:
    """Of an instance that the caller holds. None: they are to be judged whatever they are."""
    parameters = {"instance_id": instance_id, "seen_digest": digest}
    await session.execute(_noted, parameters, execution_options=SPACES_CHECKED)


async def remove_all_of_instance(session: AsyncSession, instance_id: int) -> None:
    await session.execute(delete(_assignments).where(_assignments.c.instance_id == instance_id))
