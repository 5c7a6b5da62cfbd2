"""Writes audit entries as CSV, newest first.

Page by page, each in a short read of its own, so that a slow client holds neither a connection nor a snapshot; entries
that are written meanwhile are newer than what was read, and not part of it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields

import orjson
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.audit import repository
from app.audit.records import AuditFilter, AuditRecord
from app.csv_cells import cell, written
from app.pagination import MAX_ID

PAGE_ENTRIES = 1_000
# Takes the event loop about two milliseconds to write.
PIECE_ENTRIES = 100
COLUMNS = tuple(field.name for field in fields(AuditRecord))


class AuditExport:
    """Opens one short read a page."""

    def __init__(self, readers: async_sessionmaker[AsyncSession]) -> None:
        self._readers = readers

    async def pieces(self, wanted: AuditFilter) -> AsyncIterator[bytes]:
        """The file in UTF-8. An error on the way is raised, so that no partial file looks complete."""
        page = await self._page_before(wanted, MAX_ID)
        yield written([COLUMNS])
        while page:
            for start in range(0, len(page), PIECE_ENTRIES):
                yield written(_cells(entry) for entry in page[start : start + PIECE_ENTRIES])
                await asyncio.sleep(0)
            page = await self._page_before(wanted, page[-1].id) if len(page) == PAGE_ENTRIES else []

    async def _page_before(self, wanted: AuditFilter, id: int) -> list[AuditRecord]:
        async with self._readers() as session:
            return await repository.page_before(session, wanted, id, PAGE_ENTRIES)


def _cells(entry: AuditRecord) -> Iterator[str]:
    for column in COLUMNS:
        value = getattr(entry, column)
        yield cell(orjson.dumps(value).decode() if isinstance(value, dict) else value)
