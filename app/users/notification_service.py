"""Notifications: what a user is told of, to be read or removed by nobody else."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.pagination import PageRequest
from app.users import notification_repository as repository
from app.users.notification_records import NotificationPage, NotificationRecord

# As long as the columns are.
MAX_TITLE_CHARACTERS = 200
MAX_BODY_CHARACTERS = 2000


class NotificationService:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def notify(
        self,
        user_id: int,
        kind: str,
        title: str,
        body: str | None = None,
        *,
        resource_type: str | None = None,
        resource_id: int | None = None,
    ) -> None:
        """Tells the user, who must exist, when the caller's transaction commits. Too long a text is cut.

        `kind` is a word for programs, such as `operation_ended`; the resource is what it speaks of.
        """
        await repository.create(
            self._session,
            user_id,
            kind=kind,
            title=_cut(title, MAX_TITLE_CHARACTERS),
            body=None if body is None else _cut(body, MAX_BODY_CHARACTERS),
            resource_type=resource_type,
            resource_id=resource_id,
        )

    async def page(self, user_id: int, *, unread: bool, request: PageRequest) -> NotificationPage:
        """The newest first."""
        return await repository.page(self._session, user_id, unread=unread, request=request)

    async def mark_read(self, user_id: int, notification_id: int) -> NotificationRecord:
        """Raises NotFound when the user has no such notification, whoever else has."""
        notification = await repository.mark_read(self._session, user_id, notification_id)
        if notification is None:
            raise NotFound(f"there is no notification {notification_id}")
        return notification

    async def mark_all_read(self, user_id: int) -> int:
        """How many were unread."""
        return await repository.mark_all_read(self._session, user_id)

    async def remove(self, user_id: int, notification_id: int) -> None:
        """Raises NotFound when the user has no such notification, whoever else has."""
        if not await repository.remove(self._session, user_id, notification_id):
            raise NotFound(f"there is no notification {notification_id}")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
