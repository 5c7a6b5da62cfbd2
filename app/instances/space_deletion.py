"""Deletes a space with everything in it: its instances go the way of every deletion, some hundreds at a time.

The space is archived first, in a transaction of its own, so that nothing is added meanwhile. When something stops the
deletion, the space stays archived with what is left of it, and the same call goes on from there.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import Blocked, DatabaseUnavailable, JsonValue
from app.instances import space_deletion_repository as repository
from app.instances.batch_deletion import InstanceBatchDeletionService
from app.instances.cascade import DeletionMode
from app.instances.deletion_batch import DeletionRequest
from app.instances.deletion_report import DeletionReport, ItemStatus
from app.spaces.removal import KEPT, SpaceContent, SpaceRemoval

log = structlog.get_logger(__name__)

BATCH_INSTANCES = 500
SHOWN_IDS = 100

Blocker = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class SpaceDeletion:
    """What went, or would go: rows by table. `kept` names the tables that keep theirs."""

    space_id: int
    name: str
    dry_run: bool
    deleted: Mapping[str, int]
    kept: Sequence[str] = tuple(KEPT)
    blockers: Sequence[Blocker] = ()


class SpaceDeletionService:
    """Opens transactions of its own."""

    def __init__(self, database: Database, deletion: InstanceBatchDeletionService, identities: Identities) -> None:
        self._database = database
        self._deletion = deletion
        self._identities = identities

    async def foresee(self, space_id: int, if_match: str | None) -> SpaceDeletion:
        """What a forced deletion would remove, and what blocks even that. Raises SpaceNotFound, PreconditionFailed."""
        content = await self._look(space_id, if_match)
        rows: Counter[str] = Counter()
        async for ids in self._batches(space_id):
            for item in (await self._deletion.precheck(ids, DeletionMode.HARD)).items:
                rows.update(item.rows)
        blockers = await self._protected(space_id)
        return SpaceDeletion(space_id, content.space.name, True, {**rows, **content.rows}, blockers=blockers)

    async def delete(self, space_id: int, if_match: str | None, *, force: bool) -> SpaceDeletion:
        """Deletes the space; with `force` also when it is not empty.

        Raises SpaceNotFound, PreconditionFailed, Conflict (the space `default`), Blocked (it is not empty, or holds
        what is protected) and DatabaseUnavailable; after `begin` the error says what became of the space.
        """
        content = await self._look(space_id, if_match)
        if force and (blockers := await self._protected(space_id)):
            raise Blocked(f"space {content.space.name!r} holds protected instances", members={"blockers": blockers})

        async def begin(session: AsyncSession) -> None:
            await SpaceRemoval(session, self._identities).begin(space_id, if_match, force=force)

        async def finish(session: AsyncSession) -> dict[str, int]:
            return await SpaceRemoval(session, self._identities).finish(space_id, rows)

        await run_in_transaction(self._database.writers, begin)
        rows = await self._delete_instances(space_id)
        removed = await run_in_transaction(self._database.writers, finish)
        return SpaceDeletion(space_id, content.space.name, False, removed)

    async def _look(self, space_id: int, if_match: str | None) -> SpaceContent:
        async with self._database.readers() as session:
            return await SpaceRemoval(session, self._identities).look(space_id, if_match)

    async def _protected(self, space_id: int) -> list[Blocker]:
        async with self._database.readers() as session:
            ids = await repository.protected_ids(session, space_id)
        message = "instances are protected; set deletion_protection to false first"
        blocker: Blocker = {
            "code": "deletion_protected",
            "message": message,
            "count": len(ids),
            "instance_ids": ids[:SHOWN_IDS],
        }
        return [blocker] if ids else []

    async def _batches(self, space_id: int) -> AsyncIterator[tuple[int, ...]]:
        ids: tuple[int, ...] = (0,)
        while ids:
            async with self._database.readers() as session:
                ids = await repository.ids_after(session, space_id, ids[-1], BATCH_INSTANCES)
            if ids:
                yield ids

    async def _delete_instances(self, space_id: int) -> Counter[str]:
        """All of them; rows by table. Raises Blocked or DatabaseUnavailable when some are left."""
        rows: Counter[str] = Counter()
        async for ids in self._batches(space_id):
            report = await self._deletion.delete(DeletionRequest(ids, DeletionMode.HARD, force=True))
            rows.update(report.rows_deleted())
            _require_all(report, rows["instances"])
        return rows


def _require_all(report: DeletionReport, deleted: int) -> None:
    left = [item for item in report.items if item.status not in (ItemStatus.DELETED, ItemStatus.MISSING)]
    if not left:
        return
    so_far = f"{deleted} instances have been deleted; the space stays, archived, with what is left"
    log.warning("a space was not deleted", deleted=deleted, left=len(left))
    if any(item.status is ItemStatus.FAILED for item in left):
        raise DatabaseUnavailable(f"the database failed; {so_far}: try again")
    blockers: list[JsonValue] = [
        {**blocker.as_json(), "instance_id": item.instance_id} for item in left[:SHOWN_IDS] for blocker in item.blockers
    ]
    raise Blocked(f"{len(left)} instances cannot be deleted; {so_far}", members={"blockers": blockers})
