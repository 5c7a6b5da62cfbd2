"""The API key that `import`, `delete` and `export` show, and what they say when it is not enough."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.commands import client
from tests.cli.conftest import Handler, Muster, problem

KEY = "mst_0123456789abcdefghijABCDEFGHIJ_-0123456789abc"
DELETED = {
    "outcome": "complete",
    "mode": "soft",
    "dry_run": False,
    "counts": {"requested": 1, "deleted": 1, "missing": 0, "blocked": 0, "failed": 0},
    "rows_deleted": {},
    "items": [{"instance_id": 1, "name": "db-1", "status": "deleted"}],
}
IMPORTED = {
    "outcome": "complete",
    "dry_run": False,
    "counts": {"rows": 1, "created": 1},
    "encoding": "utf-8",
    "delimiter": ",",
    "items": [],
}
Arguments = Callable[[Path], list[object]]


def of_import(directory: Path) -> list[object]:
    file = directory / "fleet.csv"
    file.write_text("name,db_type,host\n")
    return ["import", file]


def of_delete(directory: Path) -> list[object]:
    return ["delete", "1", "--yes"]


def of_export(directory: Path) -> list[object]:
    return ["export"]


COMMANDS = [of_import, of_delete, of_export]


def noting(keys: list[str | None]) -> Handler:
    """Answers as the server would, and notes the key of each request."""

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("X-API-Key"))
        if request.url.path.endswith("/export"):
            return httpx.Response(200, text="name,db_type,host\n")
        return httpx.Response(200, json=DELETED if request.url.path.endswith("/batch-delete") else IMPORTED)

    return answer


def never(request: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing should have been sent")


@pytest.mark.parametrize("arguments", COMMANDS)
class TestSource:
    def test_the_variable(
        self, muster: Muster, tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MUSTER_API_KEY", KEY)
        keys: list[str | None] = []
        assert muster(arguments(tmp_path), noting(keys)).exit_code == 0
        assert keys == [KEY]

    def test_the_option_goes_before_the_variable(
        self, muster: Muster, tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MUSTER_API_KEY", "mst_another")
        keys: list[str | None] = []
        muster([*arguments(tmp_path), "--api-key", KEY], noting(keys))
        assert keys == [KEY]

    def test_a_file_goes_before_the_variable(
        self, muster: Muster, tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MUSTER_API_KEY", "mst_another")
        (tmp_path / "key").write_text(f"{KEY}\n")
        keys: list[str | None] = []
        muster([*arguments(tmp_path), "--api-key-file", tmp_path / "key"], noting(keys))
        assert keys == [KEY]

    def test_none_is_sent_where_none_is_given(self, muster: Muster, tmp_path: Path, arguments: Arguments) -> None:
        keys: list[str | None] = []
        muster(arguments(tmp_path), noting(keys))
        assert keys == [None]


class TestBadKey:
    def test_two_options_are_2(self, muster: Muster, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(KEY)
        result = muster(["export", "--api-key", KEY, "--api-key-file", tmp_path / "key"], never)
        assert result.exit_code == 2
        assert "not both" in result.stderr

    @pytest.mark.parametrize("key", ["", "  ", "mst_a\r\nX-Other: 1", "mst_schlüssel", "two words"])
    def test_what_cannot_be_one_is_2_and_not_repeated(self, muster: Muster, key: str) -> None:
        result = muster(["export", "--api-key", key], never)
        assert result.exit_code == 2
        assert "--api-key holds no API key" in result.stderr
        assert not key.strip() or key not in result.output

    def test_a_file_that_is_not_there_is_2(self, muster: Muster, tmp_path: Path) -> None:
        result = muster(["export", "--api-key-file", tmp_path / "key"], never)
        assert result.exit_code == 2
        assert "No such file or directory" in result.stderr

    def test_a_file_of_something_else_is_2(self, muster: Muster, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
        result = muster(["export", "--api-key-file", tmp_path / "key"], never)
        assert result.exit_code == 2
        assert "holds no API key" in result.stderr


class TestRefusal:
    @pytest.mark.parametrize("arguments", COMMANDS)
    def test_a_401_is_2_and_says_how_to_give_a_key(self, muster: Muster, tmp_path: Path, arguments: Arguments) -> None:
        answer = problem(401, title="Not authenticated", detail="sign in")
        result = muster(arguments(tmp_path), lambda request: answer)
        assert result.exit_code == 2
        assert "Not authenticated (401): sign in" in result.stderr
        assert "MUSTER_API_KEY or --api-key-file" in result.stderr
        assert "/docs" in result.stderr

    @pytest.mark.parametrize("arguments", COMMANDS)
    def test_a_403_is_2_and_says_who_can_help(self, muster: Muster, tmp_path: Path, arguments: Arguments) -> None:
        answer = problem(403, title="No authority", detail="this call needs the permission instance:create")
        result = muster([*arguments(tmp_path), "--api-key", KEY], lambda request: answer)
        assert result.exit_code == 2
        assert "No authority (403): this call needs the permission instance:create" in result.stderr
        assert "an administrator can change the roles" in result.stderr
        assert KEY not in result.output


class TestTooManyRequests:
    @pytest.fixture
    def slept(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        seconds: list[float] = []
        monkeypatch.setattr(client.time, "sleep", seconds.append)
        return seconds

    def refusing(self, times: int, headers: dict[str, str]) -> Handler:
        answers = iter([problem(429, title="Too many requests")] * times)

        def answer(request: httpx.Request) -> httpx.Response:
            refusal = next(answers, None)
            if refusal is None:
                return httpx.Response(200, json=DELETED)
            refusal.headers.update(headers)
            return refusal

        return answer

    def test_a_deletion_waits_as_long_as_it_is_told(self, muster: Muster, slept: list[float]) -> None:
        result = muster(["delete", "1", "--yes"], self.refusing(2, {"Retry-After": "7"}))
        assert result.exit_code == 0
        assert slept == [7, 7]
        assert "the server asks to wait for 7 seconds" in result.stderr

    @pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}, {"Retry-After": "Sun, 22 Nov 2026 12:00:00 GMT"}])
    def test_but_not_for_ever(self, muster: Muster, slept: list[float], headers: dict[str, str]) -> None:
        result = muster(["delete", "1", "--yes"], self.refusing(1, headers))
        assert result.exit_code == 2
        assert slept == []
        assert "Too many requests (429)" in result.stderr

    def test_nor_again_and_again(self, muster: Muster, slept: list[float]) -> None:
        result = muster(["delete", "1", "--yes"], self.refusing(1000, {"Retry-After": "1"}))
        assert result.exit_code == 2
        assert len(slept) == client.MAX_WAITS
