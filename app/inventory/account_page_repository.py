"""SQL that reads accounts and their change log, of an instance that was looked up."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Text, cast, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import dialect_name
from app.inventory.reading_records import (
    AccountFilter,
    AccountRecord,
    ChangeFilter,
    ChangeRecord,
    ClassRecord,
    Found,
    JsonText,
    RightsRecord,
)
from app.models.base import table_of
from app.models.inventory import (
    AccountChangeLog,
    AccountClassification,
    AccountClassificationAssignment,
    AccountPermission,
    InstanceAccount,
)
from app.pagination import PageRequest, Sort

_accounts = table_of(InstanceAccount)
_permissions = table_of(AccountPermission)
_assignments = table_of(AccountClassificationAssignment)
_classifications = table_of(AccountClassification)
_logs = table_of(AccountChangeLog)

_sortable_accounts = {name: _accounts.c[name] for name in ("id", "username", "first_seen_at")}
_sortable_logs = {name: _logs.c[name] for name in ("id", "changed_at")}
_account_columns = AccountRecord._fields[:-2]
_json_columns = frozenset({"attributes", "changes", *RightsRecord._fields[:-1]})
_nothing_by_object = frozenset({"database_privileges", "object_privileges"})


async def accounts(
    session: AsyncSession, instance_id: int, wanted: AccountFilter, sort: str, request: PageRequest
) -> Found[AccountRecord]:
    """Raises ParameterError for a sort that is not offered, InvalidCursor for a cursor that is not ours."""
    ordering = Sort.parse(sort, _sortable_accounts)
    conditions = _account_conditions(instance_id, wanted)
    statement = (
        select(
            *(_selected(session, _accounts.c[name]) for name in _account_columns),
            *(_selected(session, _permissions.c[name]) for name in RightsRecord._fields),
            _permissions.c.id.label("permission_id"),
        )
        .join_from(_accounts, _permissions, _permissions.c.account_id == _accounts.c.id, isouter=True)
        .where(*conditions)
    )
    result = await session.execute(ordering.apply(statement, request), execution_options=SPACES_CHECKED)
    rows, next_cursor = ordering.cut(result.all(), request)
    snapshots = [row.permission_id for row in rows if row.permission_id is not None]
    classes = await _classes(session, instance_id, snapshots)
    items = [_account(row, classes.get(row.permission_id, [])) for row in rows]
    return Found(items, next_cursor, await _total(session, _accounts.c.id, conditions, request))


async def changes(
    session: AsyncSession, instance_id: int, wanted: ChangeFilter, sort: str, request: PageRequest
) -> Found[ChangeRecord]:
    """Raises ParameterError for a sort that is not offered, InvalidCursor for a cursor that is not ours."""
    ordering = Sort.parse(sort, _sortable_logs)
    conditions = _change_conditions(instance_id, wanted)
    statement = select(*(_selected(session, _logs.c[name]) for name in ChangeRecord._fields)).where(*conditions)
    result = await session.execute(ordering.apply(statement, request), execution_options=SPACES_CHECKED)
    rows, next_cursor = ordering.cut(result.all(), request)
    items = [ChangeRecord._make(row)._replace(changes=row.changes or JsonText("{}")) for row in rows]
    return Found(items, next_cursor, await _total(session, _logs.c.id, conditions, request))


def _selected(session: AsyncSession, column: Column[Any]) -> ColumnElement[Any]:
    """The column; of JSON its text."""
    if column.name not in _json_columns:
        return column
    text = cast(column, Text) if dialect_name(session) == "postgresql" else type_coerce(column, Text)
    return text.label(column.name)


def _account_conditions(instance_id: int, wanted: AccountFilter) -> list[ColumnElement[bool]]:
    conditions = [_accounts.c.instance_id == instance_id]
    if wanted.q:
        conditions.append(_accounts.c.username.icontains(wanted.q, autoescape=True))
    if wanted.is_superuser is not None:
        conditions.append(_accounts.c.is_superuser.is_(wanted.is_superuser))
    if wanted.is_present is not None:
        conditions.append(_accounts.c.is_present.is_(wanted.is_present))
    if wanted.classification_id is not None:
        conditions.append(_accounts.c.id.in_(_classified(instance_id, wanted.classification_id)))
    return conditions


def _classified(instance_id: int, classification_id: int) -> Select[int]:
    """The ids of the instance's accounts that are in the class."""
    return (
        select(_permissions.c.account_id)
        .join_from(_assignments, _permissions, _assignments.c.permission_id == _permissions.c.id)
        .where(_assignments.c.instance_id == instance_id, _assignments.c.classification_id == classification_id)
    )


def _change_conditions(instance_id: int, wanted: ChangeFilter) -> list[ColumnElement[bool]]:
    conditions = [_logs.c.instance_id == instance_id]
    if wanted.username is not None:
        conditions.append(_logs.c.username == wanted.username)
    if wanted.change_type is not None:
        conditions.append(_logs.c.change_type == wanted.change_type)
    if wanted.since is not None:
        conditions.append(_logs.c.changed_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(_logs.c.changed_at < wanted.until)
    return conditions


async def _classes(
    session: AsyncSession, instance_id: int, permission_ids: Sequence[int]
) -> dict[int, list[ClassRecord]]:
    """By snapshot of rights, the classes that it is in, those that are looked at first coming first."""
    if not permission_ids:
        return {}
    statement = (
        select(_assignments.c.permission_id, _classifications.c.id, _classifications.c.name)
        .join_from(_assignments, _classifications, _assignments.c.classification_id == _classifications.c.id)
        .where(_assignments.c.instance_id == instance_id, _assignments.c.permission_id.in_(permission_ids))
        .order_by(_classifications.c.priority, _classifications.c.id)
    )
    found: dict[int, list[ClassRecord]] = {}
    for permission_id, *of_class in await session.execute(statement, execution_options=SPACES_CHECKED):
        found.setdefault(permission_id, []).append(ClassRecord._make(of_class))
    return found


def _account(row: Any, classes: Sequence[ClassRecord]) -> AccountRecord:
    values: Sequence[Any] = row[: len(_account_columns)]
    rights = None if row.permission_id is None else _rights(row)
    account = AccountRecord._make((*values, rights, classes))
    return account._replace(attributes=account.attributes or JsonText("{}"))


def _rights(row: Any) -> RightsRecord:
    texts = (getattr(row, name) or ("{}" if name in _nothing_by_object else "[]") for name in RightsRecord._fields[:-1])
    return RightsRecord._make((*texts, row.captured_at))


async def _total(
    session: AsyncSession, key: ColumnElement[int], conditions: Sequence[ColumnElement[bool]], request: PageRequest
) -> int | None:
    if not request.include_total:
        return None
    statement = select(func.count(key)).where(*conditions)
    return (await session.execute(statement, execution_options=SPACES_CHECKED)).scalar_one()
