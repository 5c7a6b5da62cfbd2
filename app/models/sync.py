"""Syncs: a session for each batch, a record for each instance and kind in it; when they run; who cannot be reached."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Json, Name, OwnedBySpace, Timestamped, UtcDateTime, enum_column
from app.models.instance import SyncPolicy


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
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SyncSession(OwnedBySpace, Timestamped, Base):
    """One batch. It outlives its operation, which retention removes earlier."""

    __tablename__ = "sync_sessions"
    __table_args__ = (Index("ix_sync_sessions_space_id", "space_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    operation_id: Mapped[int | None] = mapped_column(Id, index=True, doc="The operation that does it; no foreign key")
    kinds: Mapped[list[str]] = mapped_column(Json, doc="SyncKind values")
    trigger: Mapped[SyncTrigger] = mapped_column(enum_column(SyncTrigger))
    state: Mapped[SyncState] = mapped_column(enum_column(SyncState))
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SyncSlice(Base):
    """Some of the instances that a session is to sync, in their order; they are named without a foreign key, and may be
    gone. One list of all would be read whole, however many there are, by whoever looks at one of them."""

    __tablename__ = "sync_slices"

    session_id: Mapped[int] = mapped_column(ForeignKey("sync_sessions.id", ondelete="CASCADE"), primary_key=True)
    first_position: Mapped[int] = mapped_column(
        Integer, primary_key=True, autoincrement=False, doc="Of the items of the session's operation, from 1 on"
    )
    instance_ids: Mapped[list[int]] = mapped_column(Json)


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
    unreachable_since: Mapped[datetime | None] = mapped_column(
        UtcDateTime, doc="Since when the endpoint could not be reached, as known at this record's end"
    )
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SyncEndpoint(Base):
    """What syncs know of reaching a host and port; a row only while it cannot be reached. No instance owns it: several
    registered ones can be the same server."""

    __tablename__ = "sync_endpoints"

    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    port: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    failures: Mapped[int] = mapped_column(Integer, doc="In a row")
    unreachable_since: Mapped[datetime] = mapped_column(UtcDateTime)
    retry_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="Nobody tries before; null while all may")
    error_kind: Mapped[str] = mapped_column(String(32), doc="Of the last failure")


class InstanceSyncPlan(Base):
    """When the instance's sync policy is next due. No row, or one of another policy: it is due now."""

    __tablename__ = "instance_sync_plans"

    instance_id: Mapped[int] = mapped_column(
        ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    policy: Mapped[SyncPolicy] = mapped_column(enum_column(SyncPolicy))
    next_sync_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Schedule(OwnedBySpace, Timestamped, Base):
    """Syncs of the space's instances that a filter selects, at the times that a cron expression names."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("space_id", "name"),
        Index(
            "ix_schedules_next_run_at",
            "next_run_at",
            postgresql_where=text("NOT paused"),
            sqlite_where=text("NOT paused"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    cron: Mapped[str] = mapped_column(String(100), doc="Five fields: minute, hour, day of month, month, day of week")
    timezone: Mapped[str] = mapped_column(String(64), doc="IANA name, in which the cron expression is read")
    kinds: Mapped[list[str]] = mapped_column(Json, doc="SyncKind values")
    filter: Mapped[dict[str, Any]] = mapped_column(Json, doc="As GET /instances takes it, without status")
    paused: Mapped[bool] = mapped_column(default=False, server_default=false())
    next_run_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="Null when it never comes again")
    last_run_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="When it was last started")
    last_operation_id: Mapped[int | None] = mapped_column(Id, doc="What that started; no foreign key")
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
