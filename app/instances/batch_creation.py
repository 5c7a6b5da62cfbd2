"""Batch create: an uploaded CSV in, a verdict for every row out.

1. The file is judged outside the event loop (file_judge, csv_rows).
2. Every row is settled against the file's other rows and the database, by set-based look-ups (settlement).
3. Good rows are written in chunks, one transaction each, or all in one when the batch is atomic (chunk_writer).

The look-ups of step 2 can be out of date when step 3 writes. Constraints decide such races: a chunk that one refuses
is looked up again, the rows that another writer took are `failed`, and the rest is written.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.credentials.service import CredentialService
from app.database import Database
from app.errors import AppError, Conflict, FileEmpty, FileTypeNotAccepted, FileUnparsable, ParameterError
from app.instances import batch_repository as repository
from app.instances.batch_report import AUDIT_OUTCOME, CreationReport, RowOutcome, RowStatus
from app.instances.batch_transactions import Attempt, BatchTransactions, Evidence
from app.instances.chunk_writer import Chunk, ChunkWriter, conflict, updated
from app.instances.csv_file import FileFault, FileRefused
from app.instances.csv_rows import BadRow, GoodRow, JudgedFile, RowError, read_frame
from app.instances.file_judge import FileJudge
from app.instances.settlement import Decisions, Known, OnExisting, Owner, Settlement, endpoint_of
from app.spaces.service import SpaceService

log = structlog.get_logger(__name__)

T = TypeVar("T")

_batch_evidence = Evidence("batch", None)
_error_by_fault: dict[FileFault, type[AppError]] = {
    FileFault.TYPE_NOT_ACCEPTED: FileTypeNotAccepted,
    FileFault.UNPARSABLE: FileUnparsable,
    FileFault.EMPTY: FileEmpty,
}


@dataclass(frozen=True, slots=True)
class CreationRequest:
    """How to import. `space_id` None is the default space; `encoding` is `auto` or one of csv_encoding.ENCODINGS."""

    space_id: int | None = None
    dry_run: bool = False
    on_existing: OnExisting = OnExisting.SKIP
    atomic: bool = False
    encoding: str = "auto"
    ignore_unknown_columns: bool = False


@dataclass(slots=True)
class _Progress:
    """Once the database has failed, nothing more is tried."""

    is_given_up: bool = False


class _RowsLost(Exception):
    """Another writer was faster with some rows of an atomic batch; its transaction is rolled back."""

    def __init__(self, outcomes: Sequence[RowOutcome]) -> None:
        super().__init__(f"{len(outcomes)} rows were lost")
        self.outcomes = outcomes


@dataclass(frozen=True, slots=True)
class _Batch:
    """One import under way: where its judged rows are, what is decided, and what the database knows."""

    request: CreationRequest
    frames: Path
    judged: JudgedFile
    space_id: int
    batch_id: UUID
    decisions: Decisions
    credential_ids: dict[str, int]
    progress: _Progress = field(default_factory=_Progress)

    def writer(self) -> ChunkWriter:
        return ChunkWriter(self.space_id, self.judged.columns, self.credential_ids, self.batch_id)

    def report(self) -> CreationReport:
        return CreationReport(self.judged.encoding, self.judged.delimiter, self.request.dry_run)

    def writable(self, rows: Sequence[GoodRow | BadRow]) -> Chunk:
        good = [row for row in rows if isinstance(row, GoodRow) and row.line not in self.decisions.outcomes]
        ids = self.decisions.update_ids
        return Chunk(good, {row.line: ids[row.line] for row in good if row.line in ids} if ids else {})

    def in_order(self, rows: Sequence[GoodRow | BadRow], written: Sequence[RowOutcome]) -> list[RowOutcome]:
        """What was decided and what was written, in the order of the file."""
        decided = self.decisions.outcomes
        by_line = {outcome.line: outcome for outcome in written}
        return [decided[row.line] if row.line in decided else by_line[row.line] for row in rows]


class InstanceBatchCreationService:
    """Opens one transaction a chunk, on connections that a semaphore bounds beside those of requests."""

    def __init__(self, database: Database, judge: FileJudge, chunk_rows: int) -> None:
        self._transactions = BatchTransactions(database)
        self._database = database
        self._connections = database.batch_connections
        self._judge = judge
        self._chunk_rows = chunk_rows

    async def create(self, upload: Path, request: CreationRequest) -> CreationReport:
        """Imports the file and reports every row.

        Raises FileTypeNotAccepted, FileUnparsable or FileEmpty for a file that cannot be judged, SpaceNotFound, and
        for an atomic batch ParameterError (a row is invalid) or Conflict (another writer was faster), both with the
        report; then nothing was written. A chunk that fails does not undo those before it: the report tells.
        """
        with TemporaryDirectory(dir=upload.parent) as directory:
            frames = Path(directory) / "frames"
            judged = await self._judged(upload, frames, request)
            async with self._connections:
                batch = await self._settled(frames, judged, request)
                if request.dry_run:
                    return await self._foreseen(batch)
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

    async def _settled(self, frames: Path, judged: JudgedFile, request: CreationRequest) -> _Batch:
        settlement = Settlement(judged, request.on_existing)
        credential_ids: dict[str, int] = {}
        async with self._database.looking_up(repository.instances) as session:
            space_id = await SpaceService(session).resolve(request.space_id)
            batch = _Batch(request, frames, judged, space_id, uuid4(), settlement.decisions, credential_ids)
            async for rows in self._chunks(frames):
                good = [row for row in rows if isinstance(row, GoodRow)]
                settlement.settle(rows, await self._known(session, batch, good))
        return batch

    async def _known(self, session: AsyncSession, batch: _Batch, rows: Sequence[GoodRow]) -> Known:
        """What the database knows of these rows, in a few statements whatever their number."""
        credentials = {row.credential for row in rows if row.credential} - batch.credential_ids.keys()
        if credentials:
            batch.credential_ids.update(await CredentialService(session).ids_by_name(batch.space_id, credentials))
        ids = await repository.ids_by_name(session, batch.space_id, [row.name for row in rows])
        stored = (
            await repository.stored_instances(session, list(ids.values()), lock=False)
            if ids and batch.request.on_existing is OnExisting.UPDATE
            else {}
        )
        columns = batch.judged.columns
        endpoints = [endpoint_of(row, stored.get(ids.get(row.name, 0)), columns) for row in rows]
        found = await repository.ids_by_endpoint(session, batch.space_id, endpoints)
        others = {
            endpoint: found[endpoint]
            for row, endpoint in zip(rows, endpoints, strict=True)
            if endpoint in found and found[endpoint] != ids.get(row.name)
        }
        names = await repository.names_by_id(session, list(others.values())) if others else {}
        owners = {endpoint: Owner(key, names[key]) for endpoint, key in others.items() if key in names}
        return Known(ids, owners, batch.credential_ids, stored)

    async def _chunks(self, frames: Path) -> AsyncGenerator[list[GoodRow | BadRow], None]:
        """The judged rows again, in chunks, with a turn for others after each frame."""
        rows: list[GoodRow | BadRow] = []
        with await asyncio.to_thread(frames.open, "rb") as file:
            while line := await asyncio.to_thread(file.readline):
                rows += read_frame(line)
                while len(rows) >= self._chunk_rows:
                    yield rows[: self._chunk_rows]
                    rows = rows[self._chunk_rows :]
        if rows:
            yield rows

    async def _foreseen(self, batch: _Batch) -> CreationReport:
        """The report of a dry run: the statuses that would be, without ids."""
        report, writer = batch.report(), batch.writer()
        async with self._database.looking_up(repository.instances) as session:
            async for rows in self._chunks(batch.frames):
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

    async def _written(self, batch: _Batch) -> CreationReport:
        if batch.request.atomic:
            return await self._written_at_once(batch)
        report = batch.report()
        # The next rows are read while the database loads these.
        async with aclosing(_one_ahead(self._chunks(batch.frames))) as chunks:
            async for rows in chunks:
                await report.add(batch.in_order(rows, await self._apply(batch, batch.writable(rows))))
        await self._record_afterwards(batch, report)
        return report

    async def _apply(self, batch: _Batch, chunk: Chunk) -> list[RowOutcome]:
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
        return [_not_written(row, message) for row in chunk.rows]

    async def _apply_or_raise(self, batch: _Batch, chunk: Chunk) -> list[RowOutcome]:
        async def work(session: AsyncSession) -> Attempt[list[RowOutcome]]:
            outcomes = await batch.writer().write(session, chunk)
            return Attempt(outcomes, _evidence_of(outcomes))

        try:
            return await self._transactions.run(batch.batch_id, work)
        except (IntegrityError, DataError) as error:
            log.info("a chunk met another writer", line=chunk.rows[0].line, reason=str(error.orig))
            return await self._apply_around(batch, chunk)

    async def _apply_around(self, batch: _Batch, chunk: Chunk) -> list[RowOutcome]:
        lost = await self._lost_rows(batch, chunk)
        if lost:
            rest = [row for row in chunk.rows if row.line not in lost]
            return [*lost.values(), *await self._apply(batch, Chunk(rest, chunk.update_ids))]
        # Nothing to see any more of what stood in the way. Halving always ends, at the worst with the row itself.
        if len(chunk.rows) == 1:
            return [conflict(chunk.rows[0], "another writer was changing what this row refers to")]
        left, right = chunk.halves()
        return [*await self._apply(batch, left), *await self._apply(batch, right)]

    async def _lost_rows(self, batch: _Batch, chunk: Chunk) -> dict[int, RowOutcome]:
        """By line, the rows that cannot be written any more, after looking everything up again."""
        async with self._database.looking_up(repository.instances) as session:
            named = {row.credential for row in chunk.rows if row.credential}
            credential_ids = await CredentialService(session).ids_by_name(batch.space_id, named) if named else {}
            known = await self._known(session, batch, chunk.rows)
        batch.credential_ids.update(credential_ids)
        lost = {}
        for row in chunk.rows:
            instance_id = chunk.update_ids.get(row.line)
            stored = None if instance_id is None else known.stored.get(instance_id)
            owner = known.owner_by_endpoint.get(endpoint_of(row, stored, batch.judged.columns))
            if instance_id is not None and stored is None:
                lost[row.line] = updated(row, instance_id, None)
            elif instance_id is None and row.name in known.id_by_name:
                lost[row.line] = conflict(row, "another writer registered this name meanwhile", "name", row.name)
            elif owner is not None and owner.name != row.name:
                lost[row.line] = conflict(row, f"{owner.name} took this endpoint meanwhile", "host", row.host)
            elif row.credential is not None and row.credential not in credential_ids:
                message = "this credential was deleted meanwhile"
                lost[row.line] = conflict(row, message, "credential", row.credential)
        return lost

    async def _written_at_once(self, batch: _Batch) -> CreationReport:
        if batch.decisions.invalid:
            report = await self._refused(batch, {})
            count = batch.decisions.invalid
            message = (
                f"{count} row{'s are' if count > 1 else ' is'} invalid and the batch is atomic: nothing was written"
            )
            raise ParameterError(message, members={"report": report.fragment()})

        async def work(session: AsyncSession) -> Attempt[CreationReport]:
            report, failed = batch.report(), []
            async for rows in self._chunks(batch.frames):
                written = await batch.writer().write(session, batch.writable(rows))
                await report.add(batch.in_order(rows, written))
                failed += [outcome for outcome in written if outcome.status is RowStatus.FAILED]
            if failed:
                raise _RowsLost(failed)
            await record(session, _batch_entry(batch, report))
            return Attempt(report, _batch_evidence)

        try:
            return await self._transactions.run(batch.batch_id, work)
        except (IntegrityError, DataError, _RowsLost) as error:
            log.info("an atomic batch met another writer", reason=str(getattr(error, "orig", error)))
            lost = {outcome.line: outcome for outcome in error.outcomes} if isinstance(error, _RowsLost) else {}
            async for rows in self._chunks(batch.frames):
                lost |= await self._lost_rows(batch, batch.writable(rows))
            report = await self._refused(batch, lost)
            message = "another writer changed what the batch refers to, and the batch is atomic: nothing was written"
            raise Conflict(message, members={"report": report.fragment()}) from error

    async def _refused(self, batch: _Batch, lost: dict[int, RowOutcome]) -> CreationReport:
        """The report of an atomic batch of which nothing was written."""
        report = batch.report()
        async for rows in self._chunks(batch.frames):
            chunk = batch.writable(rows)
            message = "not written: the batch is atomic, and other rows stand in its way"
            await report.add(
                batch.in_order(rows, [lost.get(row.line) or _not_written(row, message) for row in chunk.rows])
            )
        return report

    async def _record_afterwards(self, batch: _Batch, report: CreationReport) -> None:
        """The batch's own audit entry. Should it fail, the report is still worth more than an error."""

        async def work(session: AsyncSession) -> Attempt[None]:
            await record(session, _batch_entry(batch, report))
            return Attempt(None, _batch_evidence)

        try:
            await self._transactions.run(batch.batch_id, work)
        except Exception as error:
            log.error("the batch's audit entry was not written", batch_id=str(batch.batch_id), exc_info=error)


def _evidence_of(outcomes: Sequence[RowOutcome]) -> Evidence | None:
    """Each changed instance has an audit entry; the first one's is as good as any."""
    for outcome in outcomes:
        if outcome.status in (RowStatus.CREATED, RowStatus.UPDATED):
            return Evidence("instance", outcome.instance_id)
    return None


async def _one_ahead(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The source's items; each is made while the one before it is being used."""
    upcoming = asyncio.ensure_future(anext(source, None))
    try:
        while (item := await upcoming) is not None:
            upcoming = asyncio.ensure_future(anext(source, None))
            yield item
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await source.aclose()


def _not_written(row: GoodRow, message: str) -> RowOutcome:
    return RowOutcome(row.line, row.name, RowStatus.FAILED, errors=(RowError(None, "not_written", message),))


def _batch_entry(batch: _Batch, report: CreationReport) -> AuditEntry:
    return AuditEntry(
        action="instance:batch_create",
        resource_type="batch",
        resource_id=None,
        resource_name=None,
        space_id=batch.space_id,
        outcome=AUDIT_OUTCOME[report.outcome],
        batch_id=batch.batch_id,
        changes={"counts": report.counts_as_json()},
    )
