"""Begins the chain of seals anew, when its key is lost: nothing could be sealed any more, and nothing verified.

An anchor, sealed with the present key like all others, says where the new chain begins, since when, and how many
entries from before it are there. These stay as they are, with their seals: only the lost key could verify them. Whoever
has access to the database but not to the key can neither make such an anchor nor change one.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import chain_repository as repository
from app.audit.chain import BEGINNING, Anchor, Link, Sealing
from app.audit.chain_repository import SealedRow
from app.audit.recorder import AuditEntry, record
from app.database import Database
from app.database.transactions import run_in_transaction

# Of the newest entries, how many are tried with the present key.
TRIED_ENTRIES = 1_000


class RestartRefused(Exception):
    """There is nothing to begin anew, or the present key is the chain's."""


class AuditRestart:
    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    async def restart(self, reason: str) -> Anchor:
        """Begins anew behind the newest sealed entry and records why.

        Raises RestartRefused where the present key has sealed any of the newest entries: breaking an anchor must not be
        a way to have everything before it forgotten.
        """
        return await run_in_transaction(self._database.writers, partial(self._restart, reason))

    async def _restart(self, reason: str, session: AsyncSession) -> Anchor:
        await repository.wait_until_alone(session)
        end = await self._end_of_chain(session)
        unverifiable = await repository.count_sealed(session, end.sequence)
        anchor = self._sealing.sealed_restart(end, unverifiable, repository.stored_now())
        await repository.add_anchor(session, anchor)
        changes = {"reason": reason, "unverifiable_entries": unverifiable, "up_to_sequence": end.sequence}
        await record(session, AuditEntry("audit:restart", "audit", None, None, None, changes=changes))
        return anchor

    async def _end_of_chain(self, session: AsyncSession) -> Link:
        anchor, newest = await repository.newest_anchor(session), await repository.newest_link(session)
        if anchor is None and newest is None:
            raise RestartRefused("nothing has been sealed yet")
        if anchor is not None and self._sealing.is_genuine(anchor):
            raise RestartRefused("the trail is sealed with the present key")
        ends = (newest, None if anchor is None else anchor.end)
        end = max((each for each in ends if each is not None), key=lambda link: link.sequence)
        rows = await repository.sealed_after(session, end.sequence - TRIED_ENTRIES, TRIED_ENTRIES)
        if self._has_sealed_any(rows):
            raise RestartRefused(
                "the present key has sealed this trail, so it is not lost: its anchor was tampered with"
            )
        return end

    def _has_sealed_any(self, rows: Sequence[SealedRow]) -> bool:
        before = BEGINNING
        for row in rows:
            link = Link(row.sequence, str(row.seal))
            if self._sealing.seal(before, row.values) == link:
                return True
            before = link
        return False
