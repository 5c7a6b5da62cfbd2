"""A full disk, with a real server on a real file system that has no room left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.operations.processes import Installation
from tests.operations.test_faults import csv_of
from tests.small_disk import SmallDisk, require_small_disks

MEBIBYTE = 1024 * 1024
# The database with its log, keys, uploads.
DATA_BYTES = 64 * MEBIBYTE
ROWS = 8_000
# More than is kept in memory while a body is read, and than the disk has room for.
GOOD_ROWS = 5
LARGE = csv_of(GOOD_ROWS) + b"\n" * (4 * MEBIBYTE)
SMALL_BYTES = 8 * MEBIBYTE
FREE_BYTES = MEBIBYTE // 2


@pytest.fixture(autouse=True)
def small_disks() -> None:
    require_small_disks()


def upload(installation: Installation, content: bytes, background: str) -> httpx.Response:
    files = {"file": ("fleet.csv", content, "text/csv")}
    return installation.call("POST", "/instances/batch-create", files=files, data={"background": background})


def check_refused(installation: Installation, answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (507, 25500), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    for table in ("instances", "operations", "operation_items", "uploads", "upload_pieces"):
        assert installation.number(f"SELECT count(*) FROM {table}") == 0, table
    assert installation.call("GET", "/instances").json()["items"] == []


def check_refused_until_there_is_room(installation: Installation, disk: SmallDisk, uploads: str = ".") -> None:
    """Whether it would be imported at once or in the background."""
    for background in ("false", "true"):
        check_refused(installation, upload(installation, LARGE, background))
        assert disk.names(uploads) == set()
    disk.make_room()
    answer = upload(installation, LARGE, "true")
    assert answer.status_code == 202, answer.text
    operation = int(answer.json()["id"])
    assert installation.wait_for_end(operation)["counts"] == {"created": GOOD_ROWS}
    installation.check_import(operation, GOOD_ROWS)


class TestWhileUploading:
    def test_of_uploads(self, database_url: str, tmp_path: Path) -> None:
        disk = _disk(tmp_path / "uploads", SMALL_BYTES)
        with Installation(database_url, tmp_path, disk, upload_dir=str(disk.directory)) as installation:
            installation.serve()
            disk.fill(FREE_BYTES)
            check_refused_until_there_is_room(installation, disk)

    def test_of_temporary_files(self, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        disk = _disk(tmp_path / "temporary", SMALL_BYTES)
        monkeypatch.setenv("TMPDIR", str(disk.directory))
        with Installation(database_url, tmp_path, disk) as installation:
            installation.serve()
            disk.fill(FREE_BYTES)
            check_refused_until_there_is_room(installation, disk)

    @pytest.mark.parametrize("free", [FREE_BYTES, 0], ids=["some-room", "no-room"])
    def test_of_the_data(self, tmp_path: Path, free: int) -> None:
        with _on_small_disk(tmp_path) as (installation, disk):
            disk.fill(free)
            check_refused_until_there_is_room(installation, disk, "uploads")


class TestInMidOperation:
    def test_goes_on_when_there_is_room(self, tmp_path: Path) -> None:
        """What cannot even be written down as failed waits, and goes on by itself."""
        with _on_small_disk(tmp_path, batch_chunk_rows="100") as (installation, disk):
            operation = installation.start_import(csv_of(ROWS))
            installation.wait_for_items(operation)
            disk.fill()
            _wait_until_it_stands_still(installation, operation)
            before = installation.items(operation)
            assert 0 < before < ROWS
            assert installation.call("GET", "/instances").status_code == 200
            disk.make_room()
            ended, ends = installation.wait_for_end(operation), 1
            if ended["state"] == "failed":
                assert "no space left" in ended["error"]["message"]
                installation.call("POST", f"/operations/{operation}/resume")
                ended, ends = installation.wait_for_end(operation), 2
            assert (ended["state"], ended["counts"], ended["done"]) == ("succeeded", {"created": ROWS}, ROWS)
            installation.check_import(operation, ROWS, ends)


def _wait_until_it_stands_still(installation: Installation, operation: int, seconds: float = 2.0) -> None:
    items, since = 0, time.monotonic()
    while time.monotonic() - since < seconds:
        found = installation.items(operation)
        if found != items:
            items, since = found, time.monotonic()
        time.sleep(0.1)


@contextmanager
def _on_small_disk(directory: Path, **settings: str) -> Iterator[tuple[Installation, SmallDisk]]:
    """One whose data, uploads and embedded database are on the disk."""
    disk = _disk(directory / "data", DATA_BYTES)
    url = f"sqlite+aiosqlite:///{disk.directory / 'muster.db'}"
    with Installation(url, directory, disk, **settings) as installation:
        installation.serve()
        yield installation, disk


def _disk(directory: Path, size: int) -> SmallDisk:
    directory.mkdir()
    return SmallDisk(directory, size)
