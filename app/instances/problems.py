"""The file of what an operation did not do, and why: of an import the rows, to be corrected and uploaded again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.csv_cells import cell, written
from app.database import Database
from app.instances.csv_file import FileRefused
from app.instances.csv_rows import PROBLEM_COLUMNS
from app.instances.file_judge import FileJudge
from app.instances.problem_rows import ENCODING, SEPARATOR, Problem, write_problem_rows, write_problems
from app.instances.uploads import PIECE_BYTES, UploadRemoved, Uploads
from app.models.operation import OperationKind
from app.operations.records import Item, OperationRecord
from app.operations.service import items_after, visible_operation

PAGE_ITEMS = 500

_statuses = {
    OperationKind.INSTANCE_IMPORT: ("invalid", "failed"),
    OperationKind.INSTANCE_DELETION: ("blocked", "failed", "missing"),
}


class ProblemFiles:
    """Opens one short read a page of items; the rows are read in the judging process."""

    def __init__(self, database: Database, uploads: Uploads, judge: FileJudge) -> None:
        self._readers = database.readers
        self._uploads = uploads
        self._judge = judge

    async def pieces(self, operation_id: int) -> AsyncGenerator[bytes, None]:
        """The file as CSV in UTF-8 with a byte order mark, of what there is so far; the header alone when nothing is.

        Raises NotFound, for an operation too that the caller may not see, and UploadRemoved; before the first piece.
        """
        async with self._readers() as session:
            operation = await visible_operation(session, operation_id)
        match operation.kind:
            case OperationKind.INSTANCE_IMPORT:
                found = self._of_import(operation)
            case OperationKind.INSTANCE_DELETION:
                found = self._of_deletion(operation)
        # What the file needs meanwhile goes with it, for a client too that goes away.
        async with aclosing(found):
            async for piece in found:
                yield piece

    async def _of_import(self, operation: OperationRecord) -> AsyncGenerator[bytes, None]:
        if operation.upload_id is None:
            raise UploadRemoved("the upload was removed after the time that uploads are kept: its rows are gone")
        source = await self._uploads.path_of(operation.upload_id)
        with TemporaryDirectory(dir=self._uploads.directory) as directory:
            problems, target = Path(directory) / "problems", Path(directory) / "rows"
            await asyncio.to_thread(write_problems, problems, ())
            async for items in self._pages(operation):
                await asyncio.to_thread(write_problems, problems, list(map(_problem, items)))
            await self._write_rows(operation, source, problems, target)
            with await asyncio.to_thread(target.open, "rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    yield piece

    async def _write_rows(self, operation: OperationRecord, source: Path, problems: Path, target: Path) -> None:
        asked = operation.request
        encoding, ignore_unknown_columns = asked["encoding"], asked["ignore_unknown_columns"]
        work = partial(write_problem_rows, source, problems, target, encoding, ignore_unknown_columns)
        try:
            await self._judge.run(work)
        except FileRefused as refused:
            raise UploadRemoved(f"the upload cannot be read any more: {refused.message}") from refused

    async def _of_deletion(self, operation: OperationRecord) -> AsyncGenerator[bytes, None]:
        yield "".encode(ENCODING) + written([("instance_id", "name", *PROBLEM_COLUMNS)])
        async for items in self._pages(operation):
            yield written(map(_deletion_cells, items))

    async def _pages(self, operation: OperationRecord) -> AsyncIterator[Sequence[Item]]:
        after, statuses = 0, _statuses[operation.kind]
        while True:
            async with self._readers() as session:
                items = await items_after(session, operation.id, after, statuses, PAGE_ITEMS)
            if not items:
                return
            yield items
            after = items[-1].position


def _problem(item: Item) -> Problem:
    columns, codes, messages = zip(*_reasons(item), strict=True)
    return Problem(item.position, SEPARATOR.join(columns), SEPARATOR.join(codes), SEPARATOR.join(messages))


def _reasons(item: Item) -> Iterator[tuple[str, str, str]]:
    """Column, code and message of each; at least one."""
    detail: Mapping[str, Any] = item.detail or {}
    found = [*detail.get("errors", ()), *detail.get("blockers", ())]
    if "error" in detail:
        found.append(detail["error"])
    for each in found:
        yield each.get("column") or "", str(each["code"]), each["message"]
    if not found:
        yield "", item.status, f"there is no instance {item.instance_id}" if item.status == "missing" else ""


def _deletion_cells(item: Item) -> Iterator[str]:
    yield cell(item.instance_id)
    yield cell(item.name)
    yield from map(cell, _problem(item))
