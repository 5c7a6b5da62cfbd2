"""Background work, and what became of each of its items: the source of truth on both databases."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer, String, Uuid, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Id, Json, Name, Timestamped, UtcDateTime, enum_column


class OperationKind(StrEnum):
    INSTANCE_IMPORT = "instance_import"
    INSTANCE_DELETION = "instance_deletion"
    INSTANCE_SYNC = "instance_sync"
    CONNECTION_TEST = "connection_test"

    @property
    def needs_upload(self) -> bool:
        return self is OperationKind.INSTANCE_IMPORT


class OperationState(StrEnum):
    """The last four are ends; cancelled and failed ones can be resumed."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        return self not in (OperationState.QUEUED, OperationState.RUNNING)


_unfinished = text("state IN ('queued', 'running')")


class Operation(Timestamped, Base):
    """`attempt` counts the workers that took it, and fences: whoever writes an item must hold the current one."""

    __tablename__ = "operations"
    __table_args__ = (
        Index("ix_operations_user_id_id", "user_id", "id"),
        Index("ix_operations_id_unfinished", "id", postgresql_where=_unfinished, sqlite_where=_unfinished),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    kind: Mapped[OperationKind] = mapped_column(enum_column(OperationKind))
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), doc="The owner; null: the service, for what a schedule asks for"
    )
    space_id: Mapped[int | None] = mapped_column(Id, doc="The one that it works in, if it is one; no foreign key")
    state: Mapped[OperationState] = mapped_column(enum_column(OperationState), default=OperationState.QUEUED)
    request: Mapped[dict[str, Any]] = mapped_column(Json, doc="What was asked for, as the kind's handler reads it")
    origin: Mapped[dict[str, Any]] = mapped_column(Json, doc="The call that asked, for the audit trail and for rights")
    upload_id: Mapped[str | None] = mapped_column(ForeignKey("uploads.id", ondelete="SET NULL"), index=True)
    batch_id: Mapped[UUID] = mapped_column(Uuid, doc="Shared by its audit entries")
    done: Mapped[int] = mapped_column(Integer, default=0, server_default="0", doc="Items, as last noted")
    total: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    counts: Mapped[dict[str, int]] = mapped_column(Json, default=dict, doc="Items by status, as last noted")
    attempt: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    attempt_done: Mapped[int] = mapped_column(
        Integer, default=0, server_default="0", doc="Items that were there when the attempt began"
    )
    deaths: Mapped[int] = mapped_column(
        Integer, default=0, server_default="0", doc="Attempts in a row that ended without a word and without an item"
    )
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    error: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="code and message")
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="When the first attempt began")
    attempt_started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1", doc="Raised by every change")

    items: Mapped[list["OperationItem"]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, lazy="raise"
    )


class OperationItem(Base):
    """What became of one row or one id; written in the transaction of the change that it reports. It outlives the
    instance, which it names without a foreign key."""

    __tablename__ = "operation_items"

    operation_id: Mapped[int] = mapped_column(ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, doc="The line of the file, or 1 for the first id")
    status: Mapped[str] = mapped_column(String(16))
    instance_id: Mapped[int | None] = mapped_column(Id)
    name: Mapped[str | None] = mapped_column(Name)
    detail: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="Why, or what went: further members of the item")
