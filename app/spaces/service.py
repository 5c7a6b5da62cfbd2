"""Which space a call speaks of."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.caller import current_call
from app.errors import ParameterError, SpaceNotFound
from app.models.space import DEFAULT_SPACE_NAME
from app.spaces import repository


class SpaceService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def resolve(self, space_id: int | None) -> int:
        """The space that is meant: the one named; or `default` for who may reach every space, and the only one for who
        may reach one.

        Raises SpaceNotFound for a space that does not exist for the caller, ParameterError when one must be named.
        """
        if space_id is not None:
            found = await repository.find_id(self._session, space_id)
            if found is None:
                raise SpaceNotFound(f"there is no space {space_id}")
            return found
        spaces = current_call().spaces
        if spaces is None:
            found = await repository.find_default_id(self._session)
            if found is None:
                raise SpaceNotFound(f"there is no space named {DEFAULT_SPACE_NAME!r}; name one with space_id")
            return found
        if len(spaces) != 1:
            message = f"name one of your {len(spaces)} spaces with space_id"
            error = {"pointer": "/body/space_id", "code": "required", "message": message}
            raise ParameterError(message, members={"errors": [error]})
        return next(iter(spaces))
