"""Uploaded files: kept while a request judges one, and for background work until nobody needs it any more.

A file's name is its upload's id, in one directory: the one that is configured, which every process sees, or `uploads`
in the data directory. On PostgreSQL without a configured one a file that stays is in the database too, in pieces, from
which the worker of another machine takes its copy. What is made of a file (kept_judgement) stands beside it under the
same name, with an ending, and goes with it.

A whole file is copied in one call of a thread: an asynchronous file would take a thread for every megabyte.
"""

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from uuid import uuid4

from fastapi import UploadFile
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import Conflict, cut
from app.instances import upload_repository as repository
from app.instances.upload_repository import UploadRow
from app.models.base import utc_now

PIECE_BYTES = 1024 * 1024
# No request lives this long: what is older and belongs to no upload was left by a process that died.
UNUSED_SECONDS = 24 * 3600
STEP_UPLOADS = 100

_beginning = datetime.min.replace(tzinfo=UTC)
# Names of ours, in a directory that may hold others: an upload's id with or without an ending, and what a call needs
# for a while.
_own_name = re.compile(r"([0-9a-f]{32})(\..*)?|tmp[a-z0-9_]{8}")


class UploadRemoved(Conflict):
    """There is no file for the upload any more."""


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """A file of our own. `filename` is what the client called it."""

    id: str
    path: Path
    filename: str | None
    size: int
    sha256: str


class Uploads:
    """Files of uploads, and the rows of those that stay."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._path = settings.upload_dir or settings.data_dir / "uploads"
        self._days = settings.upload_retention_days
        self._database = database
        self._is_shared = database.is_sqlite or settings.upload_dir is not None
        self._persisted: set[str] = set()

    def prepare(self) -> None:
        """Makes the directory, closed to other users."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def store(self, upload: UploadFile) -> StoredUpload:
        """Copies the upload to a file; `remove_old` removes it after a day, unless it was persisted.

        Whatever goes wrong, such as a full disk (OSError), leaves nothing behind.
        """
        upload_id = uuid4().hex
        path = self._path / upload_id
        try:
            size, sha256 = await asyncio.to_thread(_copy, upload.file, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return StoredUpload(upload_id, path, _shown(upload.filename), size, sha256)

    @asynccontextmanager
    async def receive(self, upload: UploadFile) -> AsyncIterator[StoredUpload]:
        """The stored upload; when the block is left it goes, with all that was made of it, unless it was persisted."""
        stored = await self.store(upload)
        try:
            yield stored
        finally:
            if stored.id in self._persisted:
                self._persisted.discard(stored.id)
            else:
                await asyncio.to_thread(self._discard, stored.id)

    async def persist(self, session: AsyncSession, stored: StoredUpload) -> None:
        """Has the upload stay, as part of the session's transaction; should that fail, `remove_old` finds the file.

        Call it first in the transaction: on SQLite nobody else can write after the first statement, and this waits
        until the disk has the file.
        """
        await asyncio.to_thread(_sync, stored.path)
        await repository.add(session, UploadRow(stored.id, stored.filename, stored.size, stored.sha256))
        if not self._is_shared:
            with await asyncio.to_thread(stored.path.open, "rb") as file:
                number = 0
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    await repository.add_piece(session, stored.id, number, piece)
                    number += 1
        self._persisted.add(stored.id)

    async def path_of(self, upload_id: str) -> Path:
        """The file, as it was uploaded; taken from the database if need be. Raises UploadRemoved."""
        async with self._database.readers() as session:
            row = await repository.find(session, upload_id)
        if row is None:
            raise UploadRemoved("the upload was removed after the time that uploads are kept; upload the file again")
        path = self._path / row.id
        if await asyncio.to_thread(_is_whole, path, row.sha256) or await self._fetch(row, path):
            return path
        raise UploadRemoved("the upload was removed from where uploads are kept, or damaged there; upload it again")

    def path_beside(self, upload_id: str, ending: str) -> Path:
        """Where to keep what is made of the file; it goes with the file."""
        return self._path / f"{upload_id}.{ending}"

    @property
    def directory(self) -> Path:
        """For files that a call needs for a while."""
        return self._path

    async def remove(self, upload_id: str) -> bool:
        """Removes the upload and all that was made of it; False if an operation that has not ended needs it."""

        async def remove(session: AsyncSession) -> bool:
            await repository.remove(session, upload_id)
            return await repository.find(session, upload_id) is None

        is_gone = await run_in_transaction(self._database.writers, remove)
        if is_gone:
            await asyncio.to_thread(self._discard, upload_id)
        return is_gone

    async def remove_old(self, now: datetime | None = None) -> int:
        """Removes uploads whose operations ended more than the configured days before `now` (0 days: that are there no
        more), those that no operation was started for within a day, and files without an upload; returns how many."""
        now = now or utc_now()
        finished_before = now - min(timedelta(self._days), now - _beginning) if self._days else None
        unused_before = now - timedelta(seconds=UNUSED_SECONDS)
        removed = 0
        while True:
            async with self._database.readers() as session:
                found = await repository.outlived_ids(session, finished_before, unused_before, STEP_UPLOADS)
            step = sum([await self.remove(upload_id) for upload_id in found])
            removed += step
            if step < STEP_UPLOADS:
                return removed + await self._remove_left_files()

    async def _remove_left_files(self) -> int:
        old = await asyncio.to_thread(_old_names, self._path)
        async with self._database.readers() as session:
            known = await repository.known_ids(session, old)
        left = sorted(old - known)
        for upload_id in left:
            await asyncio.to_thread(self._discard, upload_id)
        return len(left)

    async def _fetch(self, row: UploadRow, path: Path) -> bool:
        """Whether the database has the file; then it is at the path."""
        draft = self.path_beside(row.id, f"{uuid4().hex}.part")
        try:
            with await asyncio.to_thread(_create, draft) as file:
                async for piece in self._pieces(row.id):
                    await asyncio.to_thread(file.write, piece)
            if not await asyncio.to_thread(_is_whole, draft, row.sha256):
                return False
            await asyncio.to_thread(draft.replace, path)
        finally:
            draft.unlink(missing_ok=True)
        return True

    async def _pieces(self, upload_id: str) -> AsyncIterator[bytes]:
        """Each in a read of its own: no connection is held while one is written to the disk."""
        number = 0
        while True:
            async with self._database.readers() as session:
                piece = await repository.piece(session, upload_id, number)
            if piece is None:
                return
            yield piece
            number += 1

    def _discard(self, upload_id: str) -> None:
        for path in (self._path / upload_id, *self._path.glob(f"{upload_id}.*")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _shown(filename: str | None) -> str | None:
    """Cut, and without what no text column holds."""
    if filename is None:
        return None
    return "".join(character if character.isprintable() else "_" for character in cut(filename))


def _create(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _copy(source: IO[bytes], path: Path) -> tuple[int, str]:
    """Size and SHA-256."""
    source.seek(0)
    digest, size = hashlib.sha256(), 0
    with _create(path) as target:
        for piece in _pieces_of(source):
            target.write(piece)
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def _pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    """Has the disk keep the file and its name."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _old_names(directory: Path) -> set[str]:
    """What our old files in the directory are named after."""
    before = time.time() - UNUSED_SECONDS
    return {
        path.name.partition(".")[0]
        for path in directory.iterdir()
        if _own_name.fullmatch(path.name) and path.stat().st_mtime < before
    }
