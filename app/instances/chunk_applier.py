"""Writes chunks of good rows, each in a transaction of its own, around the rows that another writer took meanwhile."""

from collections.abc import Callable

import structlog
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.errors import SpaceNotFound
from app.instances.batch_report import RowOutcome
from app.instances.batch_transactions import Attempt, BatchTransactions
from app.instances.chunk_writer import Chunk, conflict
from app.instances.creation_batch import CreationBatch
from app.instances.creation_lookups import lost_rows
from app.instances.row_ledger import RowLedger
from app.spaces.service import SpaceArchived

log = structlog.get_logger(__name__)


# What becomes of a chunk that cannot be written for a reason that is none of its rows': outcomes, or it raises. Without
# an error, one before it failed and the batch gave up.
OnFailure = Callable[[Chunk, Exception | None], list[RowOutcome]]


class ChunkApplier:
    def __init__(self, database: Database, ledger: RowLedger, on_failure: OnFailure) -> None:
        self._database = database
        self._transactions = BatchTransactions(database)
        self._ledger = ledger
        self._on_failure = on_failure

    async def apply(self, batch: CreationBatch, chunk: Chunk) -> list[RowOutcome]:
        """The outcome of every row of the chunk, what was decided before included, in no order."""
        if not chunk.rows and not chunk.decided:
            return []
        if batch.progress.is_given_up:
            return self._on_failure(chunk, None)
        try:
            return await self._apply(batch, chunk)
        except Exception as error:
            return self._on_failure(chunk, error)

    async def _apply(self, batch: CreationBatch, chunk: Chunk) -> list[RowOutcome]:

        async def work(session: AsyncSession) -> Attempt[list[RowOutcome]]:
            await self._ledger.hold(session)
            written = await batch.writer().write(session, chunk) if chunk.rows else []
            outcomes = [*chunk.decided, *written]
            await self._ledger.note(session, outcomes)
            return Attempt(outcomes, self._ledger.evidence(outcomes))

        try:
            return await self._transactions.run(work)
        except (SpaceArchived, SpaceNotFound) as error:
            return await self.apply(batch, chunk.without_rows(f"meanwhile {error.detail}"))
        except (IntegrityError, DataError) as error:
            if not chunk.rows:
                raise
            log.info("a chunk met another writer", line=chunk.rows[0].line, reason=str(error.orig))
            return await self._apply_around(batch, chunk)

    async def _apply_around(self, batch: CreationBatch, chunk: Chunk) -> list[RowOutcome]:
        lost = await lost_rows(self._database, batch, chunk)
        if lost:
            rest = [row for row in chunk.rows if row.line not in lost]
            return await self.apply(batch, Chunk(rest, chunk.update_ids, [*chunk.decided, *lost.values()]))
        # Nothing to see any more of what stood in the way. Halving always ends, at the worst with the row itself.
        if len(chunk.rows) == 1:
            outcome = conflict(chunk.rows[0], "another writer was changing what this row refers to")
            return await self.apply(batch, Chunk((), {}, [*chunk.decided, outcome]))
        left, right = chunk.halves()
        return [*await self.apply(batch, left), *await self.apply(batch, right)]
