from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.cli.conftest import Muster, problem

CONTENT = "name,db_type,host\npg-1,postgresql,数据库.example\n"


class Broken(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b"name,db_type,host\n"
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


class TestExport:
    def test_to_standard_output_byte_by_byte(self, muster: Muster) -> None:
        result = muster(["export"], lambda request: httpx.Response(200, text=CONTENT))
        assert result.exit_code == 0
        assert result.stdout_bytes.decode() == CONTENT

    def test_filters_become_parameters(self, muster: Muster) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            assert request.url.path == "/api/v1/instances/export"
            assert request.url.params.multi_items() == [
                ("format", "csv"),
                ("q", "main"),
                ("db_type", "mysql"),
                ("environment", "staging"),
                ("status", "disabled"),
                ("credential_id", "4"),
                ("space_id", "2"),
                ("columns", "all"),
                ("tag", "gold"),
                ("tag", "核心"),
            ]
            return httpx.Response(200, text=CONTENT)

        options = "--q main --db-type mysql --environment staging --status disabled --tag gold --tag 核心"
        more = "--credential-id 4 --space-id 2 --all-columns"
        assert muster(["export", *options.split(), *more.split()], answer).exit_code == 0

    def test_to_a_file(self, muster: Muster, tmp_path: Path) -> None:
        target = tmp_path / "fleet.csv"
        target.write_text("what was there before")
        result = muster(["export", "--output", target], lambda request: httpx.Response(200, text=CONTENT))
        assert result.exit_code == 0
        assert result.stdout == ""
        assert target.read_text() == CONTENT

    def test_a_device_is_written_to_and_stays_one(self, muster: Muster) -> None:
        muster(["export", "--output", "/dev/null"], lambda request: httpx.Response(200, text=CONTENT))
        assert Path("/dev/null").is_char_device()


class TestFailure:
    def test_a_broken_download_leaves_no_file(self, muster: Muster, tmp_path: Path) -> None:
        target = tmp_path / "fleet.csv"
        result = muster(["export", "--output", target], lambda request: httpx.Response(200, stream=Broken()))
        assert result.exit_code == 2
        assert "was lost" in result.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_problem_is_2_and_no_content(self, muster: Muster, tmp_path: Path) -> None:
        target = tmp_path / "fleet.csv"
        result = muster(["export", "-o", target], lambda request: problem(422, detail="unknown db_type"))
        assert result.exit_code == 2
        assert "unknown db_type" in result.stderr
        assert not target.exists()

    def test_a_folder_that_is_not_there_is_2(self, muster: Muster, tmp_path: Path) -> None:
        target = tmp_path / "missing" / "fleet.csv"
        result = muster(["export", "-o", target], lambda request: httpx.Response(200, text=CONTENT))
        assert result.exit_code == 2
        assert "No such file or directory" in result.stderr
