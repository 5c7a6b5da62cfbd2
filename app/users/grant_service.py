"""Who holds which role where: in a space, or everywhere.

Two rules hold whoever asks. Nobody gives or takes a role whose permissions they do not hold there themselves. And
somebody active always holds the role `admin` everywhere.

Locks are taken in one order, so that no two changes wait for each other in a circle: the user, the roles by id, the
spaces by id, the role `admin`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.audit.recorder import AuditEntry, record_many
from app.errors import Conflict, NotFound, ParameterError, SpaceNotFound
from app.pagination import PageRequest
from app.users import grant_repository as repository
from app.users import role_repository
from app.users.grant_limits import require_held
from app.users.grant_records import (
    Assignment,
    GrantRecord,
    Holder,
    MemberPage,
    MemberRecord,
    RoleReference,
)
from app.users.role_records import GrantedRole


class GrantService:
    def __init__(self, session: AsyncSession, identities: Identities) -> None:
        self._session = session
        self._identities = identities

    async def of_user(self, user_id: int) -> list[GrantRecord]:
        """What holds everywhere first, then by space and role. Raises NotFound when there is no such user."""
        _found(await repository.find_holder(self._session, user_id), user_id)
        return await repository.of_user(self._session, user_id)

    async def role_named(self, name: str) -> GrantedRole:
        """The role, which stays until the transaction ends. Raises NotFound."""
        for role in await role_repository.lock_for_grants(self._session, (), (name,)):
            return role
        raise NotFound(f"there is no role named {name!r}")

    async def grant(self, user_id: int, role_id: int, space_id: int | None) -> None:
        """Gives one role beside those that the user has; nothing happens when it is one of them."""
        user = await self._locked(user_id)
        held = await repository.of_user_in(self._session, user_id, space_id)
        await self._change(user, held, {grant.assignment for grant in held} | {Assignment(role_id, space_id)})

    async def replace(self, user_id: int, space_id: int | None, role_ids: Collection[int]) -> None:
        """Makes these the user's roles in the space, or everywhere; what is held elsewhere stays."""
        user = await self._locked(user_id)
        held = await repository.of_user_in(self._session, user_id, space_id)
        await self._change(user, held, {Assignment(role_id, space_id) for role_id in role_ids})

    async def replace_all(self, user_id: int, references: Sequence[RoleReference]) -> list[GrantRecord]:
        """Makes these the user's roles, everywhere and in every space.

        Raises ParameterError for roles that do not exist, SpaceNotFound for a space.
        """
        user = await self._locked(user_id)
        wanted = await self._resolved(references)
        await self._change(user, await repository.of_user(self._session, user_id), wanted)
        return await repository.of_user(self._session, user_id)

    async def members(self, space_id: int, sort: str, request: PageRequest) -> MemberPage:
        """Those who hold a role in this space; `sort` by `id` or `username`."""
        return await repository.members(self._session, space_id, sort, request)

    async def set_member(self, user_id: int, space_id: int, role_ids: Collection[int]) -> MemberRecord:
        """Makes these, of which there is at least one, the user's roles in the space."""
        await self.replace(user_id, space_id, role_ids)
        member = await repository.find_member(self._session, space_id, user_id)
        assert member is not None, "a member has a role"
        return member

    async def remove_member(self, user_id: int, space_id: int) -> None:
        """Takes every role that the user has in the space. Raises NotFound when there is none."""
        user = await self._locked(user_id)
        held = await repository.of_user_in(self._session, user_id, space_id)
        if not held:
            raise NotFound(f"user {user_id} is no member of space {space_id}")
        await self._change(user, held, set())

    async def require_other_admin(self, user_id: int) -> None:
        """Raises Conflict when the user is the only active one who holds `admin` everywhere.

        To be called, with the user's row locked, in the transaction that takes the role or disables or deletes the
        user: whoever else does so waits for its end, and then sees what it left.
        """
        admin_role_id = await repository.lock_admin_role(self._session)
        if await repository.first_admins(self._session, admin_role_id, limit=2) == [user_id]:
            raise Conflict("this is the last active administrator: make somebody else one first")

    async def require_within_caller(self, user_id: int) -> None:
        """Raises Forbidden when the user may do what the caller may not.

        Who could sign in as such a user, by setting a password for instance, would gain what that user may do.
        """
        held = await repository.of_user(self._session, user_id)
        roles = {role.id: role for role in await self._roles(grant.role_id for grant in held)}
        for grant in held:
            require_held(roles[grant.role_id].permissions, grant.space_id, "this user may do more than you")

    async def _locked(self, user_id: int) -> Holder:
        return _found(await repository.lock_holder(self._session, user_id), user_id)

    async def _roles(self, ids: Iterable[int]) -> list[GrantedRole]:
        return await role_repository.lock_for_grants(self._session, set(ids))

    async def _change(self, user: Holder, held: Sequence[GrantRecord], wanted: set[Assignment]) -> None:
        grant_by_assignment = {grant.assignment: grant for grant in held}
        given, taken = wanted - grant_by_assignment.keys(), grant_by_assignment.keys() - wanted
        if not given and not taken:
            return
        roles = await self._within_limits(given | taken)
        await self._require_spaces(given)
        if any(roles[each.role_id].is_admin and each.space_id is None for each in taken):
            await self.require_other_admin(user.id)
        await repository.take(self._session, [grant_by_assignment[each].id for each in taken])
        await repository.give(self._session, user.id, given)
        await self._record("role:revoke", user, taken, roles)
        await self._record("role:grant", user, given, roles)
        await self._identities.changed(self._session)

    async def _within_limits(self, assignments: Collection[Assignment]) -> dict[int, GrantedRole]:
        """The roles by id, if the caller may give and take each of them there."""
        roles = {role.id: role for role in await self._roles(each.role_id for each in assignments)}
        for role_id, space_id in assignments:
            if role_id not in roles:
                raise NotFound(f"there is no role {role_id}")
            role = roles[role_id]
            require_held(role.permissions, space_id, f"the role {role.name!r} cannot be given or taken by you")
        return roles

    async def _require_spaces(self, assignments: Iterable[Assignment]) -> None:
        wanted = {each.space_id for each in assignments if each.space_id is not None}
        missing = wanted - await repository.lock_spaces(self._session, wanted)
        if missing:
            raise SpaceNotFound(f"there is no space {min(missing)}")

    async def _resolved(self, references: Sequence[RoleReference]) -> set[Assignment]:
        ids = {each["role_id"] for each in references if "role_id" in each}
        names = {each["role"] for each in references if "role" in each}
        roles = await role_repository.lock_for_grants(self._session, ids, names)
        id_by_key: dict[int | str, int] = {role.name: role.id for role in roles} | {role.id: role.id for role in roles}
        _require_roles(references, id_by_key)
        return {Assignment(id_by_key[_key(each)], each.get("space_id")) for each in references}

    async def _record(
        self, action: str, user: Holder, assignments: Iterable[Assignment], roles: Mapping[int, GrantedRole]
    ) -> None:
        """An entry for each, so that a space's part of the trail has what was done in the space, and no more."""
        when = "before" if action == "role:revoke" else "after"
        await record_many(
            self._session,
            [
                AuditEntry(
                    action,
                    "user",
                    user.id,
                    user.username,
                    space_id,
                    changes={when: {"role": roles[role_id].name, "space_id": space_id}},
                )
                for role_id, space_id in sorted(assignments, key=_order)
            ],
        )


def _found(user: Holder | None, user_id: int) -> Holder:
    if user is None:
        raise NotFound(f"there is no user {user_id}")
    return user


def _order(assignment: Assignment) -> tuple[int, int]:
    return assignment.space_id or 0, assignment.role_id


def _key(reference: RoleReference) -> int | str:
    return reference["role_id"] if "role_id" in reference else reference["role"]


def _require_roles(references: Sequence[RoleReference], known: Collection[int | str]) -> None:
    errors = [
        {
            "pointer": f"/body/{index}/{'role_id' if 'role_id' in each else 'role'}",
            "code": "unknown_value",
            "message": f"there is no role {_key(each)!r}",
        }
        for index, each in enumerate(references)
        if _key(each) not in known
    ]
    if errors:
        count = len(errors)
        raise ParameterError(f"{count} role{'s' if count > 1 else ''} not known", members={"errors": errors})
