"""An import in the background: the same verdicts as at once, applied chunk by chunk, each with its items.

1. The upload's judged rows are taken from beside it, or judged again where this worker has only the upload.
2. Chunks are settled one after the other, each by look-ups just before it is written. Lines that have an item from an
   attempt before are not settled again; they only keep their claims to names and endpoints.
3. A chunk's instances, audit entries and items are one transaction; several are written at once on PostgreSQL. What is
   needed at any moment is the memory of a few chunks, whatever the size of the file.

An atomic import settles the whole file first, and is one transaction.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.audit.recorder import AuditEntry
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import Conflict
from app.instances import batch_repository as repository
from app.instances.atomic_import import AtomicImport, RowsLost
from app.instances.batch_creation import InstanceBatchCreationService
from app.instances.batch_report import RowOutcome, RowStatus
from app.instances.chunk_applier import ChunkApplier
from app.instances.chunk_writer import Chunk
from app.instances.creation_batch import CreationBatch, CreationRequest, JudgedUpload, audit_entry
from app.instances.creation_lookups import foreseen_rows, known_rows
from app.instances.judged_rows import BadRow, GoodRow
from app.instances.kept_judgement import judgement_paths
from app.instances.ordered_work import in_order
from app.instances.quotas import Quotas
from app.instances.row_ledger import OperationRows
from app.instances.settlement import Decisions, OnExisting, Settlement
from app.instances.uploads import Uploads
from app.models.audit import AuditOutcome
from app.models.operation import OperationState
from app.operations.records import OperationRecord
from app.operations.work import Work
from app.planner import looking_up, refresh_statistics
from app.spaces.service import SpaceService

_GOOD = frozenset({RowStatus.CREATED, RowStatus.UPDATED, RowStatus.UNCHANGED, RowStatus.SKIPPED})
AnyRow = GoodRow | BadRow


def request_as_json(request: CreationRequest, filename: str | None) -> dict[str, Any]:
    return {
        "filename": filename,
        "space_id": request.space_id,
        "dry_run": request.dry_run,
        "on_existing": request.on_existing.value,
        "atomic": request.atomic,
        "encoding": request.encoding,
        "ignore_unknown_columns": request.ignore_unknown_columns,
    }


def request_of(stored: Mapping[str, Any]) -> CreationRequest:
    return CreationRequest(
        space_id=stored["space_id"],
        dry_run=stored["dry_run"],
        on_existing=OnExisting(stored["on_existing"]),
        atomic=stored["atomic"],
        encoding=stored["encoding"],
        ignore_unknown_columns=stored["ignore_unknown_columns"],
    )


class ImportOperation:
    """See app.operations.work.OperationHandler."""

    good = frozenset(status.value for status in _GOOD)
    effective = frozenset({RowStatus.CREATED.value, RowStatus.UPDATED.value})

    def __init__(
        self,
        database: Database,
        uploads: Uploads,
        creation: InstanceBatchCreationService,
        *,
        chunk_rows: int,
        connections: int,
    ) -> None:
        self._database = database
        self._uploads = uploads
        self._creation = creation
        self._chunk_rows = chunk_rows
        self._connections = 1 if database.is_sqlite else connections

    async def work(self, work: Work) -> None:
        """Raises what the judging raises, SpaceNotFound, SpaceArchived, Forbidden, and Conflict when the upload was
        removed or an atomic import was not written."""
        request = request_of(work.operation.request)
        narrow_to(Permission.INSTANCE_CREATE)
        if request.on_existing is OnExisting.UPDATE:
            narrow_to(Permission.INSTANCE_UPDATE)
        judged = await self._judged(work.operation, request)
        if request.atomic and not request.dry_run:
            await self._write_at_once(work, judged, request)
        else:
            await self._write_in_chunks(work, judged, request)

    async def ended(self, session: AsyncSession, operation: OperationRecord, state: OperationState) -> None:
        """Nothing else ends with it."""

    def audit_entry(self, operation: OperationRecord, outcome: AuditOutcome) -> AuditEntry:
        return audit_entry(operation.space_id, operation.batch_id, outcome)

    async def _judged(self, operation: OperationRecord, request: CreationRequest) -> JudgedUpload:
        assert operation.upload_id is not None, "an import that lost its upload is not started"
        path = await self._uploads.path_of(operation.upload_id)
        return await self._creation.judge(path, judgement_paths(self._uploads, operation.upload_id), request)

    async def _write_in_chunks(self, work: Work, judged: JudgedUpload, request: CreationRequest) -> None:
        batch, settlement = await self._opened(work, judged, request)
        ledger = OperationRows(work.ledger)
        applier = ChunkApplier(self._database, ledger, _raised)

        async def applied(chunk: Chunk) -> None:
            async with self._database.batch_connections:
                outcomes = await applier.apply(batch, chunk)
            work.advance(outcome.status._value_ for outcome in outcomes)

        chunks = self._settled_chunks(work, batch, settlement)
        async with aclosing(in_order(chunks, applied, at_once=self._connections)) as done:
            async for _ in done:
                pass

    async def _opened(
        self, work: Work, judged: JudgedUpload, request: CreationRequest
    ) -> tuple[CreationBatch, Settlement]:
        await refresh_statistics(self._database, repository.instances)
        async with self._database.readers() as session:
            spaces = SpaceService(session)
            space = await spaces.resolve_open(work.operation.space_id)
            quotas = Quotas(space.quota_rows, space.quota_instances, await spaces.room(space))
        settlement = Settlement(judged.file, request.on_existing, quotas)
        batch_id = work.operation.batch_id
        return CreationBatch(request, judged.frames, judged.file, space, batch_id, Decisions(), {}), settlement

    async def _settled_chunks(
        self, work: Work, batch: CreationBatch, settlement: Settlement
    ) -> AsyncGenerator[Chunk, None]:
        """What is left to be written, decided; it ends early when the work is to stop."""
        async for rows in batch.chunks(self._chunk_rows):
            if work.stop.is_set():
                return
            left = await self._without_item(work, rows, settlement)
            if left:
                yield await self._settled(batch, settlement, left)

    async def _without_item(self, work: Work, rows: Sequence[AnyRow], settlement: Settlement) -> Sequence[AnyRow]:
        if not work.operation.attempt_done:
            return rows
        async with self._database.readers() as session:
            statuses = await work.ledger.statuses(session, rows[0].line, rows[-1].line)
        good = {line for line, status in statuses.items() if status in self.good}
        settlement.recall([row for row in rows if row.line in statuses], good)
        return [row for row in rows if row.line not in statuses]

    async def _settled(self, batch: CreationBatch, settlement: Settlement, rows: Sequence[AnyRow]) -> Chunk:
        async with looking_up(self._database) as session:
            good = [row for row in rows if isinstance(row, GoodRow)]
            settlement.settle(rows, await known_rows(session, batch, good))
            decisions = settlement.taken()
            chunk = batch.writable(rows, decisions)
            decided = [decisions.outcomes[row.line] for row in rows if row.line in decisions.outcomes]
            if batch.request.dry_run:
                foreseen = await foreseen_rows(session, batch, chunk)
                return Chunk((), {}, [outcome.without_id() for outcome in (*decided, *foreseen)])
        return replace(chunk, decided=decided)

    async def _write_at_once(self, work: Work, judged: JudgedUpload, request: CreationRequest) -> None:
        """When nothing can be written, the items tell of every row why."""
        atomic, ledger = AtomicImport(self._database, self._chunk_rows), OperationRows(work.ledger)
        asked = replace(request, space_id=work.operation.space_id)
        batch = await self._creation.settled(judged, asked, work.operation.batch_id)
        lost: Mapping[int, RowOutcome] = {}
        if not batch.decisions.invalid:
            try:
                await atomic.write(batch, ledger, work.ledger.has_items, _nothing_more)
                return
            except RowsLost as found:
                lost = found.outcomes
        async for outcomes in atomic.refused(batch, lost):
            await self._noted(work, ledger, outcomes)
        raise Conflict("rows stand in the way, and the batch is atomic: nothing was written")

    async def _noted(self, work: Work, ledger: OperationRows, outcomes: Sequence[RowOutcome]) -> None:
        async def note(session: AsyncSession) -> None:
            await ledger.hold(session)
            await ledger.note(session, outcomes)

        await run_in_transaction(self._database.writers, note)
        work.advance(outcome.status._value_ for outcome in outcomes)


def _raised(_: Chunk, error: Exception | None) -> list[RowOutcome]:
    """The attempt ends; another one goes on with the rows that have no item."""
    assert error is not None, "nothing else makes this batch give up"
    raise error


async def _nothing_more(_: AsyncSession) -> None:
    """The batch's own audit entry is written with the operation's end."""
