"""The audit trail: one row for each thing that was changed, and one for each batch.

No foreign keys: an entry outlives whatever it speaks of, so ids are plain numbers and names are text.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Integer, String, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Json, Name, UtcDateTime, enum_column, utc_now


class AuditOutcome(StrEnum):
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    DENIED = "denied"


class AuditEvent(Base):
    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_resource_type_resource_id", "resource_type", "resource_id"),
        # Partial, so that an entry pays for neither until it is sealed, and only while it is not.
        Index(
            "uq_audit_events_sequence",
            "sequence",
            unique=True,
            postgresql_where=text("sequence IS NOT NULL"),
            sqlite_where=text("sequence IS NOT NULL"),
        ),
        Index(
            "ix_audit_events_id_unsealed",
            "id",
            postgresql_where=text("sequence IS NULL"),
            sqlite_where=text("sequence IS NULL"),
        ),
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
    actor_id: Mapped[int | None] = mapped_column(Id, doc="User id; null for the service itself and for strangers")
    actor_name: Mapped[str | None] = mapped_column(Name, doc="As it was then")
    api_key_prefix: Mapped[str | None] = mapped_column(String(16))
    client_address: Mapped[str | None] = mapped_column(String(64))
    method: Mapped[str | None] = mapped_column(String(16))
    path: Mapped[str | None] = mapped_column(String(500))
    status: Mapped[int | None] = mapped_column(Integer, doc="The HTTP status of the answer, if all went well after")
    duration_ms: Mapped[int | None] = mapped_column(Integer, doc="From the request's begin until this was written")
    request_id: Mapped[str | None] = mapped_column(String(64))
    changes: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="before and after, or counts; never a secret")
    sequence: Mapped[int | None] = mapped_column(Id, doc="Its place in the sealed chain; null until it is sealed")
    seal: Mapped[str | None] = mapped_column(String(64), doc="HMAC-SHA256 over the seal before it and this row")


class AuditAnchor(Base):
    """Where the chain begins: before its first entry, after each part that retention has removed at the last one's
    place and seal, and where it was restarted with another key. The newest counts."""

    __tablename__ = "audit_anchors"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sequence: Mapped[int] = mapped_column(Id)
    seal: Mapped[str] = mapped_column(String(64))
    removed: Mapped[int] = mapped_column(Integer, doc="How many entries went")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    unverifiable: Mapped[int | None] = mapped_column(
        Integer, doc="At a restart: how many entries of the lost key are kept"
    )
    anchor_seal: Mapped[str] = mapped_column(String(64), doc="HMAC-SHA256 over this row: nobody else can make one")
