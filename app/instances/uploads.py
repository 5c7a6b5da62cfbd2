"""Where an upload waits while it is judged: a file of its own in the data directory, removed when the request ends."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import UploadFile

COPY_BYTES = 1024 * 1024
# No request lives this long; what is older was left by a process that died.
STALE_SECONDS = 24 * 3600


class UploadDirectory:
    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "uploads"

    def prepare(self) -> None:
        """Makes the directory, closed to other users, and removes what a crash left in it."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._path.iterdir():
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)

    @asynccontextmanager
    async def keep(self, upload: UploadFile) -> AsyncIterator[Path]:
        """The upload under a path, which another process can open, until the block is left."""
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._path))
        try:
            path = directory / "upload"
            await asyncio.to_thread(_copy, upload, path)
            yield path
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _copy(upload: UploadFile, path: Path) -> None:
    upload.file.seek(0)
    with path.open("wb") as target:
        shutil.copyfileobj(upload.file, target, COPY_BYTES)
