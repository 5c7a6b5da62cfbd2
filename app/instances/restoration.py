"""Undoes a soft deletion."""

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import Conflict, NotFound
from app.instances import deletion_repository as repository
from app.instances.quotas import require_place
from app.preconditions import require_match
from app.spaces.service import SpaceService


class InstanceRestorationService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def restore(self, instance_id: int, if_match: str | None) -> None:
        """Makes the instance visible again, with `is_active` as it was.

        Raises NotFound, PreconditionFailed, and Conflict when it is not deleted, when its name or endpoint was taken
        meanwhile, or when its space is archived or full.
        """
        try:
            await run_in_transaction(
                self._database.writers, lambda session: self._restore(session, instance_id, if_match)
            )
        except IntegrityError as error:
            what = "endpoint" if "endpoint_key" in str(error.orig) else "name"
            raise Conflict(f"instance {instance_id} cannot be restored: its {what} was taken meanwhile") from error

    async def _restore(self, session: AsyncSession, instance_id: int, if_match: str | None) -> None:
        space_id = await repository.space_of(session, instance_id)
        if space_id is None:
            raise _missing(instance_id)
        spaces = SpaceService(session)
        space = await spaces.resolve_open(space_id)
        # Before the instance, as by everybody who locks both.
        room = await spaces.hold_room(space)
        found = await repository.lock(session, instance_id)
        if found is None:
            raise _missing(instance_id)
        require_match(if_match, found.revision)
        if found.deleted_at is None:
            raise Conflict(f"instance {instance_id} is not deleted")
        require_place(space, room)
        await repository.undelete(session, instance_id)
        changes = {"before": {"deleted_at": found.deleted_at.isoformat()}, "after": {"deleted_at": None}}
        entry = AuditEntry("instance:restore", "instance", instance_id, found.name, found.space_id, changes=changes)
        await record(session, entry)


def _missing(instance_id: int) -> NotFound:
    return NotFound(f"there is no instance {instance_id}")
