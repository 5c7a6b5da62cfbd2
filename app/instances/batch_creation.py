"""Batch create: an uploaded CSV in, a verdict for every row out.

1. The file is judged outside the event loop (file_judge, csv_rows).
2. Every row is settled against the file's other rows and the database, by set-based look-ups (settlement).
3. Good rows are written in chunks, one transaction each, or all in one when the batch is atomic (chunk_writer).

The look-ups of step 2 can be out of date when step 3 writes. Constraints decide such races: a chunk that one refuses
is looked up again, the rows that another writer took are `failed`, and the rest is written.
"""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import record
from app.database import Database
from app.errors import AppError, Conflict, FileEmpty, FileTypeNotAccepted, FileUnparsable, ParameterError
from app.instances import batch_repository as repository
from app.instances.atomic_import import AtomicImport, RowsLost
from app.instances.batch_report import CreationReport, RowOutcome
from app.instances.batch_transactions import Attempt, BatchTransactions
from app.instances.chunk_applier import ChunkApplier
from app.instances.chunk_writer import Chunk
from app.instances.creation_batch import CreationBatch, CreationRequest, JudgedUpload, not_written
from app.instances.creation_lookups import foreseen_rows, known_rows
from app.instances.csv_file import FileFault, FileRefused
from app.instances.file_judge import FileJudge
from app.instances.judged_rows import BadRow, GoodRow
from app.instances.kept_judgement import JudgementPaths, judged_once
from app.instances.ordered_work import in_order
from app.instances.quotas import Quotas
from app.instances.row_ledger import NoLedger, recorded
from app.instances.settlement import Settlement
from app.planner import looking_up, refresh_statistics
from app.spaces.service import SpaceService

log = structlog.get_logger(__name__)

_error_by_fault: dict[FileFault, type[AppError]] = {
    FileFault.TYPE_NOT_ACCEPTED: FileTypeNotAccepted,
    FileFault.UNPARSABLE: FileUnparsable,
    FileFault.EMPTY: FileEmpty,
}


class _ReportLedger(NoLedger):
    """Collects the outcomes of a transaction, which may be run again."""

    def __init__(self, batch: CreationBatch) -> None:
        super().__init__(batch.batch_id)
        self._batch = batch
        self.report = batch.report()

    async def hold(self, session: AsyncSession) -> None:
        self.report = self._batch.report()

    async def note(self, session: AsyncSession, outcomes: Sequence[RowOutcome]) -> None:
        await self.report.add(outcomes)


