"""Connection tests, as they pass between layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from app.syncs.adapters.port import ServerCheck
from app.syncs.outcomes import SyncError

GOOD_FOR = timedelta(hours=1)
STALE_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """`check` of a server that answered, or why it did not."""

    check: ServerCheck | None = None
    failure: SyncError | None = None

    @property
    def round_trip_ms(self) -> float | None:
        return None if self.check is None else round(self.check.round_trip_seconds * 1000, 2)

    @property
    def version(self) -> str | None:
        return None if self.check is None else self.check.version

    def as_json(self) -> dict[str, Any]:
        """As an item of an operation tells it."""
        if self.failure is not None:
            return {"error": self.failure.as_json()}
        return {"version": self.version, "round_trip_ms": self.round_trip_ms}


class ConnectionQuality(StrEnum):
    """By how long ago the service was last signed in: less than an hour, less than a day, longer, never."""

    GOOD = "good"
    STALE = "stale"
    POOR = "poor"
    UNKNOWN = "unknown"


class ConnectionStatus(NamedTuple):
    status: ConnectionQuality
    last_connected_at: datetime | None
    version: str | None
    unreachable_since: datetime | None


@dataclass(frozen=True, slots=True)
class OrderedTest:
    """What an operation tests."""

    instance_ids: tuple[int, ...]

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "OrderedTest":
        return cls(tuple(stored["instance_ids"]))

    def as_json(self) -> dict[str, Any]:
        return {"instance_ids": list(self.instance_ids)}


def quality(last_connected_at: datetime | None, now: datetime) -> ConnectionQuality:
    if last_connected_at is None:
        return ConnectionQuality.UNKNOWN
    age = now - last_connected_at
    if age < GOOD_FOR:
        return ConnectionQuality.GOOD
    return ConnectionQuality.STALE if age < STALE_FOR else ConnectionQuality.POOR
