"""`/notifications`: one's own."""

from typing import Annotated

from fastapi import APIRouter, Query, status

from app.access.routing import GuardedRoute, signed_in
from app.caller import signed_in_user_id
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.pagination import Page, PageQuery
from app.users.notification_schemas import MarkedRead, Notification
from app.users.notification_service import NotificationService

router = APIRouter(prefix="/notifications", tags=["Notifications"], route_class=GuardedRoute)


@router.get("", summary="List your notifications", responses=problem_responses(400, 503), openapi_extra=signed_in())
async def list_notifications(
    session: ReadSession,
    page: PageQuery,
    unread: Annotated[bool, Query(description="Only those that are not read yet")] = False,
) -> Page[Notification]:
    """The newest first."""
    found = await NotificationService(session).page(signed_in_user_id(), unread=unread, request=page)
    items = [Notification.model_validate(each) for each in found.items]
    return Page[Notification].of(items, found.next_cursor, found.total)


@router.post(
    "/read-all",
    summary="Mark all your notifications as read",
    responses=problem_responses(503),
    openapi_extra=signed_in(),
)
async def mark_all_read(session: WriteSession) -> MarkedRead:
    return MarkedRead(marked=await NotificationService(session).mark_all_read(signed_in_user_id()))


@router.post(
    "/{notification_id}/read",
    summary="Mark a notification as read",
    responses=problem_responses(404, 503),
    openapi_extra=signed_in(),
)
async def mark_read(session: WriteSession, notification_id: ResourceId) -> Notification:
    """One that is read already stays as it is."""
    marked = await NotificationService(session).mark_read(signed_in_user_id(), notification_id)
    return Notification.model_validate(marked)


@router.delete(
    "/{notification_id}",
    summary="Delete a notification",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 503),
    openapi_extra=signed_in(),
)
async def delete_notification(session: WriteSession, notification_id: ResourceId) -> None:
    await NotificationService(session).remove(signed_in_user_id(), notification_id)
