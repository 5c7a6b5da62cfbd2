"""SQL about who holds which role where."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.permissions import ADMIN
from app.database.statements import is_listed
from app.models.base import table_of
from app.models.role import Role, RoleGrant, RolePermission
from app.models.space import Space
from app.models.user import User
from app.pagination import PageRequest, Sort
from app.users.grant_records import (
    Assignment,
    GrantRecord,
    Holder,
    MemberPage,
    MemberRecord,
    MemberRole,
)

_users = table_of(User)
_member_columns = (_users.c.id, _users.c.username, _users.c.display_name, _users.c.is_active)
_sortable = {"id": _users.c.id, "username": _users.c.username}


async def find_holder(session: AsyncSession, user_id: int) -> Holder | None:
    row = (await session.execute(select(User.id, User.username).where(User.id == user_id))).one_or_none()
    return None if row is None else Holder(*row)


async def lock_holder(session: AsyncSession, user_id: int) -> Holder | None:
    """The user, whose grants nobody else changes until the transaction ends; other children can still be added."""
    statement = select(User.id, User.username).where(User.id == user_id).with_for_update(key_share=True)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else Holder(*row)


async def lock_spaces(session: AsyncSession, ids: Collection[int]) -> set[int]:
    """Those that exist for the caller. They cannot be deleted until the transaction ends."""
    statement = (
        select(Space.id)
        .where(is_listed(session, Space.id, sorted(ids)))
        .order_by(Space.id)
        .with_for_update(read=True, key_share=True)
    )
    return set(await session.scalars(statement)) if ids else set()


async def of_user(session: AsyncSession, user_id: int) -> list[GrantRecord]:
    """In order of space, what holds everywhere first, and of the role's name."""
    return await _grants(session, RoleGrant.user_id == user_id)


async def of_user_in(session: AsyncSession, user_id: int, space_id: int | None) -> list[GrantRecord]:
    return await _grants(session, RoleGrant.user_id == user_id, RoleGrant.space_id.is_not_distinct_from(space_id))


async def _grants(session: AsyncSession, *conditions: ColumnElement[bool]) -> list[GrantRecord]:
    statement = (
        select(RoleGrant.id, RoleGrant.role_id, Role.name, RoleGrant.space_id)
        .join(Role, Role.id == RoleGrant.role_id)
        .where(*conditions)
        .order_by(func.coalesce(RoleGrant.space_id, 0), Role.name)
    )
    return [GrantRecord(*row) for row in await session.execute(statement)]


async def give(session: AsyncSession, user_id: int, assignments: Iterable[Assignment]) -> None:
    rows = [{"user_id": user_id, **each._asdict()} for each in assignments]
    if rows:
        await session.execute(insert(table_of(RoleGrant)), rows)


async def take(session: AsyncSession, grant_ids: Sequence[int]) -> None:
    if grant_ids:
        await session.execute(delete(RoleGrant).where(is_listed(session, RoleGrant.id, grant_ids)))


async def lock_admin_role(session: AsyncSession) -> int:
    """The id of the role that may do everything. Who checks that somebody keeps it waits for others who check.

    The lock leaves others free to give the role (which takes a weaker one).
    """
    statement = select(Role.id).where(Role.name == ADMIN, Role.is_builtin).with_for_update(key_share=True)
    return (await session.execute(statement)).scalar_one()


async def first_admins(session: AsyncSession, admin_role_id: int, limit: int) -> list[int]:
    """Ids of active users who may do everything everywhere, at most as many as asked for."""
    statement = (
        select(User.id)
        .join(RoleGrant, RoleGrant.user_id == User.id)
        .where(RoleGrant.role_id == admin_role_id, RoleGrant.space_id.is_(None), User.is_active)
        .order_by(User.id)
        .limit(limit)
    )
    return list(await session.scalars(statement))


async def held_permissions(session: AsyncSession, user_id: int) -> set[str]:
    """What the user may do somewhere."""
    statement = (
        select(RolePermission.permission)
        .join(RoleGrant, RoleGrant.role_id == RolePermission.role_id)
        .where(RoleGrant.user_id == user_id)
        .distinct()
    )
    return set(await session.scalars(statement))


async def members(session: AsyncSession, space_id: int, sort: str, request: PageRequest) -> MemberPage:
    ordering = Sort.parse(sort, _sortable)
    is_member = exists().where(RoleGrant.user_id == User.id, RoleGrant.space_id == space_id)
    rows = await session.execute(ordering.apply(select(*_member_columns).where(is_member), request))
    found, next_cursor = ordering.cut(rows.all(), request)
    roles = await _roles_in(session, space_id, [row.id for row in found])
    total = await session.scalar(select(func.count(User.id)).where(is_member)) if request.include_total else None
    return MemberPage([_member(row, roles) for row in found], next_cursor, total)


async def find_member(session: AsyncSession, space_id: int, user_id: int) -> MemberRecord | None:
    row = (await session.execute(select(*_member_columns).where(User.id == user_id))).one_or_none()
    roles = await _roles_in(session, space_id, [user_id])
    return _member(row, roles) if row is not None and roles[user_id] else None


def _member(row: Sequence[Any], roles: dict[int, list[MemberRole]]) -> MemberRecord:
    user_id, username, display_name, is_active = row
    return MemberRecord(user_id, username, display_name, is_active, tuple(roles[user_id]))


async def _roles_in(session: AsyncSession, space_id: int, user_ids: Sequence[int]) -> dict[int, list[MemberRole]]:
    found: dict[int, list[MemberRole]] = defaultdict(list)
    if user_ids:
        statement = (
            select(RoleGrant.user_id, Role.id, Role.name)
            .join(Role, Role.id == RoleGrant.role_id)
            .where(RoleGrant.space_id == space_id, is_listed(session, RoleGrant.user_id, user_ids))
            .order_by(Role.name)
        )
        for user_id, role_id, name in await session.execute(statement):
            found[user_id].append(MemberRole(role_id, name))
    return found
