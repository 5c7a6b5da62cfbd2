"""The head of the chain: the newest sealed entry, to be written down elsewhere.

A chain from which the newest entries were taken away still fits together. What was written down of it earlier tells.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import chain_repository as repository
from app.audit.chain import BEGINNING
from app.models.base import utc_now


@dataclass(frozen=True, slots=True)
class AuditHead:
    """`sequence` and `seal` of the newest sealed entry, or zeros before there is one; `entries` of the chain are still
    there (after a restart, those since then), `unsealed` are yet to be sealed."""

    sequence: int
    seal: str
    entries: int
    unsealed: int
    read_at: datetime


async def read_head(session: AsyncSession) -> AuditHead:
    # Before the entries: those that are removed meanwhile are counted, and none is counted twice.
    anchor = await repository.newest_anchor(session)
    start = BEGINNING if anchor is None else anchor.end
    end = await repository.newest_link(session) or start
    unsealed = await repository.count_unsealed(session)
    return AuditHead(end.sequence, end.seal, end.sequence - start.sequence, unsealed, utc_now())