class InstanceBatchCreationService:
    """Opens one transaction a chunk, up to `connections` at once (one on SQLite), bounded beside those of requests."""

    def __init__(self, database: Database, judge: FileJudge, *, chunk_rows: int, connections: int) -> None:
        self._transactions = BatchTransactions(database)
        self._atomic = AtomicImport(database, chunk_rows)
        self._database = database
        self._slots = database.batch_connections
        self._connections = 1 if database.is_sqlite else connections
        self._judge = judge
        self._chunk_rows = chunk_rows

    async def judge(self, source: Path, kept: JudgementPaths, request: CreationRequest) -> JudgedUpload:
        """Judges every row of the file, unless that was kept before.

        Raises FileTypeNotAccepted, FileUnparsable or FileEmpty for a file that cannot be judged.
        """
        try:
            ignores = request.ignore_unknown_columns
            judged = await judged_once(self._judge, source, kept, request.encoding, ignores)
        except FileRefused as refused:
            errors = [
                {key: value for key in detail.__slots__ if (value := getattr(detail, key)) is not None}
                for detail in refused.details
            ]
            members = {"errors": errors} if errors else {}
            raise _error_by_fault[refused.fault](refused.message, members=members) from None
        return JudgedUpload(kept.frames, judged)

    async def create(self, upload: JudgedUpload, request: CreationRequest) -> CreationReport:
        """Imports the judged rows and reports every one.

        Raises SpaceNotFound, SpaceArchived, and for an atomic batch ParameterError (a row is invalid) or Conflict
        (another writer was faster), both with the report; then nothing was written. A chunk that fails does not undo
        those before it: the report tells.
        """
        async with self._slots:
            batch = await self.settled(upload, request, uuid4())
            if request.dry_run:
                return await self._foreseen(batch)
            if request.atomic:
                return await self._written_at_once(batch)
        return await self._written(batch)

    async def settled(self, upload: JudgedUpload, request: CreationRequest, batch_id: UUID) -> CreationBatch:
        """The batch with every row decided. Raises SpaceNotFound or SpaceArchived."""
        await refresh_statistics(self._database, repository.instances)
        async with looking_up(self._database) as session:
            spaces = SpaceService(session)
            space = await spaces.resolve_open(request.space_id)
            quotas = Quotas(space.quota_rows, space.quota_instances, await spaces.room(space))
            settlement = Settlement(upload.file, request.on_existing, quotas)
            batch = CreationBatch(request, upload.frames, upload.file, space, batch_id, settlement.decisions, {})
            async for rows in batch.chunks(self._chunk_rows):
                good = [row for row in rows if isinstance(row, GoodRow)]
                settlement.settle(rows, await known_rows(session, batch, good))
        return batch

    async def refuse_invalid(self, batch: CreationBatch) -> None:
        """Raises ParameterError, with the report, when a row of an atomic batch is invalid."""
        count = batch.decisions.invalid
        if count:
            report = await self._refused(batch, {})
            message = (
                f"{count} row{'s are' if count > 1 else ' is'} invalid and the batch is atomic: nothing was written"
            )
            raise ParameterError(message, members={"report": report.fragment()})

    async def _foreseen(self, batch: CreationBatch) -> CreationReport:
        """The report of a dry run."""
        report = batch.report()
        async with looking_up(self._database) as session:
            async for rows in batch.chunks(self._chunk_rows):
                foreseen = await foreseen_rows(session, batch, batch.writable(rows))
                await report.add([outcome.without_id() for outcome in batch.in_order(rows, foreseen)])
        return report

    async def _written(self, batch: CreationBatch) -> CreationReport:
        report = batch.report()
        applier = ChunkApplier(self._database, NoLedger(batch.batch_id), partial(_give_up, batch))

        async def written(rows: list[GoodRow | BadRow]) -> list[RowOutcome]:
            async with self._slots:
                return batch.in_order(rows, await applier.apply(batch, batch.writable(rows)))

        chunks = batch.chunks(self._chunk_rows)
        async with aclosing(in_order(chunks, written, at_once=self._connections)) as outcomes:
            async for each in outcomes:
                await report.add(each)
        await self._record_afterwards(batch, report)
        return report

    async def _written_at_once(self, batch: CreationBatch) -> CreationReport:
        await self.refuse_invalid(batch)
        ledger = _ReportLedger(batch)

        async def complete(session: AsyncSession) -> None:
            await record(session, batch.audit_entry(ledger.report))

        try:
            await self._atomic.write(batch, ledger, recorded(batch.batch_id, "batch", None, None), complete)
        except RowsLost as lost:
            report = await self._refused(batch, dict(lost.outcomes))
            raise Conflict(str(lost), members={"report": report.fragment()}) from lost
        return ledger.report

    async def _refused(self, batch: CreationBatch, lost: dict[int, RowOutcome]) -> CreationReport:
        """The report of an atomic batch of which nothing was written."""
        report = batch.report()
        async for outcomes in self._atomic.refused(batch, lost):
            await report.add(outcomes)
        return report

    async def _record_afterwards(self, batch: CreationBatch, report: CreationReport) -> None:
        """The batch's own audit entry. Should it fail, the report is still worth more than an error."""

        async def work(session: AsyncSession) -> Attempt[None]:
            await record(session, batch.audit_entry(report))
            return Attempt(None, recorded(batch.batch_id, "batch", None, None))

        try:
            await self._transactions.run(work)
        except Exception as error:
            log.error("the batch's audit entry was not written", batch_id=str(batch.batch_id), exc_info=error)


def _give_up(batch: CreationBatch, chunk: Chunk, error: Exception | None) -> list[RowOutcome]:
    """When the database fails, the chunk's rows are `failed`, and so are all that come after them."""
    batch.progress.is_given_up = True
    if error is not None:
        line = chunk.rows[0].line if chunk.rows else None
        log.error("a chunk was not written, nor are those after it", line=line, exc_info=error)
    message = "the database failed; what was written before this row stands"
    return [*chunk.decided, *(not_written(row, message) for row in chunk.rows)]
