"""Members of a space: grants of roles, seen from the space."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.pagination import PageRequest
from app.spaces.service import SpaceService
from app.users.grant_records import MemberPage, MemberRecord
from app.users.grant_service import GrantService


class SpaceMembers:
    """Everything raises SpaceNotFound for a space that does not exist for the caller."""

    def __init__(self, session: AsyncSession, identities: Identities) -> None:
        self._spaces = SpaceService(session)
        self._grants = GrantService(session, identities)

    async def page(self, space_id: int, sort: str, request: PageRequest) -> MemberPage:
        await self._spaces.resolve(space_id)
        return await self._grants.members(space_id, sort, request)

    async def put(self, space_id: int, user_id: int, roles: Sequence[int | str]) -> MemberRecord:
        """Makes these, by id or name, the user's roles in the space.

        Raises NotFound for a user or a role that does not exist, Forbidden when the caller may not give them.
        """
        await self._spaces.resolve(space_id)
        named = [(await self._grants.role_named(each)).id for each in sorted({r for r in roles if isinstance(r, str)})]
        role_ids = {each for each in roles if isinstance(each, int)} | set(named)
        return await self._grants.set_member(user_id, space_id, role_ids)

    async def remove(self, space_id: int, user_id: int) -> None:
        """Takes every role that the user has in the space. Raises NotFound when there is none."""
        await self._spaces.resolve(space_id)
        await self._grants.remove_member(user_id, space_id)
