"""What a batch did, item by item: the values that both batch services report, and their JSON.

A report can hold a hundred thousand items, so it is turned into JSON piece by piece while the batch runs: no step
holds the event loop for long, and only the bytes are kept.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from app.database.bulk_loads import TURN_ROWS
from app.instances.judged_rows import RowError
from app.models.audit import AuditOutcome


class RowStatus(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    INVALID = "invalid"
    FAILED = "failed"


class BatchOutcome(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


AUDIT_OUTCOME = {
    BatchOutcome.COMPLETE: AuditOutcome.SUCCEEDED,
    BatchOutcome.PARTIAL: AuditOutcome.PARTIAL,
    BatchOutcome.FAILED: AuditOutcome.FAILED,
}


class RowOutcome(NamedTuple):
    line: int
    name: str | None
    status: RowStatus
    instance_id: int | None = None
    errors: tuple[RowError, ...] = ()

    def without_id(self) -> "RowOutcome":
        return self._replace(instance_id=None)

    def as_json(self) -> dict[str, Any]:
        item: dict[str, Any] = {"line": self.line, "name": self.name, "status": self.status.value}
        if self.status not in (RowStatus.INVALID, RowStatus.FAILED):
            item["instance_id"] = self.instance_id
        if self.errors:
            item["errors"] = self.errors_as_json()
        return item

    def errors_as_json(self) -> list[dict[str, Any]]:
        return [{key: value for key, value in error._asdict().items() if value is not None} for error in self.errors]


@dataclass(slots=True)
class CreationReport:
    """Collects row outcomes in the order of the file."""

    encoding: str
    delimiter: str
    dry_run: bool
    counts: Counter[RowStatus] = field(default_factory=Counter)
    _pieces: list[bytes] = field(default_factory=list)

    async def add(self, outcomes: Sequence[RowOutcome]) -> None:
        """Takes the next outcomes of the file, with a turn for everybody else's requests every few hundred."""
        for start in range(0, len(outcomes), TURN_ROWS):
            some = outcomes[start : start + TURN_ROWS]
            self.counts.update(outcome.status for outcome in some)
            self._pieces.append(orjson.dumps([outcome.as_json() for outcome in some])[1:-1])
            await asyncio.sleep(0)

    @property
    def outcome(self) -> BatchOutcome:
        """Complete when no row is invalid or failed, failed when some are and nothing was written, else partial."""
        if not self.counts[RowStatus.INVALID] and not self.counts[RowStatus.FAILED]:
            return BatchOutcome.COMPLETE
        written = self.counts[RowStatus.CREATED] + self.counts[RowStatus.UPDATED]
        return BatchOutcome.PARTIAL if written else BatchOutcome.FAILED

    def counts_as_json(self) -> dict[str, int]:
        return {"rows": self.counts.total(), **{status.value: self.counts[status] for status in RowStatus}}

    def pieces(self) -> list[bytes]:
        """The report as one JSON document, in pieces."""
        head = {
            "outcome": self.outcome.value,
            "dry_run": self.dry_run,
            "counts": self.counts_as_json(),
            "encoding": self.encoding,
            "delimiter": self.delimiter,
        }
        return joined_report(head, self._pieces)

    def fragment(self) -> orjson.Fragment:
        """The report as a member of a larger document."""
        return orjson.Fragment(b"".join(self.pieces()))


def joined_report(head: Mapping[str, Any], item_pieces: Sequence[bytes]) -> list[bytes]:
    """`head` with an `items` list made of the pieces, each the inside of a JSON list."""
    pieces = [orjson.dumps(head)[:-1], b',"items":[']
    for number, piece in enumerate(item_pieces):
        pieces += [b",", piece] if number else [piece]
    return [*pieces, b"]}"]
