"""Reads the audit trail, as far as the caller may."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import repository
from app.audit.head import AuditHead, read_head
from app.audit.records import AuditFilter, AuditPage
from app.caller import current_call
from app.errors import SpaceNotFound
from app.pagination import PageRequest


class AuditService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, wanted: AuditFilter, sort: str, request: PageRequest) -> AuditPage:
        """Newest first, unless sorted otherwise. Raises SpaceNotFound like `require_space`."""
        require_space(wanted.space_id)
        return await repository.page(self._session, wanted, sort, request)

    async def head(self) -> AuditHead:
        return await read_head(self._session)


def require_space(space_id: int | None) -> None:
    """Raises SpaceNotFound for a space that does not exist for the caller.

    Who may see all of them finds also what was recorded in one that has been deleted since.
    """
    spaces = current_call().spaces
    if space_id is not None and spaces is not None and space_id not in spaces:
        raise SpaceNotFound(f"there is no space {space_id}")
