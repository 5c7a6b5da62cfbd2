"""The values that pass between the routes, the service and the repository of notifications."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class NotificationRecord:
    """What it speaks of is named by type and id, and may be gone. `read_at` None is unread."""

    id: int
    kind: str
    title: str
    body: str | None
    resource_type: str | None
    resource_id: int | None
    created_at: datetime
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class NotificationPage:
    items: list[NotificationRecord]
    next_cursor: str | None
    total: int | None
