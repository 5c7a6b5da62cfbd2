"""Seals what was recorded: gives entries their place in the chain, and the seal that fits there.

Entries are written unsealed, so that no writer waits for another. The sealer takes them in order of id, as far as they
are committed; one that was numbered before these and is committed later gets the next place. It works in steps, each a
transaction of its own: one that breaks off leaves its entries unsealed, and the next run begins where the chain ends.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import chain_repository as repository
from app.audit.chain import BEGINNING, Anchor, Link, Sealing, StoredRow
from app.database import Database
from app.database.transactions import in_steps

STEP_ENTRIES = 1_000
# Sealing these takes the event loop about two milliseconds.
TURN_ENTRIES = 100
# Between steps, so that on SQLite other writers get their turn.
PAUSE_SECONDS = 0.02


class SealingRefused(Exception):
    """The chain was begun with another key, or somebody changed its anchor; sealing on would only hide that."""


class AuditSealer:
    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    async def seal(self) -> int:
        """Seals all that is committed by now; returns how many entries. None where another process is at it already.

        Not what is written meanwhile: beside a writer that is faster it would never end.

        Raises SealingRefused.
        """
        async with self._database.readers() as session:
            newest = await repository.newest_unsealed(session)
        if newest is None:
            return 0
        return await in_steps(self._database, partial(self._step, newest), STEP_ENTRIES, PAUSE_SECONDS)

    async def _step(self, newest: int, session: AsyncSession) -> int:
        if not await repository.is_alone(session):
            return 0
        end = await self._end_of_chain(session)
        rows = await repository.unsealed(session, newest, STEP_ENTRIES)
        if rows:
            await repository.set_seals(session, rows, await self._links(end, rows))
        return len(rows)

    async def _end_of_chain(self, session: AsyncSession) -> Link:
        anchor = await repository.newest_anchor(session) or await self._begin(session)
        if not self._sealing.is_genuine(anchor):
            raise SealingRefused("the audit trail was sealed with another key, or its newest anchor was changed")
        newest = await repository.newest_link(session)
        return anchor.end if newest is None or newest.sequence < anchor.end.sequence else newest

    async def _begin(self, session: AsyncSession) -> Anchor:
        anchor = self._sealing.sealed_anchor(BEGINNING, 0, repository.stored_now())
        await repository.add_anchor(session, anchor)
        return anchor

    async def _links(self, end: Link, rows: Sequence[StoredRow]) -> list[Link]:
        links: list[Link] = []
        for start in range(0, len(rows), TURN_ENTRIES):
            links += self._sealing.chain(links[-1] if links else end, rows[start : start + TURN_ENTRIES])
            await asyncio.sleep(0)
        return links
