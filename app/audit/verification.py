"""Checks the sealed chain: whether an entry was changed, taken out, put in or cut off.

1. Anchors: each must be genuine, and together they must account for every entry that is gone. After a restart, those
   and the entries from before it are of a key that is lost: these are only counted.
2. Entries, page by page from the newest anchor on: consecutive numbers, and each seal fits. After one that does not,
   the check goes on from the seal that stands there, so that one changed entry is one finding.
3. A head that was written down earlier must still be in the chain.

The sealer and retention may run meanwhile. What is not sealed yet is counted, and is no finding.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import chain_repository as repository
from app.audit.chain import BEGINNING, Anchor, Link, Sealing
from app.audit.chain_repository import SealedRow
from app.database import Database

PAGE_ENTRIES = 1_000
MAX_FINDINGS = 100


class FindingKind(StrEnum):
    CHANGED = "changed"
    MISSING = "missing"
    INSERTED = "inserted"
    ANCHOR = "anchor"
    CUT_OFF = "cut_off"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """`sequence` is the place in the chain where it was found."""

    kind: FindingKind
    sequence: int
    message: str


@dataclass(slots=True)
class Verification:
    """What was checked and found. `start` is where the chain begins, `end` the last entry that was checked.

    After a `restart`, `unverifiable` entries from before it are there, which cannot be checked.
    `exported` is what stands at the place of the head that was given, `is_exported_gone` tells that retention has
    removed that entry. After `MAX_FINDINGS` the check stops.
    """

    start: Link = BEGINNING
    end: Link = BEGINNING
    entries: int = 0
    unsealed: int = 0
    findings: list[Finding] = field(default_factory=list)
    restart: Anchor | None = None
    unverifiable: int = 0
    exported: Link | None = None
    is_exported_gone: bool = False

    @property
    def removed(self) -> int:
        """How many entries of the chain are gone, as old ones are."""
        return self.start.sequence - (0 if self.restart is None else self.restart.end.sequence)

    @property
    def is_full(self) -> bool:
        return len(self.findings) >= MAX_FINDINGS

    def find(self, kind: FindingKind, sequence: int, message: str) -> None:
        self.findings.append(Finding(kind, sequence, message))


class AuditVerifier:
    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    async def verify(self, head: Link | None = None) -> Verification:
        """Checks everything, in constant memory; `head` is one that was written down earlier."""
        found = Verification()
        async with self._database.readers() as session:
            await self._check_anchors(session, found)
            try:
                await self._check_entries(session, found, head)
            except DBAPIError as error:
                # SQLite takes any bytes for text.
                if "decode" not in str(error.orig):
                    raise
                message = f"entries after {found.end.sequence} hold what is no text; the check ends there"
                found.find(FindingKind.UNREADABLE, found.end.sequence, message)
            if found.entries and await repository.newest_anchor(session) is None:
                found.find(FindingKind.ANCHOR, found.end.sequence, "there is no anchor, which every chain begins with")
            found.unsealed = await repository.count_unsealed(session)
        if head is not None and not found.is_full:
            _check_head(found, head)
        return found

    async def _check_anchors(self, session: AsyncSession, found: Verification) -> None:
        """The newest one that is genuine is where the chain starts."""
        gone = 0
        for anchor in await self._present_anchors(session, found):
            if not self._sealing.is_genuine(anchor):
                message = f"the anchor at {anchor.end.sequence} was made or changed without the key"
                found.find(FindingKind.ANCHOR, anchor.end.sequence, message)
                continue
            gone += anchor.removed
            found.start = found.end = anchor.end
        if not found.findings and gone != found.removed:
            message = f"anchors account for {gone} of {found.removed} entries that are gone"
            found.find(FindingKind.ANCHOR, found.start.sequence, message)
        if found.restart is not None:
            _check_count(found, found.restart)

    async def _present_anchors(self, session: AsyncSession, found: Verification) -> list[Anchor]:
        """From the newest genuine restart on, if there is one, which is noted with what is left from before it.

        Read again until nothing differs: retention may have removed some of that meanwhile.
        """
        known: list[Anchor] | None = None
        while True:
            anchors = await repository.anchors(session)
            restarts = [number for number, each in enumerate(anchors) if self._is_restart(each)]
            if not restarts or anchors == known:
                return anchors[restarts[-1] :] if restarts else anchors
            known, found.restart = anchors, anchors[restarts[-1]]
            found.unverifiable = await repository.count_sealed(session, found.restart.end.sequence)

    def _is_restart(self, anchor: Anchor) -> bool:
        return anchor.unverifiable is not None and self._sealing.is_genuine(anchor)

    async def _check_entries(self, session: AsyncSession, found: Verification, head: Link | None) -> None:
        walk = _Walk(self._sealing, found, head)
        last = repository.LOWEST if found.restart is None else found.restart.end.sequence
        while page := await repository.sealed_after(session, last, PAGE_ENTRIES):
            last = page[-1].sequence
            if page[0].sequence > walk.expected:
                await self._follow_retention(session, walk)
            for row in page:
                walk.take(row)
                if found.is_full:
                    return

    async def _follow_retention(self, session: AsyncSession, walk: "_Walk") -> None:
        """Entries that are missing at the beginning of a page may have been removed since the last one was read."""
        anchor = await repository.newest_anchor(session)
        if anchor is not None and self._sealing.is_genuine(anchor):
            walk.skip_to(anchor.end)


class _Walk:
    """Takes entry after entry and notes what does not fit."""

    def __init__(self, sealing: Sealing, found: Verification, head: Link | None) -> None:
        self._sealing = sealing
        self._found = found
        self._head = head

    @property
    def expected(self) -> int:
        return self._found.end.sequence + 1

    def skip_to(self, end: Link) -> None:
        """Goes on behind what retention has removed."""
        if end.sequence >= self.expected:
            self._found.end = end

    def take(self, row: SealedRow) -> None:
        if row.sequence < self.expected:
            message = f"entry {row.sequence} (id {row.values[0]}) is outside of the chain: it was put there by hand"
            self._found.find(FindingKind.INSERTED, row.sequence, message)
            return
        if row.sequence > self.expected:
            message = f"entries {self.expected} to {row.sequence - 1} are missing; the next one cannot be checked"
            self._found.find(FindingKind.MISSING, self.expected, message)
        elif self._sealing.seal(self._found.end, row.values).seal != row.seal:
            message = f"entry {row.sequence} (id {row.values[0]}) does not fit its seal: it was changed, or put there"
            self._found.find(FindingKind.CHANGED, row.sequence, message)
        self._found.end = Link(row.sequence, str(row.seal))
        self._found.entries += 1
        if self._head is not None and self._head.sequence == row.sequence:
            self._found.exported = self._found.end


def _check_count(found: Verification, restart: Anchor) -> None:
    """Without their key nothing else can be told of entries from before the restart."""
    left = restart.unverifiable or 0
    if found.unverifiable != left:
        message = f"{found.unverifiable} entries from before the restart are there, and {left} should be"
        kind = FindingKind.MISSING if found.unverifiable < left else FindingKind.INSERTED
        found.find(kind, restart.end.sequence, message)


def _check_head(found: Verification, head: Link) -> None:
    stands = found.start if head.sequence == found.start.sequence else found.exported
    if head.sequence > found.end.sequence:
        message = f"the trail ends at entry {found.end.sequence}; the head says that there was an entry {head.sequence}"
        found.find(FindingKind.CUT_OFF, head.sequence, message)
    elif stands is None:
        found.is_exported_gone = True
    elif stands.seal != head.seal:
        message = f"entry {head.sequence} has another seal than the head: it was replaced"
        found.find(FindingKind.CUT_OFF, head.sequence, message)
