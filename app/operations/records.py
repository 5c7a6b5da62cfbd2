"""Values of operations, as they pass between layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.models.operation import OperationKind, OperationState


class Item(NamedTuple):
    """What became of one row or id. `detail` is further members, as JSON: `errors`, `blockers`, `rows_deleted` …"""

    position: int
    status: str
    instance_id: int | None
    name: str | None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class OperationPlan:
    """An operation that is asked for. `request` is what its handler reads; it holds no secret."""

    kind: OperationKind
    request: Mapping[str, Any]
    batch_id: UUID
    total: int
    space_id: int | None = None
    upload_id: str | None = None


@dataclass(frozen=True, slots=True)
class OperationRecord:
    id: int
    kind: OperationKind
    # None: the service itself, for what a schedule asks for.
    user_id: int | None
    space_id: int | None
    state: OperationState
    request: Mapping[str, Any]
    origin: Mapping[str, Any]
    upload_id: str | None
    batch_id: UUID
    done: int
    total: int
    counts: Mapping[str, int]
    attempt: int
    attempt_done: int
    deaths: int
    cancel_requested: bool
    error: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    attempt_started_at: datetime | None
    finished_at: datetime | None
    revision: int

    @property
    def rate(self) -> float | None:
        """Items a second in this attempt, as last noted; None before the first."""
        if self.attempt_started_at is None or self.done <= self.attempt_done:
            return None
        until = self.finished_at or self.updated_at
        seconds = (until - self.attempt_started_at).total_seconds()
        return (self.done - self.attempt_done) / seconds if seconds > 0 else None

    @property
    def remaining_seconds(self) -> float | None:
        """How long the rest takes at this rate; None when it is not running or nothing can be told yet."""
        rate = self.rate
        if self.state is not OperationState.RUNNING or rate is None:
            return None
        return (self.total - self.done) / rate


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """None is any."""

    kind: OperationKind | None = None
    state: OperationState | None = None


@dataclass(frozen=True, slots=True)
class OperationPage:
    items: Sequence[OperationRecord]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class ItemPage:
    kind: OperationKind
    items: Sequence[Item]
    next_cursor: str | None
    total: int | None
