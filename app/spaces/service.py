"""Spaces: which one a call speaks of, whether it takes anything more, and their own reading and changing.

Who adds or changes something in a space holds it open until the end of the transaction (`hold_open`, `hold_room`); who
archives it waits for those, so that nothing is written into a space after it was archived. Hold a space before locking
anything else of it: whoever counts for a quota lets others wait.
"""

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.caller import current_call
from app.errors import Conflict, ParameterError, SpaceNotFound
from app.models.base import utc_now
from app.models.space import DEFAULT_SPACE_NAME
from app.pagination import PageRequest
from app.preconditions import require_match
from app.spaces import repository
from app.spaces.records import SpaceCounts, SpaceFilter, SpaceLimits, SpacePage, SpaceRecord, SpaceValues
from app.taken_names import refusing_taken_name

SpaceT = TypeVar("SpaceT", SpaceRecord, SpaceLimits)


class SpaceArchived(Conflict):
    pass


class SpaceService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def resolve(self, space_id: int | None) -> int:
        """The space that is meant: the one named; or `default` for who may reach every space, and the only one for who
        may reach one.

        Raises SpaceNotFound for a space that does not exist for the caller, ParameterError when one must be named.
        """
        if space_id is None:
            space_id = _only_space()
            return (await self._default()).id if space_id is None else space_id
        if await repository.find_id(self._session, space_id) is None:
            raise _not_found(space_id)
        return space_id

    async def resolve_open(self, space_id: int | None) -> SpaceLimits:
        """The same for who wants to add something. Raises SpaceArchived too."""
        if space_id is None:
            space_id = _only_space()
        if space_id is None:
            return _open(await self._default())
        return _open(_found(await repository.find_limits(self._session, space_id), space_id))

    async def hold_open(self, space_id: int) -> None:
        """The space is not archived, and stays so until the transaction ends. Raises SpaceNotFound, SpaceArchived."""
        _open(_found(await repository.hold(self._session, space_id), space_id))

    async def hold_room(self, space: SpaceLimits) -> int | None:
        """The same, and how many more instances the space takes; None is no limit.

        Where there is one, everybody else who asks waits until the transaction ends.
        """
        if space.quota_instances is None:
            await self.hold_open(space.id)
            return None
        held = _open(_found(await repository.hold_alone(self._session, space.id), space.id))
        return await self.room(held)

    async def room(self, space: SpaceLimits) -> int | None:
        """How many more instances the space takes at this moment."""
        if space.quota_instances is None:
            return None
        return max(0, space.quota_instances - await repository.count_instances(self._session, space.id))

    async def page(self, wanted: SpaceFilter, sort: str, request: PageRequest) -> SpacePage:
        """Of the spaces that the caller may reach."""
        return await repository.page(self._session, wanted, sort, request)

    async def get(self, space_id: int) -> SpaceRecord:
        return _found(await repository.find(self._session, space_id), space_id)

    async def counts(self, space_id: int) -> SpaceCounts:
        return await repository.counts(self._session, space_id)

    async def create(self, values: SpaceValues) -> SpaceRecord:
        """Raises Conflict when there is a space of that name."""
        with refusing_taken_name("there is a space", values.get("name")):
            space = await repository.create(self._session, values)
        await self._record("space:create", space, {"after": _as_json(dict(values))})
        return space

    async def update(self, space_id: int, values: SpaceValues, if_match: str | None) -> SpaceRecord:
        """Sets what `values` names. Where nothing differs, nothing is written and the revision stays.

        A moment in `archived_at` archives the space now; it waits for those who are adding something.
        """
        space = await self._locked(space_id, if_match)
        wanted = _with_own_moment(space, values)
        before = {name: getattr(space, name) for name, value in wanted.items() if getattr(space, name) != value}
        if not before:
            return space
        if "name" in before and space.name == DEFAULT_SPACE_NAME:
            raise Conflict(f"the space {DEFAULT_SPACE_NAME!r} keeps its name: it is meant where none is named")
        with refusing_taken_name("there is a space", wanted.get("name")):
            changed = await repository.change(self._session, space_id, wanted)
        after = {name: getattr(changed, name) for name in before}
        await self._record(_action(before, after), changed, {"before": _as_json(before), "after": _as_json(after)})
        return changed

    async def archive(self, space_id: int, if_match: str | None) -> SpaceRecord:
        """Nothing is added or changed in it from now on; nothing happens when it is archived already."""
        return await self.update(space_id, {"archived_at": utc_now()}, if_match)

    async def unarchive(self, space_id: int, if_match: str | None) -> SpaceRecord:
        return await self.update(space_id, {"archived_at": None}, if_match)

    async def _default(self) -> SpaceLimits:
        found = await repository.find_default_limits(self._session)
        if found is None:
            raise SpaceNotFound(f"there is no space named {DEFAULT_SPACE_NAME!r}; name one with space_id")
        return found

    async def _locked(self, space_id: int, if_match: str | None) -> SpaceRecord:
        space = _found(await repository.lock(self._session, space_id), space_id)
        require_match(if_match, space.revision)
        return space

    async def _record(self, action: str, space: SpaceRecord, changes: dict[str, Any]) -> None:
        await record(self._session, AuditEntry(action, "space", space.id, space.name, space.id, changes=changes))


def _only_space() -> int | None:
    """The one that the caller may reach; None for who may reach every one. Raises ParameterError for several."""
    spaces = current_call().spaces
    if spaces is None:
        return None
    if len(spaces) != 1:
        message = f"name one of your {len(spaces)} spaces with space_id"
        error = {"pointer": "/body/space_id", "code": "required", "message": message}
        raise ParameterError(message, members={"errors": [error]})
    return next(iter(spaces))


def _not_found(space_id: int) -> SpaceNotFound:
    return SpaceNotFound(f"there is no space {space_id}")


def _found(space: SpaceT | None, space_id: int) -> SpaceT:
    if space is None:
        raise _not_found(space_id)
    return space


def _open(space: SpaceLimits) -> SpaceLimits:
    if space.archived_at is not None:
        raise SpaceArchived(f"space {space.id} is archived: nothing is added or changed in it until it is unarchived")
    return space


def _with_own_moment(space: SpaceRecord, values: SpaceValues) -> SpaceValues:
    """The values, with the moment from which the space is archived: what it was, or now."""
    if values.get("archived_at") is None:
        return values
    return {**values, "archived_at": space.archived_at or utc_now()}


def _action(before: dict[str, Any], after: dict[str, Any]) -> str:
    if before.keys() != {"archived_at"}:
        return "space:update"
    return "space:unarchive" if after["archived_at"] is None else "space:archive"


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
