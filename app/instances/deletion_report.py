"""What a batch deletion found and did, as values, and their JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from app.instances.batch_report import BatchOutcome, joined_report
from app.instances.cascade import DeletionMode

# Items are turned into JSON this many at a time, so that a long report does not hold the event loop.
PIECE_ITEMS = 1_000


class ItemStatus(StrEnum):
    DELETED = "deleted"
    MISSING = "missing"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FoundBlocker:
    """`count` is how many rows block; None where that has no meaning."""

    code: str
    message: str
    count: int | None

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"code": self.code, "message": self.message}
        return shown if self.count is None else shown | {"count": self.count}


@dataclass(frozen=True, slots=True)
class ItemError:
    """`code` is from the numeric catalogue."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class DeletionOutcome:
    """What became of one id. `rows_deleted` counts by table, without the instance's own row."""

    instance_id: int
    status: ItemStatus
    name: str | None = None
    rows_deleted: Mapping[str, int] = field(default_factory=dict)
    blockers: tuple[FoundBlocker, ...] = ()
    error: ItemError | None = None
    is_retryable: bool = False

    def as_json(self) -> dict[str, Any]:
        item: dict[str, Any] = {"instance_id": self.instance_id}
        if self.name is not None:
            item["name"] = self.name
        item["status"] = self.status.value
        if self.status is ItemStatus.DELETED:
            item["rows_deleted"] = self.rows_deleted
        if self.blockers:
            item["blockers"] = [blocker.as_json() for blocker in self.blockers]
        if self.error is not None:
            item["error"] = {"code": self.error.code, "message": self.error.message}
            item["retryable"] = self.is_retryable
        return item


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """The outcomes in the order in which the ids were given."""

    mode: DeletionMode
    dry_run: bool
    items: Sequence[DeletionOutcome]

    @property
    def outcome(self) -> BatchOutcome:
        """Complete when every id was deleted, failed when none was, else partial."""
        deleted = sum(item.status is ItemStatus.DELETED for item in self.items)
        if deleted == len(self.items):
            return BatchOutcome.COMPLETE
        return BatchOutcome.PARTIAL if deleted else BatchOutcome.FAILED

    def counts(self) -> dict[str, int]:
        found = Counter(item.status for item in self.items)
        return {"requested": len(self.items), **{status.value: found[status] for status in ItemStatus}}

    def rows_deleted(self) -> dict[str, int]:
        """Rows by table over all items; in hard mode with the instances' own."""
        total: Counter[str] = Counter()
        for item in self.items:
            total.update(item.rows_deleted)
        if self.mode is DeletionMode.HARD:
            total["instances"] = self.counts()[ItemStatus.DELETED]
        return {table: count for table, count in total.items() if count}

    def pieces(self) -> list[bytes]:
        head = {
            "outcome": self.outcome.value,
            "mode": self.mode.value,
            "dry_run": self.dry_run,
            "counts": self.counts(),
            "rows_deleted": self.rows_deleted(),
        }
        return joined_report(head, in_pieces([item.as_json() for item in self.items]))


def in_pieces(items: Sequence[Mapping[str, Any]]) -> list[bytes]:
    starts = range(0, len(items), PIECE_ITEMS)
    return [orjson.dumps(items[start : start + PIECE_ITEMS])[1:-1] for start in starts]


@dataclass(frozen=True, slots=True)
class PrecheckItem:
    instance_id: int
    name: str
    rows: Mapping[str, int]
    blockers: tuple[FoundBlocker, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "instance_id": self.instance_id,
            "name": self.name,
            "rows": self.rows,
            "blockers": [blocker.as_json() for blocker in self.blockers],
        }


@dataclass(frozen=True, slots=True)
class Precheck:
    """What a deletion would do. `rows` counts by table over all items, `expires_at` is the token's end."""

    plan_token: str
    expires_at: str
    mode: DeletionMode
    items: Sequence[PrecheckItem]
    missing: Sequence[int]

    def pieces(self) -> list[bytes]:
        rows: Counter[str] = Counter()
        for item in self.items:
            rows.update(item.rows)
        blocked = sum(bool(item.blockers) for item in self.items)
        head = {
            "plan_token": self.plan_token,
            "expires_at": self.expires_at,
            "mode": self.mode.value,
            "counts": {
                "requested": len(self.items) + len(self.missing),
                "deletable": len(self.items) - blocked,
                "blocked": blocked,
                "missing": len(self.missing),
            },
            "rows": dict(rows),
            "missing": list(self.missing),
        }
        return joined_report(head, in_pieces([item.as_json() for item in self.items]))
