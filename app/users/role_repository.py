"""SQL about permissions and the roles that bundle them."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.permissions import ADMIN
from app.database.statements import is_listed
from app.models.base import table_of
from app.models.role import PermissionRow, Role, RoleGrant, RolePermission
from app.pagination import PageRequest, Sort
from app.users.role_records import GrantedRole, PermissionRecord, RolePage, RoleRecord, RoleValues

_roles = table_of(Role)
# The permissions come by a statement of their own.
_columns = [_roles.c[field.name] for field in fields(RoleRecord) if field.name != "permissions"]
_sortable = {name: _roles.c[name] for name in ("id", "name", "created_at")}


async def permissions(session: AsyncSession) -> list[PermissionRecord]:
    statement = select(PermissionRow.name, PermissionRow.description).order_by(PermissionRow.name)
    return [PermissionRecord(*row) for row in await session.execute(statement)]


async def page(session: AsyncSession, sort: str, request: PageRequest) -> RolePage:
    ordering = Sort.parse(sort, _sortable)
    found = await session.execute(ordering.apply(select(*_columns), request))
    rows, next_cursor = ordering.cut(found.all(), request)
    total = await session.scalar(select(func.count(Role.id))) if request.include_total else None
    return RolePage(await _records(session, rows), next_cursor, total)


async def find(session: AsyncSession, role_id: int) -> RoleRecord | None:
    return await _first(session, (await session.execute(select(*_columns).where(Role.id == role_id))).all())


async def lock(session: AsyncSession, role_id: int) -> RoleRecord | None:
    """The role, which nobody else can change, delete or give until the transaction ends."""
    statement = select(*_columns).where(Role.id == role_id).with_for_update()
    return await _first(session, (await session.execute(statement)).all())


async def lock_for_grants(
    session: AsyncSession, ids: Collection[int], names: Collection[str] = ()
) -> list[GrantedRole]:
    """Those that exist, by id or by name. Nobody can change or delete them until the transaction ends."""
    statement = (
        select(Role.id, Role.name, Role.is_builtin)
        .where(or_(is_listed(session, Role.id, sorted(ids)), is_listed(session, Role.name, sorted(names))))
        .order_by(Role.id)
        .with_for_update(read=True, key_share=True)
    )
    found = (await session.execute(statement)).all()
    held = await _permissions_of(session, [role_id for role_id, *_ in found])
    return [
        GrantedRole(role_id, name, frozenset(held[role_id]), is_admin=is_builtin and name == ADMIN)
        for role_id, name, is_builtin in found
    ]


async def create(session: AsyncSession, values: RoleValues) -> RoleRecord:
    row = (await session.execute(insert(Role).values(_own(values)).returning(*_columns))).one()
    await _add_permissions(session, row.id, values.get("permissions", ()))
    return (await _records(session, [row]))[0]


async def change(session: AsyncSession, role: RoleRecord, values: RoleValues) -> RoleRecord:
    """Makes the role what `values` says; what is absent stays."""
    statement = (
        update(Role).where(Role.id == role.id).values(revision=Role.revision + 1, **_own(values)).returning(*_columns)
    )
    row = (await session.execute(statement)).one()
    wanted, held = set(values.get("permissions", role.permissions)), set(role.permissions)
    await _add_permissions(session, role.id, wanted - held)
    await _remove_permissions(session, role.id, held - wanted)
    return (await _records(session, [row]))[0]


async def remove(session: AsyncSession, role_id: int) -> None:
    await session.execute(delete(Role).where(Role.id == role_id))


async def count_holders(session: AsyncSession, role_id: int) -> int:
    """How many users hold the role, wherever."""
    statement = select(func.count(RoleGrant.user_id.distinct())).where(RoleGrant.role_id == role_id)
    return (await session.execute(statement)).scalar_one()


async def _add_permissions(session: AsyncSession, role_id: int, names: Collection[str]) -> None:
    if names:
        rows = [{"role_id": role_id, "permission": name} for name in sorted(names)]
        await session.execute(insert(table_of(RolePermission)), rows)


async def _remove_permissions(session: AsyncSession, role_id: int, names: Collection[str]) -> None:
    statement = delete(RolePermission).where(
        RolePermission.role_id == role_id, RolePermission.permission.in_(sorted(names))
    )
    if names:
        await session.execute(statement)


def _own(values: RoleValues) -> dict[str, Any]:
    """What stands in the role's own row."""
    return {name: value for name, value in values.items() if name != "permissions"}


async def _first(session: AsyncSession, rows: Sequence[Sequence[Any]]) -> RoleRecord | None:
    return next(iter(await _records(session, rows)), None)


async def _records(session: AsyncSession, rows: Sequence[Sequence[Any]]) -> list[RoleRecord]:
    held = await _permissions_of(session, [row[0] for row in rows])
    return [RoleRecord(*(*row, tuple(held[row[0]]))) for row in rows]


async def _permissions_of(session: AsyncSession, role_ids: Sequence[int]) -> dict[int, list[str]]:
    """By role, in order of name; every id asked for is there."""
    found: dict[int, list[str]] = {role_id: [] for role_id in role_ids}
    if role_ids:
        statement = (
            select(RolePermission.role_id, RolePermission.permission)
            .where(is_listed(session, RolePermission.role_id, role_ids))
            .order_by(RolePermission.permission)
        )
        for role_id, permission in await session.execute(statement):
            found[role_id].append(permission)
    return found
