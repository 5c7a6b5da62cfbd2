"""Where uploads are kept, for how long, and that nothing is left of one that nobody needs."""

import errno
import hashlib
import io
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from fastapi import FastAPI, UploadFile
from sqlalchemy import func, select, update

from app.config import Settings
from app.database import Database
from app.instances import uploads as module
from app.instances.uploads import StoredUpload, UploadRemoved, Uploads
from tests.factories import Registry, tables
from tests.instances.importing import csv_of, problem, upload
from tests.operations.rows import IMPORT, operation_of

# Of more than one piece, of which the last is not full.
CONTENT = bytes(range(256)) * 10_000
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def sent(content: bytes = CONTENT, filename: str | None = "fleet.csv") -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=filename)


@pytest.fixture
def directory(settings: Settings) -> Path:
    return settings.data_dir / "uploads"


def uploads_of(settings: Settings, database: Database, **values: Any) -> Uploads:
    uploads = Uploads(settings.model_copy(update=values), database)
    uploads.prepare()
    return uploads


@pytest.fixture
def uploads(settings: Settings, database: Database) -> Uploads:
    return uploads_of(settings, database)


async def persisted(uploads: Uploads, database: Database, content: bytes = CONTENT) -> StoredUpload:
    stored = await uploads.store(sent(content))
    async with database.writers.begin() as session:
        await uploads.persist(session, stored)
    return stored


async def count(database: Database, table: str) -> int:
    async with database.readers() as session:
        return int(await session.scalar(select(func.count()).select_from(tables[table])) or 0)


async def used_by(registry: Registry, stored: StoredUpload, state: str, finished_at: datetime | None) -> int:
    user_id = await registry.user()
    return await operation_of(registry, user_id, **IMPORT, state=state, finished_at=finished_at, upload_id=stored.id)


async def created(database: Database, stored: StoredUpload, at: datetime) -> None:
    table = tables["uploads"]
    async with database.writers.begin() as session:
        await session.execute(update(table).where(table.c.id == stored.id).values(created_at=at))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))
    return path


class TestStored:
    async def test_what_is_known_of_it(self, uploads: Uploads, directory: Path) -> None:
        stored = await uploads.store(sent())
        assert stored.path == directory / stored.id
        assert stored.path.read_bytes() == CONTENT
        assert (stored.filename, stored.size) == ("fleet.csv", len(CONTENT))
        assert stored.sha256 == hashlib.sha256(CONTENT).hexdigest()

    async def test_nobody_else_may_read_it(self, settings: Settings, database: Database, tmp_path: Path) -> None:
        uploads = uploads_of(settings, database, upload_dir=tmp_path / "not" / "there")
        stored = await uploads.store(sent())
        assert stored.path.stat().st_mode & 0o777 == 0o600
        assert stored.path.parent.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize(
        ("filename", "shown"), [(None, None), ("", ""), ("a\x00b\n.csv", "a_b_.csv"), ("x" * 300, "x" * 200 + "…")]
    )
    async def test_whatever_it_is_called(
        self, uploads: Uploads, database: Database, filename: str | None, shown: str | None
    ) -> None:
        stored = await uploads.store(sent(filename=filename))
        async with database.writers.begin() as session:
            await uploads.persist(session, stored)
        async with database.readers() as session:
            assert await session.scalar(select(tables["uploads"].c.filename)) == shown

    async def test_it_goes_with_what_was_made_of_it(self, uploads: Uploads, directory: Path) -> None:
        async with uploads.receive(sent()) as stored:
            uploads.path_beside(stored.id, "frames").write_bytes(b"x")
            assert len(names(directory)) == 2
        assert names(directory) == set()

    async def test_it_goes_when_the_block_fails(self, uploads: Uploads, directory: Path) -> None:
        with pytest.raises(ValueError, match="no"):
            async with uploads.receive(sent()) as stored:
                assert stored.path.read_bytes() == CONTENT
                raise ValueError("no")
        assert names(directory) == set()

    async def test_it_stays_when_it_was_persisted(self, uploads: Uploads, database: Database) -> None:
        async with uploads.receive(sent()) as stored, database.writers.begin() as session:
            await uploads.persist(session, stored)
        assert (await uploads.path_of(stored.id)).read_bytes() == CONTENT


