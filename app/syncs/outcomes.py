"""What became of instances and kinds in a sync, as its records and its operation's items tell it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.inventory.records import SyncCounts
from app.models.sync import SyncKind, SyncState
from app.operations.records import Item
from app.syncs.failures import ServerFailure
from app.syncs.records import SyncedInstance

MAX_ERROR_CHARACTERS = 2_000
MAX_CODE_CHARACTERS = 32


class ItemStatus(StrEnum):
    """Of an instance in a sync. Partial: some of its kinds failed; refused: it cannot be synced as it is registered."""

    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    MISSING = "missing"
    REFUSED = "refused"


class OwnErrorKind(StrEnum):
    """Kinds of errors of a sync that are not the server's, beside those of failures."""

    DELETED = "deleted"
    DISABLED = "disabled"
    NO_CREDENTIAL = "no_credential"
    # What was found could not be written.
    NOT_RECORDED = "not_recorded"


@dataclass(frozen=True, slots=True)
class SyncError:
    """Why there are no findings, in words that can be stored and shown."""

    kind: str
    message: str
    hint: str
    server_code: str | None = None

    @classmethod
    def of(cls, failure: ServerFailure) -> "SyncError":
        code = failure.server_code
        return cls(
            failure.kind.value,
            storable(failure.message, MAX_ERROR_CHARACTERS),
            storable(failure.hint, MAX_ERROR_CHARACTERS),
            None if code is None else storable(code, MAX_CODE_CHARACTERS),
        )

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message, "hint": self.hint, "server_code": self.server_code}


def storable(text: str, limit: int) -> str:
    """What a server says, in characters that every database stores, and no more than so many of them."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()[:limit]


_NOTHING = SyncCounts()


@dataclass(frozen=True, slots=True)
class KindOutcome:
    """What became of one kind: counts, or why there are none."""

    counts: SyncCounts = _NOTHING
    milliseconds: int | None = None
    error: SyncError | None = None

    @property
    def state(self) -> SyncState:
        return SyncState.SUCCEEDED if self.error is None else SyncState.FAILED

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"milliseconds": self.milliseconds}
        return told | (self.counts._asdict() if self.error is None else {"error": self.error.as_json()})


@dataclass(frozen=True, slots=True)
class InstanceOutcome:
    """What became of an instance. `error` is why it is refused, or what failed every kind."""

    status: ItemStatus
    instance_id: int
    name: str | None = None
    kinds: Mapping[SyncKind, KindOutcome] = field(default_factory=dict)
    error: SyncError | None = None
    unreachable_since: datetime | None = None

    @classmethod
    def of(
        cls,
        instance: SyncedInstance,
        kinds: Mapping[SyncKind, KindOutcome],
        unreachable_since: datetime | None,
    ) -> "InstanceOutcome":
        errors = [each.error for each in kinds.values() if each.error is not None]
        status = ItemStatus.PARTIAL if errors else ItemStatus.SUCCEEDED
        if len(errors) == len(kinds):
            status = ItemStatus.FAILED
        error = errors[0] if status is ItemStatus.FAILED else None
        return cls(status, instance.id, instance.name, kinds, error, unreachable_since)

    @classmethod
    def refused(cls, instance: SyncedInstance, error: SyncError) -> "InstanceOutcome":
        return cls(ItemStatus.REFUSED, instance.id, instance.name, error=error)

    def item(self, position: int) -> Item:
        detail: dict[str, Any] = {}
        if self.kinds:
            detail["kinds"] = {kind.value: outcome.as_json() for kind, outcome in self.kinds.items()}
        if self.error is not None:
            detail["error"] = self.error.as_json()
        if self.unreachable_since is not None:
            detail["unreachable_since"] = self.unreachable_since.isoformat()
        return Item(position, self.status.value, self.instance_id, self.name, detail or None)
