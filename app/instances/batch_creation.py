"""Batch create: an uploaded CSV in, a verdict for every row out.

1. The file is judged outside the event loop (file_judge, csv_rows).
2. Every row is settled against the file's other rows and the database, by set-based look-ups (settlement).
3. Good rows are written in chunks, one transaction each, or all in one when the batch is atomic (chunk_writer).

The look-ups of step 2 can be out of date when step 3 writes. Constraints decide such races: a chunk that one refuses
is looked up again, the rows that another writer took are `failed`, and the rest is written.
"""

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import structlog
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import record
from app.database import Database
from app.errors import AppError, Conflict, FileEmpty, FileTypeNotAccepted, FileUnparsable, ParameterError, SpaceNotFound
from app.instances import batch_repository as repository
from app.instances.batch_report import CreationReport, RowOutcome, RowStatus
from app.instances.batch_transactions import Attempt, BatchTransactions, Evidence
from app.instances.chunk_writer import Chunk, conflict, updated
from app.instances.creation_batch import CreationBatch, CreationRequest, not_written
from app.instances.creation_lookups import known_rows, lost_rows
from app.instances.csv_file import FileFault, FileRefused
from app.instances.csv_rows import JudgedFile
from app.instances.file_judge import FileJudge
from app.instances.judged_rows import BadRow, GoodRow
from app.instances.ordered_work import in_order
from app.instances.quotas import Quotas
from app.instances.settlement import Settlement
from app.spaces.service import SpaceArchived, SpaceService

log = structlog.get_logger(__name__)

_batch_evidence = Evidence("batch", None, None)
_error_by_fault: dict[FileFault, type[AppError]] = {
    FileFault.TYPE_NOT_ACCEPTED: FileTypeNotAccepted,
    FileFault.UNPARSABLE: FileUnparsable,
    FileFault.EMPTY: FileEmpty,
}


class _RowsLost(Exception):
    """Another writer was faster with some rows of an atomic batch; its transaction is rolled back."""

    def __init__(self, outcomes: Sequence[RowOutcome]) -> None:
        super().__init__(f"{len(outcomes)} rows were lost")
        self.outcomes = outcomes


