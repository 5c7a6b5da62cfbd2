"""Single instances: reading, registering, changing; pages of them and counts.

Deleting and restoring are in batch_deletion, because one instance goes the same way as many.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields as fields_of
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.credentials.service import CredentialService
from app.errors import Conflict, JsonValue, NotFound, ParameterError
from app.instances import page_repository, repository
from app.instances.quotas import hold_place
from app.instances.records import (
    InstanceFields,
    InstanceFilter,
    InstancePage,
    InstanceRecord,
    InstanceStatistics,
    InstanceStatus,
    KindCount,
    Rival,
)
from app.models.instance import DatabaseType, Environment
from app.pagination import PageRequest
from app.preconditions import require_match
from app.spaces.service import SpaceService
from app.tags.service import TagService


class InstanceService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, wanted: InstanceFilter, sort: str, request: PageRequest) -> InstancePage:
        """Raises SpaceNotFound when the filter names a space that does not exist."""
        await self.require_space(wanted.space_id)
        return await page_repository.page(self._session, wanted, sort, request)

    async def get(self, instance_id: int) -> InstanceRecord:
        """The instance, also when it is deleted."""
        return _found(await repository.find(self._session, instance_id), instance_id)

    async def create(self, space_id: int | None, fields: InstanceFields) -> InstanceRecord:
        """Registers the instance and makes the tags that are missing.

        Raises Conflict when name or endpoint is taken, or the space is archived or full; ParameterError when the space
        has no such credential.
        """
        space_id = await hold_place(self._session, await SpaceService(self._session).resolve_open(space_id))
        await self._require_credential(space_id, fields.credential_id)
        tag_ids = await TagService(self._session).ensure(space_id, fields.tags)
        await self._refuse_rivals(space_id, fields)
        async with self._losing_races(space_id, fields):
            instance_id = await repository.create(self._session, space_id, fields)
        await repository.set_tags(self._session, instance_id, tag_ids.values())
        created = await self.get(instance_id)
        await self._record("instance:create", created, {"after": _as_json(fields, _field_names)})
        return created

    async def update(
        self, instance_id: int, changed: Callable[[InstanceFields], InstanceFields], if_match: str | None
    ) -> InstanceRecord:
        """Gives the instance the fields that `changed` makes of its present ones.

        Where nothing differs, nothing is written and the revision stays. Raises Conflict when the instance is deleted,
        a new name or endpoint is taken, or the space is archived; PreconditionFailed when `if_match` speaks of another
        revision.
        """
        stored = _found(await repository.lock(self._session, instance_id), instance_id)
        require_match(if_match, stored.revision)
        if stored.deleted_at is not None:
            raise Conflict(f"instance {instance_id} is deleted; restore it before changing it")
        await SpaceService(self._session).hold_open(stored.space_id)
        before = InstanceFields.of(stored)
        after = changed(before)
        if after == before:
            return stored
        return await self._write(stored, before, after)

    async def statistics(self, space_id: int | None) -> InstanceStatistics:
        await self.require_space(space_id)
        counts = await repository.counts_by_kind(self._session, space_id)
        return _statistics(counts, await repository.counts_by_tag(self._session, space_id))

    async def require_space(self, space_id: int | None) -> None:
        """Raises SpaceNotFound unless the space exists; None, which stands for all of them, does."""
        if space_id is not None:
            await SpaceService(self._session).resolve(space_id)

    async def _write(self, stored: InstanceRecord, before: InstanceFields, after: InstanceFields) -> InstanceRecord:
        if after.credential_id != before.credential_id:
            await self._require_credential(stored.space_id, after.credential_id)
        await self._refuse_rivals(stored.space_id, after, stored.id)
        if after.tags != before.tags:
            tag_ids = await TagService(self._session).ensure(stored.space_id, after.tags)
            await repository.set_tags(self._session, stored.id, tag_ids.values())
        async with self._losing_races(stored.space_id, after, stored.id):
            await repository.change(self._session, stored.id, after)
        changed = await self.get(stored.id)
        names = [name for name in _field_names if getattr(before, name) != getattr(after, name)]
        changes = {"before": _as_json(before, names), "after": _as_json(after, names)}
        await self._record("instance:update", changed, changes)
        return changed

    async def _require_credential(self, space_id: int, credential_id: int | None) -> None:
        if credential_id is None or await self._credential_space(credential_id) == space_id:
            return
        message = f"the space has no credential {credential_id}"
        raise ParameterError(message, members={"errors": [_error("credential_id", "credential_not_found", message)]})

    async def _credential_space(self, credential_id: int) -> int | None:
        try:
            return (await CredentialService(self._session).get(credential_id)).space_id
        except NotFound:
            return None

    async def _refuse_rivals(self, space_id: int, fields: InstanceFields, except_id: int | None = None) -> None:
        errors = [
            error
            for rival in await repository.rivals(self._session, space_id, fields, except_id)
            for error in _taken(fields, rival)
        ]
        if errors:
            raise Conflict("; ".join(str(error["message"]) for error in errors), members={"errors": errors})

    @asynccontextmanager
    async def _losing_races(
        self, space_id: int, fields: InstanceFields, except_id: int | None = None
    ) -> AsyncIterator[None]:
        """The unique indexes decide between two writers; whoever comes second is told like one who came later."""
        try:
            async with self._session.begin_nested():
                yield
        except IntegrityError as error:
            await self._refuse_rivals(space_id, fields, except_id)
            raise Conflict("another change was in the way and nothing was written; try again") from error

    async def _record(self, action: str, instance: InstanceRecord, changes: dict[str, Any]) -> None:
        entry = AuditEntry(action, "instance", instance.id, instance.name, instance.space_id, changes=changes)
        await record(self._session, entry)


_field_names = tuple(field.name for field in fields_of(InstanceFields))


def _found(instance: InstanceRecord | None, instance_id: int) -> InstanceRecord:
    if instance is None:
        raise NotFound(f"there is no instance {instance_id}")
    return instance


def _as_json(fields: InstanceFields, names: Sequence[str]) -> dict[str, JsonValue]:
    return {name: getattr(fields, name) for name in names}


def _taken(fields: InstanceFields, rival: Rival) -> list[dict[str, JsonValue]]:
    """What the rival has of the wanted fields, with the contract's codes."""
    errors = []
    if rival.name == fields.name:
        errors.append(_error("name", "name_exists", f"instance {rival.id} is named {rival.name!r} already"))
    if rival.endpoint_key == fields.endpoint_key:
        message = f"instance {rival.id} ({rival.name}) is at {rival.endpoint_key} already"
        errors.append(_error("host", "endpoint_exists", message))
    return errors


def _error(field: str, code: str, message: str) -> dict[str, JsonValue]:
    return {"pointer": f"/body/{field}", "code": code, "message": message}


def _statistics(counts: Sequence[KindCount], count_by_tag: dict[str, int]) -> InstanceStatistics:
    """Sums the combinations up; kinds that do not occur count 0."""
    kinds: Counter[DatabaseType] = Counter(dict.fromkeys(DatabaseType, 0))
    environments: Counter[Environment] = Counter(dict.fromkeys(Environment, 0))
    statuses: Counter[InstanceStatus] = Counter(dict.fromkeys(InstanceStatus, 0))
    for each in counts:
        statuses[each.status] += each.count
        if not each.is_deleted:
            kinds[DatabaseType(each.db_type)] += each.count
            environments[Environment(each.environment)] += each.count
    return InstanceStatistics(kinds.total(), dict(kinds), dict(environments), dict(statuses), count_by_tag)
