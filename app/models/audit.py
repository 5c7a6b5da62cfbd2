"""The audit trail: one row for each thing that was changed, and one for each batch.

No foreign keys: an entry outlives whatever it speaks of, so ids are plain numbers and names are text.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Json, UtcDateTime, enum_column, utc_now


class AuditOutcome(StrEnum):
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"


class AuditEvent(Base):
    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_resource_type_resource_id", "resource_type", "resource_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    space_id: Mapped[int | None] = mapped_column(Id)
    action: Mapped[str] = mapped_column(String(64), doc="resource:verb, such as instance:create")
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[int | None] = mapped_column(Id)
    resource_name: Mapped[str | None] = mapped_column(String(255))
    outcome: Mapped[AuditOutcome] = mapped_column(enum_column(AuditOutcome))
    batch_id: Mapped[UUID | None] = mapped_column(Uuid, doc="Shared by a batch's own entry and those of its items")
    request_id: Mapped[str | None] = mapped_column(String(64))
    changes: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="before and after, or counts; never a secret")
