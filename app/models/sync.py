"""Syncs: a session for each batch, a record for each instance and kind in it."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Json, Timestamped, UtcDateTime, enum_column


class SyncKind(StrEnum):
    ACCOUNTS = "accounts"
    CAPACITY = "capacity"
    SETTINGS = "settings"


class SyncTrigger(StrEnum):
    MANUAL = "manual"
    SCHEDULED = "scheduled"


class SyncState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SyncSession(Timestamped, Base):
    __tablename__ = "sync_sessions"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="RESTRICT"), index=True)
    kinds: Mapped[list[str]] = mapped_column(Json, doc="SyncKind values")
    trigger: Mapped[SyncTrigger] = mapped_column(enum_column(SyncTrigger))
    state: Mapped[SyncState] = mapped_column(enum_column(SyncState))
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SyncInstanceRecord(Timestamped, Base):
    """What one sync of one kind did for one instance; the counts are objects (accounts, databases, settings)."""

    __tablename__ = "sync_instance_records"
    __table_args__ = (
        UniqueConstraint("session_id", "instance_id", "kind"),
        # Serves the foreign key and the question that blocks a deletion: is a sync of this instance running?
        Index("ix_sync_instance_records_instance_id_state", "instance_id", "state"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("sync_sessions.id", ondelete="CASCADE"))
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id", ondelete="CASCADE"))
    kind: Mapped[SyncKind] = mapped_column(enum_column(SyncKind))
    state: Mapped[SyncState] = mapped_column(enum_column(SyncState))
    found: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    created: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    updated: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    removed: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    unchanged: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    milliseconds: Mapped[int | None] = mapped_column(Integer, doc="From connecting to the last row written")
    error_kind: Mapped[str | None] = mapped_column(String(32), doc="refused, timed_out, tls, sign_in_refused, …")
    error: Mapped[str | None] = mapped_column(Text, doc="The server's message, without secrets")
    server_code: Mapped[str | None] = mapped_column(String(32), doc="SQLSTATE or the server's error number")
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
