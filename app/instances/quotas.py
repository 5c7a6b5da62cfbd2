"""How many instances a space takes: what the import, the registration of one and the restoring of one go by."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict
from app.spaces.records import SpaceLimits
from app.spaces.service import SpaceService

QUOTA_EXCEEDED = "quota_exceeded"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What an import may write: `rows` of one file, `instances` in all; None is no limit. `room` is how many more
    instances the space took when the import began."""

    rows: int | None = None
    instances: int | None = None
    room: int | None = None


async def hold_place(session: AsyncSession, space: SpaceLimits) -> int:
    """The space's id, once there is a place in it for one more instance, which nobody takes before this transaction
    ends. Raises Conflict when there is none, or when the space was archived meanwhile."""
    require_place(space, await SpaceService(session).hold_room(space))
    return space.id


def require_place(space: SpaceLimits, room: int | None) -> None:
    """Raises Conflict when there is no room."""
    if room == 0:
        message = full(space.quota_instances)
        error = {"pointer": "/body/space_id", "code": QUOTA_EXCEEDED, "message": message}
        raise Conflict(message, members={"errors": [error]})


def full(quota: int | None) -> str:
    return f"the space takes no more than {quota} instance{'' if quota == 1 else 's'}"
