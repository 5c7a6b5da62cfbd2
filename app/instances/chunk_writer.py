"""Writes one chunk of good rows inside a transaction that the caller owns: creations, updates, tags, audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record_many
from app.database.bulk_loads import reserve_ids
from app.instances import batch_repository as repository
from app.instances import creation_audit_repository
from app.instances.batch_report import RowOutcome, RowStatus
from app.instances.batch_repository import VALUE_COLUMNS, StoredInstance
from app.instances.judged_rows import GoodRow, RowError
from app.instances.quotas import QUOTA_EXCEEDED
from app.instances.settlement import endpoint_of
from app.models.base import utc_now
from app.planner import forget_plans, note_new_rows
from app.spaces.records import SpaceLimits
from app.spaces.service import SpaceService
from app.tags.service import TagService

# Columns of the file that set a stored column of the same name; `credential` sets credential_id.
_same_name = frozenset(VALUE_COLUMNS) - {"name", "endpoint_key", "credential_id"}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Good rows in the order of the file; `update_ids` tells, by line, which of them update an instance.

    `decided` are outcomes of other rows, to be reported together with these.
    """

    rows: Sequence[GoodRow]
    update_ids: Mapping[int, int]
    decided: Sequence[RowOutcome] = ()

    def parted(self, room: int | None) -> "tuple[Chunk, Sequence[GoodRow]]":
        """As much of it as there is room for, and the rows to create that are left over."""
        creations = [row for row in self.rows if row.line not in self.update_ids]
        if room is None or len(creations) <= room:
            return self, ()
        beyond = creations[room:]
        lines = {row.line for row in beyond}
        return Chunk([row for row in self.rows if row.line not in lines], self.update_ids), beyond

    def without_rows(self, reason: str) -> "Chunk":
        """None of the rows can be written."""
        return Chunk((), {}, [*self.decided, *(conflict(row, reason, None) for row in self.rows)])

    def halves(self) -> "tuple[Chunk, Chunk]":
        middle = len(self.rows) // 2
        left = Chunk(self.rows[:middle], self.update_ids, self.decided)
        return left, Chunk(self.rows[middle:], self.update_ids)


@dataclass(frozen=True, slots=True)
class Change:
    """What an update does to one instance; empty when nothing differs."""

    values: Mapping[str, Any]
    tags: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def conflict(row: GoodRow, message: str, column: str | None = "name", value: str | None = None) -> RowOutcome:
    """What another writer did in between costs this row."""
    return RowOutcome(row.line, row.name, RowStatus.FAILED, errors=(RowError(column, "conflict", message, value),))


def without_place(row: GoodRow) -> RowOutcome:
    """There was a place when the file was judged; another writer took it."""
    error = RowError(None, QUOTA_EXCEEDED, "another writer took the last places of the space meanwhile")
    return RowOutcome(row.line, row.name, RowStatus.FAILED, errors=(error,))


