"""Roles: bundles of permissions that users are given. The built-in ones stay as they are; own ones can be made.

Nobody gains by editing: who makes or changes a role must hold, everywhere, each permission that it has and gets.
"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.audit.recorder import AuditEntry, record
from app.errors import Conflict, NotFound
from app.pagination import PageRequest
from app.preconditions import require_match
from app.taken_names import refusing_taken_name
from app.users import role_repository as repository
from app.users.grant_limits import require_held
from app.users.role_records import PermissionRecord, RolePage, RoleRecord, RoleValues


class RoleService:
    """Only changes need the identities, which they drop."""

    def __init__(self, session: AsyncSession, identities: Identities | None = None) -> None:
        self._session = session
        self._identities = identities

    async def permissions(self) -> list[PermissionRecord]:
        """All that there are, in order of name."""
        return await repository.permissions(self._session)

    async def page(self, sort: str, request: PageRequest) -> RolePage:
        return await repository.page(self._session, sort, request)

    async def get(self, role_id: int) -> RoleRecord:
        return _found(await repository.find(self._session, role_id), role_id)

    async def create(self, values: RoleValues) -> RoleRecord:
        """Raises Conflict when there is a role of that name, Forbidden when the caller lacks what it would allow."""
        require_held(values.get("permissions", ()), None, "this role cannot be made by you")
        with refusing_taken_name("there is a role", values.get("name")):
            role = await repository.create(self._session, values)
        await self._record("role:create", role, {"after": dict(values)})
        return role

    async def update(self, role_id: int, values: RoleValues, if_match: str | None) -> RoleRecord:
        """Sets what `values` names. Where nothing differs, nothing is written and the revision stays."""
        role = await self._locked(role_id, if_match)
        touched = {*role.permissions, *values.get("permissions", ())}
        require_held(touched, None, f"the role {role.name!r} cannot be changed by you")
        before = {name: getattr(role, name) for name, value in values.items() if getattr(role, name) != value}
        if not before:
            return role
        with refusing_taken_name("there is a role", values.get("name")):
            changed = await repository.change(self._session, role, values)
        after = {name: getattr(changed, name) for name in before}
        await self._record("role:update", changed, {"before": before, "after": after})
        await self._drop_identities()
        return changed

    async def delete(self, role_id: int, if_match: str | None) -> None:
        """Raises Conflict when somebody holds it."""
        role = await self._locked(role_id, if_match)
        if count := await repository.count_holders(self._session, role_id):
            raise Conflict(f"role {role.name!r} is held by {count} user{'s' if count > 1 else ''}; take it from them")
        await repository.remove(self._session, role_id)
        await self._record("role:delete", role, {"before": {"permissions": role.permissions}})
        await self._drop_identities()

    async def _locked(self, role_id: int, if_match: str | None) -> RoleRecord:
        role = _found(await repository.lock(self._session, role_id), role_id)
        if role.is_builtin:
            raise Conflict(f"role {role.name!r} is built in and stays as it is; make one of your own")
        require_match(if_match, role.revision)
        return role

    async def _record(self, action: str, role: RoleRecord, changes: dict[str, Any]) -> None:
        await record(self._session, AuditEntry(action, "role", role.id, role.name, None, changes=changes))

    async def _drop_identities(self) -> None:
        assert self._identities is not None
        await self._identities.changed(self._session)


def _found(role: RoleRecord | None, role_id: int) -> RoleRecord:
    if role is None:
        raise NotFound(f"there is no role {role_id}")
    return role
