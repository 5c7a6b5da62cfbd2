"""Bodies of the audit calls."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.models.audit import AuditOutcome


class AuditEntry(BaseModel):
    """One thing that was done, or attempted: who, from where, what, and how it ended."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    occurred_at: datetime
    actor_id: int | None = Field(description="User id; null for strangers and for the service itself")
    actor_name: str | None = Field(description="The user's name at that time; null for strangers")
    api_key_prefix: str | None = Field(description="Of the API key with which it was done")
    client_address: str | None
    action: str = Field(
        description="`resource:verb`; `request:denied` and `request:failed` for calls that came to nothing"
    )
    resource_type: str
    resource_id: int | None
    resource_name: str | None = Field(description="Its name at that time")
    space_id: int | None
    outcome: AuditOutcome
    changes: dict[str, Any] | None = Field(description="What was before and after, or counts; never a secret")
    batch_id: UUID | None = Field(description="Shared by the entries of one batch")
    request_id: str | None = Field(description="The `X-Request-ID` of the call")
    method: str | None
    path: str | None = Field(description="Without the query")
    status: int | None = Field(description="The HTTP status of the answer")
    duration_ms: int | None = Field(description="From the call's begin until this was recorded")
    sequence: int | None = Field(description="Its place in the sealed chain; null for the seconds until it is sealed")
    seal: str | None = Field(description="HMAC over the seal before it and this entry")


class AuditHead(BaseModel):
    """The newest sealed entry. Keep it elsewhere: `muster audit verify --from-head` tells whether it is still there."""

    model_config = ConfigDict(from_attributes=True)

    sequence: int
    seal: str
    entries: int = Field(description="Sealed entries that are kept; after a restart of the chain, those since then")
    unsealed: int = Field(description="Entries that will be sealed next")
    read_at: datetime
