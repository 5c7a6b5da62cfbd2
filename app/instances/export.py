"""Writes instances as CSV: the export, in the import's columns and order, and the import's template.

The export reads pages in order of id, each in a short read of its own, so that a slow client holds neither a connection
nor a snapshot; what changes meanwhile is seen or not, page by page.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.csv_cells import cell, written
from app.instances import repository
from app.instances.csv_rows import COLUMNS
from app.instances.fields import DEFAULT_PORT_BY_TYPE
from app.instances.records import ExportedInstance, InstanceFilter
from app.models.instance import DatabaseType

# With 1,000 an export is a fifth faster, but a page's rows are taken from the driver in one go: p99 of requests beside
# it and a sync was 40 instead of 29 ms.
PAGE_INSTANCES = 200
# Those that the import does not take, for reports.
FURTHER_COLUMNS = (
    "id",
    "space_id",
    "tls_mode",
    "tls_ca_file",
    "version",
    "last_connected_at",
    "deleted_at",
    "revision",
    "created_at",
    "updated_at",
    "created_by",
    "updated_by",
)


class ExportColumns(StrEnum):
    """`import` are the columns that an import takes, `all` the others too."""

    IMPORT = "import"
    ALL = "all"


class InstanceExport:
    """Opens one short read a page."""

    def __init__(self, readers: async_sessionmaker[AsyncSession]) -> None:
        self._readers = readers

    async def pieces(self, wanted: InstanceFilter, columns: ExportColumns) -> AsyncIterator[bytes]:
        """The file in order of id, in UTF-8. An error on the way is raised, so that no partial file looks complete."""
        names = COLUMNS if columns is ExportColumns.IMPORT else COLUMNS + FURTHER_COLUMNS
        page = await self._page_after(wanted, 0)
        yield written([names])
        while page:
            yield written(_cells(each, names) for each in page)
            page = await self._page_after(wanted, page[-1].record.id) if len(page) == PAGE_INSTANCES else []

    async def _page_after(self, wanted: InstanceFilter, after_id: int) -> list[ExportedInstance]:
        async with self._readers() as session:
            return await repository.exported_after(session, wanted, after_id, PAGE_INSTANCES)


def template() -> bytes:
    """The import's header and an example row for each database type; it can be imported as it is."""
    return written([COLUMNS, *(_example(kind) for kind in DatabaseType)])


def _example(kind: DatabaseType) -> Iterator[str]:
    value_by_column = {
        "name": f"example-{kind}-01",
        "db_type": kind.value,
        "host": f"{kind}-01.db.example",
        "port": str(DEFAULT_PORT_BY_TYPE[kind]),
        "database_name": "" if kind is DatabaseType.REDIS else "orders",
        "description": "Replace this row by one of yours",
        "environment": "testing",
        "tags": "example|orders",
        "sync_policy": "off",
        "is_active": "true",
        "deletion_protection": "false",
    }
    return (value_by_column.get(column, "") for column in COLUMNS)


def _cells(exported: ExportedInstance, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        yield cell(exported.credential if column == "credential" else getattr(exported.record, column))
