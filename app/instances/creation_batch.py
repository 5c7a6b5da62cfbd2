"""One import under way: what was asked for, where its judged rows are, what is decided, how far it got."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from app.audit.recorder import AuditEntry
from app.instances.batch_report import AUDIT_OUTCOME, CreationReport, RowOutcome, RowStatus
from app.instances.chunk_writer import Chunk, ChunkWriter
from app.instances.csv_rows import JudgedFile
from app.instances.judged_rows import BadRow, GoodRow, RowError, rows_in_chunks
from app.instances.settlement import Decisions, OnExisting
from app.models.audit import AuditOutcome
from app.spaces.records import SpaceLimits


@dataclass(frozen=True, slots=True)
class CreationRequest:
    """How to import. `space_id` None is the default space; `encoding` is `auto` or one of csv_encoding.ENCODINGS."""

    space_id: int | None = None
    dry_run: bool = False
    on_existing: OnExisting = OnExisting.SKIP
    atomic: bool = False
    encoding: str = "auto"
    ignore_unknown_columns: bool = False


@dataclass(frozen=True, slots=True)
class JudgedUpload:
    """An upload whose rows are judged and kept at `frames`."""

    frames: Path
    file: JudgedFile


@dataclass(slots=True)
class Progress:
    """Once the database has failed, nothing more is tried."""

    is_given_up: bool = False


@dataclass(frozen=True, slots=True)
class CreationBatch:
    request: CreationRequest
    frames: Path
    judged: JudgedFile
    space: SpaceLimits
    batch_id: UUID
    decisions: Decisions
    credential_ids: dict[str, int]
    progress: Progress = field(default_factory=Progress)

    def chunks(self, rows: int) -> AsyncGenerator[list[GoodRow | BadRow], None]:
        return rows_in_chunks(self.frames, rows)

    def writer(self) -> ChunkWriter:
        return ChunkWriter(self.space, self.judged.columns, self.credential_ids, self.batch_id)

    def report(self) -> CreationReport:
        return CreationReport(self.judged.encoding, self.judged.delimiter, self.request.dry_run)

    def writable(self, rows: Sequence[GoodRow | BadRow], decisions: Decisions | None = None) -> Chunk:
        """The rows that are to be written, by the batch's decisions, or by those that are about these rows only."""
        decisions = decisions or self.decisions
        good = [row for row in rows if isinstance(row, GoodRow) and row.line not in decisions.outcomes]
        ids = decisions.update_ids
        return Chunk(good, {row.line: ids[row.line] for row in good if row.line in ids} if ids else {})

    def in_order(self, rows: Sequence[GoodRow | BadRow], written: Sequence[RowOutcome]) -> list[RowOutcome]:
        """What was decided and what was written, in the order of the file."""
        decided = self.decisions.outcomes
        by_line = {outcome.line: outcome for outcome in written}
        return [decided[row.line] if row.line in decided else by_line[row.line] for row in rows]

    def audit_entry(self, report: CreationReport) -> AuditEntry:
        entry = audit_entry(self.space.id, self.batch_id, AUDIT_OUTCOME[report.outcome])
        return entry._replace(changes={"counts": report.counts_as_json()})


def audit_entry(space_id: int | None, batch_id: UUID, outcome: AuditOutcome) -> AuditEntry:
    """An import's own entry, without its counts."""
    return AuditEntry(
        action="instance:batch_create",
        resource_type="batch",
        resource_id=None,
        resource_name=None,
        space_id=space_id,
        outcome=outcome,
        batch_id=batch_id,
    )


def not_written(row: GoodRow, message: str) -> RowOutcome:
    return RowOutcome(row.line, row.name, RowStatus.FAILED, errors=(RowError(None, "not_written", message),))
