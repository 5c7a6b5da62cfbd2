"""Which space a call speaks of."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import SpaceNotFound
from app.spaces import repository


class SpaceService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def resolve(self, space_id: int | None) -> int:
        """The space that a write goes to: the one named, which must exist, or `default`."""
        if space_id is None:
            found = await repository.find_default_id(self._session)
            if found is None:
                raise SpaceNotFound("there is no space named 'default'; name one with space_id")
            return found
        found = await repository.find_id(self._session, space_id)
        if found is None:
            raise SpaceNotFound(f"there is no space {space_id}")
        return found