class _FullDisk:
    """A file that has room for one piece."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._has_room = True

    def __enter__(self) -> "_FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        if not self._has_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._has_room = False
        return self._file.write(data)


class TestFullDisk:
    @pytest.fixture(autouse=True)
    def full_disk(self, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
        create: Callable[[Path], IO[bytes]] = module._create
        monkeypatch.setattr(module, "_create", lambda path: _FullDisk(create(path)))

    async def test_nothing_is_left_behind(self, uploads: Uploads, directory: Path) -> None:
        with pytest.raises(OSError, match="No space"):
            await uploads.store(sent())
        assert names(directory) == set()

    async def test_the_answer_says_so(self, client: httpx.AsyncClient, directory: Path, database: Database) -> None:
        answer = await upload(client, csv_of("a,pg,h") + "\n" * len(CONTENT))
        assert problem(answer) == (507, 25500)
        assert names(directory) == set()
        assert await count(database, "instances") == 0


class TestPersisted:
    async def test_the_row_is_part_of_the_callers_transaction(self, uploads: Uploads, database: Database) -> None:
        stored = await uploads.store(sent())
        with pytest.raises(ValueError, match="no"):
            async with database.writers.begin() as session:
                await uploads.persist(session, stored)
                raise ValueError("no")
        assert (await count(database, "uploads"), await count(database, "upload_pieces")) == (0, 0)
        with pytest.raises(UploadRemoved):
            await uploads.path_of(stored.id)

    async def test_one_that_there_never_was(self, uploads: Uploads) -> None:
        with pytest.raises(UploadRemoved, match="upload the file again"):
            await uploads.path_of("0" * 32)

    async def test_an_empty_one(self, uploads: Uploads, database: Database) -> None:
        stored = await persisted(uploads, database, b"")
        assert (await uploads.path_of(stored.id)).read_bytes() == b""


class TestSharedDirectory:
    @pytest.fixture
    def settings(self, settings: Settings, tmp_path: Path) -> Settings:
        return settings.model_copy(update={"upload_dir": tmp_path / "shared"})

    async def test_every_process_finds_it(self, settings: Settings, database: Database, tmp_path: Path) -> None:
        stored = await persisted(uploads_of(settings, database), database)
        elsewhere = uploads_of(settings, database, data_dir=tmp_path / "elsewhere")
        assert await elsewhere.path_of(stored.id) == stored.path
        assert await count(database, "upload_pieces") == 0

    @pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(CONTENT[:-1] + b"x")])
    async def test_one_that_is_gone_or_damaged(
        self, settings: Settings, database: Database, harm: Callable[[Path], object]
    ) -> None:
        uploads = uploads_of(settings, database)
        stored = await persisted(uploads, database)
        harm(stored.path)
        with pytest.raises(UploadRemoved, match="upload it again"):
            await uploads.path_of(stored.id)
        assert names(stored.path.parent) <= {stored.id}


@pytest.mark.parametrize("database_kind", ["postgresql"])
class TestInDatabase:
    @pytest.fixture
    def elsewhere(self, settings: Settings, database: Database, tmp_path: Path) -> Uploads:
        """Another machine's."""
        return uploads_of(settings, database, data_dir=tmp_path / "elsewhere")

    async def test_another_machine_takes_its_copy(
        self, uploads: Uploads, elsewhere: Uploads, database: Database, tmp_path: Path
    ) -> None:
        stored = await persisted(uploads, database)
        assert await count(database, "upload_pieces") == 3
        path = await elsewhere.path_of(stored.id)
        assert path == tmp_path / "elsewhere" / "uploads" / stored.id
        assert path.read_bytes() == CONTENT
        assert path.stat().st_mode & 0o777 == 0o600
        assert names(path.parent) == {stored.id}

    async def test_the_copy_is_kept(self, uploads: Uploads, elsewhere: Uploads, database: Database) -> None:
        stored = await persisted(uploads, database)
        path = await elsewhere.path_of(stored.id)
        async with database.writers.begin() as session:
            await session.execute(tables["upload_pieces"].delete())
        assert await elsewhere.path_of(stored.id) == path

    async def test_a_damaged_copy_is_taken_again(self, uploads: Uploads, database: Database) -> None:
        stored = await persisted(uploads, database)
        stored.path.write_bytes(b"x")
        assert (await uploads.path_of(stored.id)).read_bytes() == CONTENT

    async def test_a_piece_that_is_missing(self, uploads: Uploads, elsewhere: Uploads, database: Database) -> None:
        stored = await persisted(uploads, database)
        table = tables["upload_pieces"]
        async with database.writers.begin() as session:
            await session.execute(table.delete().where(table.c.number == 1))
        with pytest.raises(UploadRemoved):
            await elsewhere.path_of(stored.id)
        assert names(elsewhere.directory) == set()