class InstanceBatchCreationService:
    """Opens one transaction a chunk, up to `connections` at once (one on SQLite), bounded beside those of requests."""

    def __init__(self, database: Database, judge: FileJudge, *, chunk_rows: int, connections: int) -> None:
        self._transactions = BatchTransactions(database)
        self._database = database
        self._slots = database.batch_connections
        self._connections = 1 if database.is_sqlite else connections
        self._judge = judge
        self._chunk_rows = chunk_rows

    async def create(self, upload: Path, request: CreationRequest) -> CreationReport:
        """Imports the file and reports every row.

        Raises FileTypeNotAccepted, FileUnparsable or FileEmpty for a file that cannot be judged, SpaceNotFound,
        SpaceArchived, and for an atomic batch ParameterError (a row is invalid) or Conflict (another writer was
        faster), both with the report; then nothing was written. A chunk that fails does not undo those before it: the
        report tells.
        """
        with TemporaryDirectory(dir=upload.parent) as directory:
            frames = Path(directory) / "frames"
            judged = await self._judged(upload, frames, request)
            async with self._slots:
                batch = await self._settled(frames, judged, request)
                if request.dry_run:
                    return await self._foreseen(batch)
                if request.atomic:
                    return await self._written_at_once(batch)
            return await self._written(batch)

    async def _judged(self, upload: Path, frames: Path, request: CreationRequest) -> JudgedFile:
        try:
            return await self._judge.judge(upload, frames, request.encoding, request.ignore_unknown_columns)
        except FileRefused as refused:
            errors = [
                {key: value for key in detail.__slots__ if (value := getattr(detail, key)) is not None}
                for detail in refused.details
            ]
            members = {"errors": errors} if errors else {}
            raise _error_by_fault[refused.fault](refused.message, members=members) from None

    async def _settled(self, frames: Path, judged: JudgedFile, request: CreationRequest) -> CreationBatch:
        async with self._database.looking_up(repository.instances) as session:
            spaces = SpaceService(session)
            space = await spaces.resolve_open(request.space_id)
            quotas = Quotas(space.quota_rows, space.quota_instances, await spaces.room(space))
            settlement = Settlement(judged, request.on_existing, quotas)
            batch = CreationBatch(request, frames, judged, space, uuid4(), settlement.decisions, {})
            async for rows in batch.chunks(self._chunk_rows):
                good = [row for row in rows if isinstance(row, GoodRow)]
                settlement.settle(rows, await known_rows(session, batch, good))
        return batch

    async def _foreseen(self, batch: CreationBatch) -> CreationReport:
        """The report of a dry run: the statuses that would be, without ids."""
        report, writer = batch.report(), batch.writer()
        async with self._database.looking_up(repository.instances) as session:
            async for rows in batch.chunks(self._chunk_rows):
                chunk = batch.writable(rows)
                ids = list(chunk.update_ids.values())
                stored = await repository.stored_instances(session, ids, lock=False) if ids else {}
                changes = writer.changes(chunk, stored)
                foreseen = [
                    updated(row, key, changes[key])
                    if (key := chunk.update_ids.get(row.line)) is not None
                    else RowOutcome(row.line, row.name, RowStatus.CREATED)
                    for row in chunk.rows
                ]
                await report.add([outcome.without_id() for outcome in batch.in_order(rows, foreseen)])
        return report

    async def _written(self, batch: CreationBatch) -> CreationReport:
        report = batch.report()

        async def written(rows: list[GoodRow | BadRow]) -> list[RowOutcome]:
            chunk = batch.writable(rows)
            async with self._slots:
                return batch.in_order(rows, await self._apply(batch, chunk))

        chunks = batch.chunks(self._chunk_rows)
        async with aclosing(in_order(chunks, written, at_once=self._connections)) as outcomes:
            async for each in outcomes:
                await report.add(each)
        await self._record_afterwards(batch, report)
        return report

    async def _apply(self, batch: CreationBatch, chunk: Chunk) -> list[RowOutcome]:
        """Writes the chunk in a transaction of its own, around the rows that another writer took meanwhile.

        When the database fails, the chunk's rows are `failed`, and so are all that come after them.
        """
        if not chunk.rows:
            return []
        if not batch.progress.is_given_up:
            try:
                return await self._apply_or_raise(batch, chunk)
            except Exception as error:
                batch.progress.is_given_up = True
                log.error("a chunk was not written, nor are those after it", line=chunk.rows[0].line, exc_info=error)
        message = "the database failed; what was written before this row stands"
        return [not_written(row, message) for row in chunk.rows]

    async def _apply_or_raise(self, batch: CreationBatch, chunk: Chunk) -> list[RowOutcome]:
        async def work(session: AsyncSession) -> Attempt[list[RowOutcome]]:
            outcomes = await batch.writer().write(session, chunk)
            return Attempt(outcomes, _evidence_of(outcomes))

        try:
            return await self._transactions.run(batch.batch_id, work)
        except (SpaceArchived, SpaceNotFound) as error:
            return [conflict(row, f"meanwhile {error.detail}", None) for row in chunk.rows]
        except (IntegrityError, DataError) as error:
            log.info("a chunk met another writer", line=chunk.rows[0].line, reason=str(error.orig))
            return await self._apply_around(batch, chunk)

    async def _apply_around(self, batch: CreationBatch, chunk: Chunk) -> list[RowOutcome]:
        lost = await lost_rows(self._database, batch, chunk)
        if lost:
            rest = [row for row in chunk.rows if row.line not in lost]
            return [*lost.values(), *await self._apply(batch, Chunk(rest, chunk.update_ids))]
        # Nothing to see any more of what stood in the way. Halving always ends, at the worst with the row itself.
        if len(chunk.rows) == 1:
            return [conflict(chunk.rows[0], "another writer was changing what this row refers to")]
        left, right = chunk.halves()
        return [*await self._apply(batch, left), *await self._apply(batch, right)]

    async def _written_at_once(self, batch: CreationBatch) -> CreationReport:
        if batch.decisions.invalid:
            report = await self._refused(batch, {})
            count = batch.decisions.invalid
            message = (
                f"{count} row{'s are' if count > 1 else ' is'} invalid and the batch is atomic: nothing was written"
            )
            raise ParameterError(message, members={"report": report.fragment()})

        async def work(session: AsyncSession) -> Attempt[CreationReport]:
            report, failed = batch.report(), []
            async for rows in batch.chunks(self._chunk_rows):
                written = await batch.writer().write(session, batch.writable(rows))
                await report.add(batch.in_order(rows, written))
                failed += [outcome for outcome in written if outcome.status is RowStatus.FAILED]
            if failed:
                raise _RowsLost(failed)
            await record(session, batch.audit_entry(report))
            return Attempt(report, _batch_evidence)

        try:
            return await self._transactions.run(batch.batch_id, work)
        except (IntegrityError, DataError, _RowsLost) as error:
            log.info("an atomic batch met another writer", reason=str(getattr(error, "orig", error)))
            lost = {outcome.line: outcome for outcome in error.outcomes} if isinstance(error, _RowsLost) else {}
            async for rows in batch.chunks(self._chunk_rows):
                lost |= await lost_rows(self._database, batch, batch.writable(rows))
            report = await self._refused(batch, lost)
            message = "another writer changed what the batch refers to, and the batch is atomic: nothing was written"
            raise Conflict(message, members={"report": report.fragment()}) from error

    async def _refused(self, batch: CreationBatch, lost: dict[int, RowOutcome]) -> CreationReport:
        """The report of an atomic batch of which nothing was written."""
        report = batch.report()
        async for rows in batch.chunks(self._chunk_rows):
            chunk = batch.writable(rows)
            message = "not written: the batch is atomic, and other rows stand in its way"
            await report.add(
                batch.in_order(rows, [lost.get(row.line) or not_written(row, message) for row in chunk.rows])
            )
        return report

    async def _record_afterwards(self, batch: CreationBatch, report: CreationReport) -> None:
        """The batch's own audit entry. Should it fail, the report is still worth more than an error."""

        async def work(session: AsyncSession) -> Attempt[None]:
            await record(session, batch.audit_entry(report))
            return Attempt(None, _batch_evidence)

        try:
            await self._transactions.run(batch.batch_id, work)
        except Exception as error:
            log.error("the batch's audit entry was not written", batch_id=str(batch.batch_id), exc_info=error)


def _evidence_of(outcomes: Sequence[RowOutcome]) -> Evidence | None:
    """Each changed instance has an audit entry; the first one's is as good as any."""
    for outcome in outcomes:
        if outcome.status in (RowStatus.CREATED, RowStatus.UPDATED):
            return Evidence("instance", outcome.instance_id, outcome.name)
    return None
