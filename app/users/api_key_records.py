"""The values that pass between the routes, the service and the repository of API keys."""

from dataclasses import dataclass
from datetime import datetime

from app.models.base import utc_now


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """What is known of a key; the key itself is not."""

    id: int
    user_id: int
    name: str
    prefix: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= utc_now()


@dataclass(frozen=True, slots=True)
class ApiKeyPage:
    items: list[ApiKeyRecord]
    next_cursor: str | None
    total: int | None
