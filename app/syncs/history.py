"""Syncs that were asked for, to read: how far they are, and what became of each instance."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.pagination import PageRequest
from app.syncs import record_repository, repository
from app.syncs.progress import SyncProgressTracker
from app.syncs.records import RecordFilter, RecordPage, SessionFilter, SessionPage, SessionRecord, SyncProgress


class SyncHistory:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, wanted: SessionFilter, request: PageRequest) -> SessionPage:
        """The newest first."""
        return await repository.page_of_sessions(self._session, wanted, request)

    async def get(self, session_id: int) -> SessionRecord:
        """Raises NotFound, for another space's too."""
        found = await repository.find_session(self._session, session_id)
        if found is None:
            raise NotFound(f"there is no sync {session_id}")
        return found

    async def progress(self, record: SessionRecord) -> SyncProgress:
        return await SyncProgressTracker(self._session, record.id).progress()

    async def records(self, session_id: int, wanted: RecordFilter, request: PageRequest) -> RecordPage:
        """In the order in which instances had their turn. Raises NotFound."""
        await self.get(session_id)
        return await record_repository.page(self._session, session_id, wanted, request)