class TestRemoved:
    async def test_with_all_that_belongs_to_it(
        self, uploads: Uploads, database: Database, registry: Registry, directory: Path
    ) -> None:
        stored, other = await persisted(uploads, database), await persisted(uploads, database)
        uploads.path_beside(stored.id, "frames").write_bytes(b"x")
        operation_id = await used_by(registry, stored, "partial", NOW)
        assert await uploads.remove(stored.id) is True
        assert names(directory) == {other.id}
        table = tables["operations"]
        async with database.readers() as session:
            assert await session.scalar(select(table.c.upload_id).where(table.c.id == operation_id)) is None
            assert set(await session.scalars(select(tables["upload_pieces"].c.upload_id))) <= {other.id}

    @pytest.mark.parametrize("state", ["queued", "running"])
    async def test_not_while_it_is_needed(
        self, uploads: Uploads, database: Database, registry: Registry, state: str
    ) -> None:
        stored = await persisted(uploads, database)
        await used_by(registry, stored, "failed", NOW)
        await used_by(registry, stored, state, None)
        assert await uploads.remove(stored.id) is False
        assert (await uploads.path_of(stored.id)).read_bytes() == CONTENT

    async def test_one_that_is_gone_already(self, uploads: Uploads) -> None:
        assert await uploads.remove("0" * 32) is True


class TestRetention:
    @pytest.mark.parametrize(
        ("days", "state", "finished_days_ago", "is_kept"),
        [
            (7, "partial", 7.1, False), (7, "partial", 6.9, True), (7, "succeeded", 8, False),
            (7, "cancelled", 8, False), (7, "queued", None, True), (7, "running", None, True),
            (0, "partial", 999, True), (10**6, "partial", 999, True), (1, "failed", 1.1, False),
        ],
    )  # fmt: skip
    async def test_after_the_operations_end(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        days: int,
        state: str,
        finished_days_ago: float | None,
        is_kept: bool,
    ) -> None:
        uploads = uploads_of(settings, database, upload_retention_days=days)
        stored = await persisted(uploads, database)
        await created(database, stored, NOW - 1000 * DAY)
        await used_by(registry, stored, state, None if finished_days_ago is None else NOW - finished_days_ago * DAY)
        assert await uploads.remove_old(NOW) == (0 if is_kept else 1)
        assert stored.path.exists() is is_kept
        assert await count(database, "uploads") == is_kept

    @pytest.mark.parametrize("days", [0, 7])
    @pytest.mark.parametrize(("created_days_ago", "is_kept"), [(0.9, True), (1.1, False)])
    async def test_of_which_no_operation_was_made(
        self, settings: Settings, database: Database, days: int, created_days_ago: float, is_kept: bool
    ) -> None:
        uploads = uploads_of(settings, database, upload_retention_days=days)
        stored = await persisted(uploads, database)
        await created(database, stored, NOW - created_days_ago * DAY)
        assert await uploads.remove_old(NOW) == (0 if is_kept else 1)
        assert stored.path.exists() is is_kept

    async def test_more_than_one_step(
        self, uploads: Uploads, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "STEP_UPLOADS", 2)
        for _ in range(5):
            await created(database, await persisted(uploads, database, b"x"), NOW - 2 * DAY)
        assert await uploads.remove_old(NOW) == 5
        assert await count(database, "uploads") == 0

    async def test_files_without_an_upload(self, uploads: Uploads, database: Database, directory: Path) -> None:
        kept = aged((await persisted(uploads, database)).path, 3)
        young = (await uploads.store(sent())).path
        old = aged((await uploads.store(sent())).path, 1.1)
        uploads.path_beside(old.name, "frames").write_bytes(b"x")
        left = directory / "tmp_a1b2c3d"
        left.mkdir()
        aged(left, 2)
        foreign = directory / "notes.txt"
        foreign.write_text("somebody's own")
        aged(foreign, 2)
        assert await uploads.remove_old() == 2
        assert names(directory) == {kept.name, young.name, foreign.name}
