"""What syncs found on an instance, to read: accounts, databases, settings, places in clusters, and what changed.

Every call raises NotFound when there is no such instance, or not for the caller. A deleted one can be read, as long as
it is not purged.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from app.instances.service import InstanceService
from app.inventory import account_page_repository, database_repository, member_repository, settings_repository
from app.inventory.reading_records import (
    AccountFilter,
    AccountRecord,
    ChangeFilter,
    ChangeRecord,
    DatabaseFilter,
    DatabaseRecord,
    Found,
    HistoryRecord,
    PlaceRecord,
    SettingRecord,
    SettingsRecord,
)
from app.models.instance import DatabaseType
from app.pagination import PageRequest, Position


class InventoryService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def accounts(
        self, instance_id: int, wanted: AccountFilter, sort: str, request: PageRequest
    ) -> Found[AccountRecord]:
        await self._require(instance_id)
        return await account_page_repository.accounts(self._session, instance_id, wanted, sort, request)

    async def changes(
        self, instance_id: int, wanted: ChangeFilter, sort: str, request: PageRequest
    ) -> Found[ChangeRecord]:
        """The accounts' change log."""
        await self._require(instance_id)
        return await account_page_repository.changes(self._session, instance_id, wanted, sort, request)

    async def databases(
        self, instance_id: int, wanted: DatabaseFilter, sort: str, request: PageRequest
    ) -> Found[DatabaseRecord]:
        await self._require(instance_id)
        return await database_repository.page(self._session, instance_id, wanted, sort, request)

    async def settings(self, instance_id: int, q: str | None, request: PageRequest) -> SettingsRecord:
        """The last snapshot's, in order of name; `q` is a substring of the name, in any case."""
        await self._require(instance_id)
        start = Position.parse(request.cursor)
        last = await settings_repository.last_snapshot(self._session, instance_id)
        if last is None:
            return SettingsRecord(None, Found([], None, 0 if request.include_total else None))
        part = (q or "").lower()
        found = [SettingRecord(name, last.settings[name]) for name in sorted(last.settings) if part in name.lower()]
        end = start + request.limit
        next_cursor = Position.encode(end) if end < len(found) else None
        total = len(found) if request.include_total else None
        return SettingsRecord(last.captured_at, Found(found[start:end], next_cursor, total))

    async def settings_history(self, instance_id: int, request: PageRequest) -> Found[HistoryRecord]:
        """Newest first."""
        await self._require(instance_id)
        return await settings_repository.history(self._session, instance_id, request)

    async def members(self, instance_id: int, request: PageRequest) -> Found[PlaceRecord]:
        """The instance's own places in replication and clusters."""
        db_type = await self._require(instance_id)
        return await member_repository.page(self._session, instance_id, db_type, request)

    async def _require(self, instance_id: int) -> DatabaseType:
        return DatabaseType((await InstanceService(self._session).get(instance_id)).db_type)