class ChunkWriter:
    def __init__(
        self, space: SpaceLimits, columns: frozenset[str], credential_ids: Mapping[str, int], batch_id: UUID
    ) -> None:
        self._space = space
        self._space_id = space.id
        self._columns = columns
        self._credential_ids = credential_ids
        self._batch_id = batch_id

    async def write(self, session: AsyncSession, chunk: Chunk) -> list[RowOutcome]:
        """Writes the chunk and returns an outcome for each of its rows, in their order.

        Raises SQLAlchemy's IntegrityError when another writer took a name or an endpoint, or removed a credential,
        SpaceArchived or SpaceNotFound when somebody did that to the space: then nothing of the chunk is written.
        """
        await forget_plans(session)
        # The space is held before instances are locked, and these before tags, as by everybody who locks several.
        chunk, beyond = chunk.parted(await SpaceService(session).hold_room(self._space))
        stored = await repository.stored_instances(session, _ids(chunk), lock=True) if chunk.update_ids else {}
        changes = self.changes(chunk, stored)
        wanted = {name for row in chunk.rows if self._sets_tags(chunk, row) for name in row.tags}
        tag_ids = await TagService(session).ensure(self._space_id, wanted) if wanted else {}
        creations = [row for row in chunk.rows if row.line not in chunk.update_ids]
        created_ids = await self._create(session, creations, tag_ids)
        await self._update(session, changes, tag_ids)
        return [*self._outcomes(chunk, created_ids, changes), *map(without_place, beyond)]

    def changes(self, chunk: Chunk, stored: Mapping[int, StoredInstance]) -> dict[int, Change | None]:
        """By instance id, what each update would do; None for an instance that is gone, or has another name now."""
        found: dict[int, Change | None] = {}
        for row in chunk.rows:
            instance_id = chunk.update_ids.get(row.line)
            if instance_id is not None:
                found[instance_id] = self._change(row, stored.get(instance_id))
        return found

    def _change(self, row: GoodRow, stored: StoredInstance | None) -> Change | None:
        if stored is None or stored.values["name"] != row.name:
            return None
        values = dict(stored.values)
        values |= {name: getattr(row, name) for name in self._columns & _same_name}
        if "credential" in self._columns:
            values["credential_id"] = self._credential_id(row)
        values["endpoint_key"] = endpoint_of(row, stored, self._columns)
        tags = row.tags if "tags" in self._columns else stored.tags
        changed = [name for name in VALUE_COLUMNS if values[name] != stored.values[name] and name != "endpoint_key"]
        before = {name: stored.values[name] for name in changed}
        after = {name: values[name] for name in changed}
        if tags != stored.tags:
            before["tags"], after["tags"] = stored.tags, tags
        return Change(values, tags, before, after)

    def _sets_tags(self, chunk: Chunk, row: GoodRow) -> bool:
        return row.line not in chunk.update_ids or "tags" in self._columns

    def _credential_id(self, row: GoodRow) -> int | None:
        return None if row.credential is None else self._credential_ids[row.credential]

    async def _create(
        self, session: AsyncSession, rows: Sequence[GoodRow], tag_ids: Mapping[str, int]
    ) -> Sequence[int]:
        if not rows:
            return ()
        ids = await reserve_ids(session, repository.instances, len(rows))
        values = (self._values(row) for row in rows)
        await repository.insert_instances(session, self._space_id, ids, values, utc_now())
        links = ((key, tag_ids[name]) for key, row in zip(ids, rows, strict=True) for name in row.tags)
        await repository.link_tags(session, links)
        await note_new_rows(session, repository.instances)
        await self._record_creations(session, ids, rows)
        return ids

    async def _record_creations(self, session: AsyncSession, ids: Sequence[int], rows: Sequence[GoodRow]) -> None:
        await creation_audit_repository.record_created(session, self._space_id, self._batch_id, ids, rows)

    def _values(self, row: GoodRow) -> tuple[Any, ...]:
        """In the order of VALUE_COLUMNS."""
        return (
            row.name, row.db_type, row.host, row.port, row.endpoint_key, row.database_name, row.description,
            row.environment, row.sync_policy, row.is_active, row.deletion_protection, self._credential_id(row),
        )  # fmt: skip

    def _updated(self, instance_id: int, change: Change) -> AuditEntry:
        return AuditEntry(
            action="instance:update",
            resource_type="instance",
            resource_id=instance_id,
            resource_name=change.values["name"],
            space_id=self._space_id,
            batch_id=self._batch_id,
            changes={"before": change.before, "after": change.after},
        )

    async def _update(
        self, session: AsyncSession, changes: Mapping[int, Change | None], tag_ids: Mapping[str, int]
    ) -> None:
        real = {key: change for key, change in changes.items() if change and change.after}
        if not real:
            return
        retagged = {key: change.tags for key, change in real.items() if "tags" in change.after}
        await repository.update_instances(session, {key: change.values for key, change in real.items()}, utc_now())
        await repository.unlink_tags(session, list(retagged))
        links = ((key, tag_ids[name]) for key, names in retagged.items() for name in names)
        await repository.link_tags(session, links)
        await record_many(session, [self._updated(key, change) for key, change in real.items()])

    def _outcomes(
        self, chunk: Chunk, created_ids: Sequence[int], changes: Mapping[int, Change | None]
    ) -> list[RowOutcome]:
        created = iter(created_ids)
        outcomes = []
        for row in chunk.rows:
            instance_id = chunk.update_ids.get(row.line)
            if instance_id is None:
                outcomes.append(RowOutcome(row.line, row.name, RowStatus.CREATED, next(created)))
            else:
                outcomes.append(updated(row, instance_id, changes[instance_id]))
        return outcomes


def updated(row: GoodRow, instance_id: int, change: Change | None) -> RowOutcome:
    if change is None:
        return conflict(row, f"instance {instance_id} was deleted or renamed meanwhile", "name", row.name)
    status = RowStatus.UPDATED if change.after else RowStatus.UNCHANGED
    return RowOutcome(row.line, row.name, status, instance_id)


def _ids(chunk: Chunk) -> list[int]:
    return [chunk.update_ids[row.line] for row in chunk.rows if row.line in chunk.update_ids]
