"""All rows of a file in one transaction, or none."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import structlog
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.instances.batch_report import RowOutcome, RowStatus
from app.instances.batch_transactions import Attempt, BatchTransactions, Evidence
from app.instances.creation_batch import CreationBatch, not_written
from app.instances.creation_lookups import lost_rows
from app.instances.row_ledger import RowLedger

log = structlog.get_logger(__name__)

STANDS_IN_THE_WAY = "not written: the batch is atomic, and other rows stand in its way"


class RowsLost(Exception):
    """Another writer was faster with some rows; the transaction is rolled back. `outcomes` is theirs, by line."""

    def __init__(self, outcomes: Mapping[int, RowOutcome]) -> None:
        super().__init__(
            "another writer changed what the batch refers to, and the batch is atomic: nothing was written"
        )
        self.outcomes = outcomes


class AtomicImport:
    def __init__(self, database: Database, chunk_rows: int) -> None:
        self._database = database
        self._transactions = BatchTransactions(database)
        self._chunk_rows = chunk_rows

    async def write(
        self,
        batch: CreationBatch,
        ledger: RowLedger,
        evidence: Evidence,
        complete: Callable[[AsyncSession], Awaitable[None]],
    ) -> None:
        """Writes every row that is decided to be good; `complete` is the last thing done in the transaction.

        Raises RowsLost, SpaceArchived or SpaceNotFound.
        """

        async def work(session: AsyncSession) -> Attempt[None]:
            await ledger.hold(session)
            failed: list[RowOutcome] = []
            async for rows in batch.chunks(self._chunk_rows):
                written = await batch.writer().write(session, batch.writable(rows))
                await ledger.note(session, batch.in_order(rows, written))
                failed += [outcome for outcome in written if outcome.status is RowStatus.FAILED]
            if failed:
                raise RowsLost({outcome.line: outcome for outcome in failed})
            await complete(session)
            return Attempt(None, evidence)

        try:
            await self._transactions.run(work)
        except RowsLost as lost:
            raise RowsLost({**lost.outcomes, **await self._lost(batch)}) from lost
        except (IntegrityError, DataError) as error:
            log.info("an atomic batch met another writer", reason=str(error.orig))
            raise RowsLost(await self._lost(batch)) from error

    async def _lost(self, batch: CreationBatch) -> dict[int, RowOutcome]:
        lost: dict[int, RowOutcome] = {}
        async for rows in batch.chunks(self._chunk_rows):
            lost |= await lost_rows(self._database, batch, batch.writable(rows))
        return lost

    async def refused(
        self, batch: CreationBatch, lost: Mapping[int, RowOutcome]
    ) -> AsyncIterator[Sequence[RowOutcome]]:
        """The outcomes of a batch of which nothing was written, in the order of the file."""
        async for rows in batch.chunks(self._chunk_rows):
            chunk = batch.writable(rows)
            outcomes = [lost.get(row.line) or not_written(row, STANDS_IN_THE_WAY) for row in chunk.rows]
            yield batch.in_order(rows, outcomes)
