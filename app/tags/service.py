"""Tags: words that instances of a space are grouped and found by."""

from collections.abc import Collection
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record, record_many
from app.errors import Conflict, NotFound
from app.pagination import PageRequest
from app.preconditions import require_match
from app.spaces.service import SpaceService
from app.tags import repository
from app.tags.records import Carrier, TagFilter, TagPage, TagRecord, TagValues
from app.taken_names import refusing_taken_name
from app.turns import in_turns

# A forced deletion takes the tag off this many instances at a time, so that its memory stays bounded.
UNLINK_INSTANCES = 5_000


class TagService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, tag_filter: TagFilter, sort: str, request: PageRequest) -> TagPage:
        """Raises SpaceNotFound when the filter names a space that does not exist."""
        if tag_filter.space_id is not None:
            await SpaceService(self._session).resolve(tag_filter.space_id)
        return await repository.page(self._session, tag_filter, sort, request)

    async def get(self, tag_id: int) -> TagRecord:
        return _found(await repository.find(self._session, tag_id), tag_id)

    async def create(self, space_id: int | None, values: TagValues) -> TagRecord:
        """Raises Conflict when the space has a tag of that name, or is archived."""
        spaces = SpaceService(self._session)
        space_id = await spaces.resolve(space_id)
        await spaces.hold_open(space_id)
        with refusing_taken_name("the space has a tag", values.get("name")):
            tag = await repository.create(self._session, space_id, values)
        await self._record("tag:create", tag, {"after": dict(values)})
        return tag

    async def update(self, tag_id: int, values: TagValues, if_match: str | None) -> TagRecord:
        """Sets what `values` names. Where nothing differs, nothing is written and the revision stays."""
        tag = await self._locked(tag_id, if_match)
        await SpaceService(self._session).hold_open(tag.space_id)
        before = {name: getattr(tag, name) for name, value in values.items() if getattr(tag, name) != value}
        if not before:
            return tag
        with refusing_taken_name("the space has a tag", values.get("name")):
            changed = await repository.change(self._session, tag_id, values)
        after = {name: getattr(changed, name) for name in before}
        await self._record("tag:update", changed, {"before": before, "after": after})
        return changed

    async def delete(self, tag_id: int, if_match: str | None, *, force: bool) -> None:
        """Raises Conflict when instances carry the tag, unless forced: then it is taken off them first."""
        if force:
            # Before the tag itself, in the order of every writer of instances, which links tags after locking them.
            await repository.lock_carriers(self._session, tag_id)
        tag = await self._locked(tag_id, if_match)
        if force:
            await self._unlink(tag)
        elif count := await repository.count_carriers(self._session, tag_id):
            raise Conflict(
                f"tag {tag.name!r} is carried by {count} instance{'s' if count > 1 else ''} "
                "(deleted ones included); force=true takes it off them"
            )
        await repository.remove(self._session, tag_id)
        before = {"name": tag.name, "color": tag.color, "description": tag.description}
        await self._record("tag:delete", tag, {"before": before})

    async def ensure(self, space_id: int, names: Collection[str]) -> dict[str, int]:
        """The id of every name, which must be valid ones; those that do not exist yet are made, once each.

        A writer that makes the same names at the same time is waited for. The tags stay until the transaction ends,
        so links to them cannot fail. Lock instances before, as a forced deletion does, and call it once for all names:
        transactions that lock in different orders can wait for each other in a circle, which the database ends by
        failing one of them.
        """
        id_by_name, _ = await self.ensure_counting(space_id, names)
        return id_by_name

    async def ensure_counting(self, space_id: int, names: Collection[str]) -> tuple[dict[str, int], int]:
        """The same as `ensure`, and how many of the tags were made."""
        wanted = sorted(set(names))
        found = await repository.lock_ids(self._session, space_id, wanted)
        count = 0
        # Another writer's tag can be removed again between the two statements; then it is made here after all.
        while missing := [name for name in wanted if name not in found]:
            made = await repository.create_missing(self._session, space_id, missing)
            await self._record_made(space_id, made)
            count += len(made)
            taken = [name for name in missing if name not in made]
            found |= made | await repository.lock_ids(self._session, space_id, taken)
        return found, count

    async def _locked(self, tag_id: int, if_match: str | None) -> TagRecord:
        tag = _found(await repository.lock(self._session, tag_id), tag_id)
        require_match(if_match, tag.revision)
        return tag

    async def _unlink(self, tag: TagRecord) -> None:
        batch_id = uuid4()
        while carriers := await repository.unlink(self._session, tag.id, UNLINK_INSTANCES):
            await record_many(self._session, [_untagged(tag, carrier, batch_id) for carrier in carriers])

    async def _record(self, action: str, tag: TagRecord, changes: dict[str, Any]) -> None:
        await record(self._session, AuditEntry(action, "tag", tag.id, tag.name, tag.space_id, changes=changes))

    async def _record_made(self, space_id: int, id_by_name: dict[str, int]) -> None:
        await record_many(
            self._session,
            [
                AuditEntry("tag:create", "tag", tag_id, name, space_id, changes={"after": {"name": name}})
                async for name, tag_id in in_turns(id_by_name.items())
            ],
        )


def _found(tag: TagRecord | None, tag_id: int) -> TagRecord:
    if tag is None:
        raise NotFound(f"there is no tag {tag_id}")
    return tag


def _untagged(tag: TagRecord, carrier: Carrier, batch_id: UUID) -> AuditEntry:
    return AuditEntry(
        action="instance:update",
        resource_type="instance",
        resource_id=carrier.id,
        resource_name=carrier.name,
        space_id=tag.space_id,
        batch_id=batch_id,
        changes={"tags": {"removed": [tag.name]}},
    )
