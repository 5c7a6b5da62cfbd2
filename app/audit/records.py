"""The values that pass between the routes, the service and the repository."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.models.audit import AuditOutcome


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An entry as it is shown; see app.models.audit."""

    id: int
    occurred_at: datetime
    actor_id: int | None
    actor_name: str | None
    api_key_prefix: str | None
    client_address: str | None
    action: str
    resource_type: str
    resource_id: int | None
    resource_name: str | None
    space_id: int | None
    outcome: AuditOutcome
    changes: dict[str, Any] | None
    batch_id: UUID | None
    request_id: str | None
    method: str | None
    path: str | None
    status: int | None
    duration_ms: int | None
    sequence: int | None
    seal: str | None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What an entry must be; None filters nothing. `actor` is a user's name or id, an `action` that ends with a colon
    stands for all of that resource. `since` is included, `until` is not."""

    actor: str | None = None
    api_key_prefix: str | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: int | None = None
    outcome: AuditOutcome | None = None
    batch_id: UUID | None = None
    request_id: str | None = None
    space_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditPage:
    items: list[AuditRecord]
    next_cursor: str | None
    total: int | None
