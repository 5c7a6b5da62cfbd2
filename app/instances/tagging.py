"""Tags many instances in one transaction.

Steps, in order: lock the instances in order of id; make the tags that are missing; then, a thousand instances at a
time, link and unlink by set, refuse when one would carry too many tags, raise the revisions of those that changed, and
record it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record, record_many
from app.errors import ParameterError
from app.fields import shown
from app.instances import tagging_repository as repository
from app.instances.fields import MAX_TAGS
from app.instances.records import Link, LockedInstance
from app.spaces.service import SpaceService
from app.tags.service import TagService

ItemT = TypeVar("ItemT")

# Bounds what is held in memory, and for how long the event loop is.
CHUNK_INSTANCES = 1_000


@dataclass(frozen=True, slots=True)
class TaggingReport:
    """`missing` are ids of no instance, or of a deleted one, in ascending order."""

    updated: int
    unchanged: int
    missing: list[int]
    tags_created: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """Tags to give and to take, by id, in all spaces concerned."""

    batch_id: UUID
    space_ids: Sequence[int]
    added: Mapping[int, str]
    removed: Mapping[int, str]
    tags_created: int


class InstanceTagging:
    def __init__(self, session: AsyncSession, max_ids: int) -> None:
        self._session = session
        self._max_ids = max_ids

    async def apply(self, instance_ids: Sequence[int], add: Sequence[str], remove: Sequence[str]) -> TaggingReport:
        """Gives every instance the tags of `add` and takes off those of `remove`; missing instances stop nothing.

        Raises ParameterError, and writes nothing, when there are too many ids or nothing to do, when a name is in both
        lists, or when an instance would carry too many tags; SpaceArchived when one is in an archived space.
        """
        wanted = sorted(set(instance_ids))
        self._refuse_too_many(wanted)
        _refuse_contradiction(add, remove)
        instances = await self._locked(wanted)
        plan = await self._plan({instance.space_id for instance in instances}, add, remove)
        updated = sum([await self._tag(plan, chunk) for chunk in _chunks(instances)])
        missing = sorted(set(wanted) - {instance.id for instance in instances})
        report = TaggingReport(updated, len(instances) - updated, missing, plan.tags_created)
        await record(self._session, _batch_entry(plan, report))
        return report

    def _refuse_too_many(self, ids: Sequence[int]) -> None:
        if len(ids) > self._max_ids:
            raise _refused("instance_ids", "too_long", f"at most {self._max_ids} ids at a time, not {len(ids)}")

    async def _locked(self, ids: Sequence[int]) -> list[LockedInstance]:
        return [each for chunk in _chunks(ids) for each in await repository.lock_many(self._session, chunk)]

    async def _plan(self, space_ids: Collection[int], add: Sequence[str], remove: Sequence[str]) -> _Plan:
        in_order = sorted(space_ids)
        added: dict[int, str] = {}
        count = 0
        for space_id in in_order:
            await SpaceService(self._session).hold_open(space_id)
            id_by_name, made = await TagService(self._session).ensure_counting(space_id, add)
            added |= {tag_id: name for name, tag_id in id_by_name.items()}
            count += made
        removed = await repository.tags_named(self._session, in_order, remove)
        return _Plan(uuid4(), in_order, added, removed, count)

    async def _tag(self, plan: _Plan, instances: Sequence[LockedInstance]) -> int:
        """How many of the instances changed."""
        ids = [instance.id for instance in instances]
        added = _names_by_instance(await repository.link(self._session, ids, plan.added), plan.added)
        removed = _names_by_instance(await repository.unlink(self._session, ids, plan.removed), plan.removed)
        changed = [instance for instance in instances if instance.id in added or instance.id in removed]
        await self._refuse_overload(list(added))
        await repository.raise_revisions(self._session, [instance.id for instance in changed])
        await record_many(self._session, [_entry(plan, each, added, removed) for each in changed])
        return len(changed)

    async def _refuse_overload(self, ids: Sequence[int]) -> None:
        overloaded = await repository.overloaded(self._session, ids, MAX_TAGS)
        if overloaded:
            others = f" and {len(overloaded) - 1} more" if len(overloaded) > 1 else ""
            message = f"instance {overloaded[0]}{others} would carry more than {MAX_TAGS} tags; nothing was written"
            raise _refused("add", "out_of_range", message)


def _chunks(items: Sequence[ItemT]) -> Iterator[Sequence[ItemT]]:
    return (items[start : start + CHUNK_INSTANCES] for start in range(0, len(items), CHUNK_INSTANCES))


def _refuse_contradiction(add: Sequence[str], remove: Sequence[str]) -> None:
    if not add and not remove:
        raise _refused("add", "required", "name at least one tag to add or to remove")
    both = sorted(set(add) & set(remove))
    if both:
        raise _refused("remove", "invalid_format", f"cannot both add and remove {', '.join(map(shown, both[:5]))}")


def _refused(field: str, code: str, message: str) -> ParameterError:
    return ParameterError(
        message, members={"errors": [{"pointer": f"/body/{field}", "code": code, "message": message}]}
    )


def _names_by_instance(links: Sequence[Link], name_by_id: Mapping[int, str]) -> dict[int, list[str]]:
    """Which tags, in order of name, the links concern for each instance."""
    found: dict[int, list[str]] = {}
    for link in sorted(links, key=lambda link: name_by_id[link.tag_id]):
        found.setdefault(link.instance_id, []).append(name_by_id[link.tag_id])
    return found


def _entry(
    plan: _Plan, instance: LockedInstance, added: Mapping[int, list[str]], removed: Mapping[int, list[str]]
) -> AuditEntry:
    named = {"added": added.get(instance.id), "removed": removed.get(instance.id)}
    return AuditEntry(
        action="instance:update",
        resource_type="instance",
        resource_id=instance.id,
        resource_name=instance.name,
        space_id=instance.space_id,
        batch_id=plan.batch_id,
        changes={"tags": {verb: names for verb, names in named.items() if names}},
    )


def _batch_entry(plan: _Plan, report: TaggingReport) -> AuditEntry:
    counts: dict[str, Any] = {
        "updated": report.updated,
        "unchanged": report.unchanged,
        "missing": len(report.missing),
        "tags_created": report.tags_created,
    }
    tags = {"added": sorted(set(plan.added.values())), "removed": sorted(set(plan.removed.values()))}
    return AuditEntry(
        action="instance:batch_tags",
        resource_type="batch",
        resource_id=None,
        resource_name=None,
        space_id=plan.space_ids[0] if len(plan.space_ids) == 1 else None,
        batch_id=plan.batch_id,
        changes={"counts": counts, "tags": tags},
    )
