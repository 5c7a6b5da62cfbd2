"""Takes a space away. What is in it goes in three steps, of which the second is not this part's:

1. `begin` looks at what there is, refuses what must not be done, and archives the space, so that nothing comes after.
2. Its instances are deleted as any others are (app.instances.space_deletion).
3. `finish` removes what is left, and the space, in one transaction.

Whatever stops it between the steps leaves an archived space with less in it, and the same call goes on from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.audit.recorder import AuditEntry, record
from app.errors import Blocked, Conflict, SpaceNotFound
from app.models.space import DEFAULT_SPACE_NAME
from app.preconditions import require_match
from app.spaces import removal_repository, repository
from app.spaces.records import SpaceRecord
from app.spaces.service import SpaceService

INSTANCES = "instances"
# Who holds a role in a space is nothing that is in it: it goes with the space unasked.
GRANTS = "role_grants"
# In this order: what refers to another comes first. Their rows below instances have gone with these.
REMOVED = (
    "account_classification_versions",
    "account_classifications",
    "schedules",
    "sync_sessions",
    "tags",
    "credentials",
    GRANTS,
)
KEPT: Mapping[str, str] = {
    "audit_events": "what was done in a space must be known after it is gone; entries hold names as text",
    "operations": "what a user had done in the background stays theirs to read, until it is past its retention",
}


@dataclass(frozen=True, slots=True)
class SpaceContent:
    """How many rows each table has of the space, without zeros."""

    space: SpaceRecord
    rows: Mapping[str, int]

    @property
    def is_empty(self) -> bool:
        return not self.rows.keys() - {GRANTS}


class SpaceRemoval:
    def __init__(self, session: AsyncSession, identities: Identities) -> None:
        self._session = session
        self._identities = identities

    async def look(self, space_id: int, if_match: str | None) -> SpaceContent:
        """What is in the space; nothing is changed."""
        return await self._content(await repository.find(self._session, space_id), space_id, if_match)

    async def begin(self, space_id: int, if_match: str | None, *, force: bool) -> SpaceContent:
        """Archives the space and tells what is in it; nobody is adding anything to it any more.

        Raises SpaceNotFound, PreconditionFailed, Conflict for the space `default`, Blocked for one that is not empty
        unless forced, and for a database that has tables of spaces which are not known here.
        """
        content = await self._content(await repository.lock(self._session, space_id), space_id, if_match)
        if content.space.name == DEFAULT_SPACE_NAME:
            raise Conflict(f"the space {DEFAULT_SPACE_NAME!r} cannot be deleted: it is meant where none is named")
        await self._refuse_unplanned(content.space)
        if not content.is_empty and not force:
            blockers = [_not_empty(table, count) for table, count in content.rows.items() if table != GRANTS]
            message = f"space {content.space.name!r} is not empty; force=true deletes it with everything in it"
            raise Blocked(message, members={"blockers": blockers})
        await SpaceService(self._session).archive(space_id, None)
        return content

    async def finish(self, space_id: int, rows_deleted: Mapping[str, int]) -> dict[str, int]:
        """Removes what is left in the space, and the space; `rows_deleted` have gone already. Returns all that went.

        Raises Conflict when there are instances again, because somebody has brought the space back meanwhile.
        """
        content = await self._content(await repository.lock(self._session, space_id), space_id, None)
        if INSTANCES in content.rows:
            raise Conflict(f"instances were added to space {space_id} while it was being deleted; delete it again")
        for name in REMOVED:
            await removal_repository.remove_rows(self._session, space_id, name)
        await removal_repository.remove(self._session, space_id)
        rows = {**rows_deleted, **content.rows}
        await self._record(content.space, rows)
        await self._identities.changed(self._session)
        return rows

    async def _content(self, space: SpaceRecord | None, space_id: int, if_match: str | None) -> SpaceContent:
        if space is None:
            raise SpaceNotFound(f"there is no space {space_id}")
        require_match(if_match, space.revision)
        return SpaceContent(space, await removal_repository.rows_in(self._session, space_id, (INSTANCES, *REMOVED)))

    async def _refuse_unplanned(self, space: SpaceRecord) -> None:
        live = await removal_repository.tables_holding_spaces(self._session)
        unplanned = sorted(live - {INSTANCES, *REMOVED, *KEPT})
        if unplanned:
            blockers = [
                {"code": "unplanned_table", "message": f"table {name} refers to spaces and is not known here"}
                for name in unplanned
            ]
            raise Blocked(f"space {space.name!r} cannot be deleted", members={"blockers": blockers})

    async def _record(self, space: SpaceRecord, rows: Mapping[str, int]) -> None:
        before: dict[str, Any] = {
            "name": space.name,
            "description": space.description,
            "quota_instances": space.quota_instances,
            "quota_rows": space.quota_rows,
        }
        changes = {"before": before, "rows": dict(rows)}
        entry = AuditEntry("space:delete", "space", space.id, space.name, space.id, changes=changes)
        await record(self._session, entry)


def _not_empty(table: str, count: int) -> dict[str, str | int]:
    return {"code": "not_empty", "message": f"the space has {count} in {table}", "table": table, "count": count}
