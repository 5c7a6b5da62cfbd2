import json
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Muster, problem
from tests.cli.scripted_operation import (
    BAD_ROWS,
    DELETED,
    DELETION,
    PARTIAL,
    Server,
    Stream,
    event,
    operation,
)


@pytest.fixture
def server() -> Server:
    return Server()


class TestWatch:
    @pytest.mark.parametrize(
        ("state", "code"), [("succeeded", 0), ("partial", 1), ("cancelled", 1), ("failed", 2), ("unheard-of", 2)]
    )
    def test_the_exit_code_is_that_of_the_state(self, muster: Muster, server: Server, state: str, code: int) -> None:
        server.looks = [operation(state, 4)]
        assert muster(["operations", "watch", 7], server).exit_code == code

    def test_an_import_shows_its_report(self, muster: Muster, server: Server) -> None:
        server.looks = [PARTIAL]
        server.items = BAD_ROWS
        shown = muster(["operations", "watch", 7], server).stdout
        assert "no port in line 5" in shown
        assert "partial: 1 created, 2 invalid, 1 failed of 4 rows" in shown

    def test_a_deletion_shows_its_report(self, muster: Muster, server: Server) -> None:
        server.looks = [DELETION]
        server.items = DELETED
        assert "1 deleted, 1 missing of 2 ids; 3 rows removed" in muster(["operations", "watch", 7], server).stdout

    def test_a_kind_that_is_not_known_here_shows_its_counts(self, muster: Muster, server: Server) -> None:
        server.looks = [operation("succeeded", 4, kind="tea\x1b[2J", counts={"cups": 4})]
        assert muster(["operations", "watch", 7], server).stdout == "succeeded: 4 cups of 4 items\n"

    def test_json_is_the_operation_at_its_end(self, muster: Muster, server: Server) -> None:
        server.looks = [operation(), PARTIAL]
        server.streams = [[event(PARTIAL, 3)]]
        result = muster(["operations", "watch", 7, "--json"], server)
        assert json.loads(result.stdout) == PARTIAL
        assert result.exit_code == 1


class TestCalls:
    """Each of the other commands is one call."""

    def test_list_asks_for_the_newest_of_a_kind_and_state(self, muster: Muster) -> None:
        asked: list[httpx.QueryParams] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.params)
            return httpx.Response(200, json={"items": [PARTIAL], "next_cursor": "more"})

        options = ["--kind", "instance_import", "--state", "partial", "--limit", "1"]
        result = muster(["operations", "list", *options], answer)
        assert result.exit_code == 0
        assert dict(asked[0]) == {"limit": "1", "sort": "-id", "kind": "instance_import", "state": "partial"}
        assert "7   instance_import  partial  4     4" in result.stdout
        assert "… and older ones" in result.stdout

    @pytest.mark.parametrize("arguments", [["list"], ["show", 7]])
    def test_json_is_the_answer_as_it_came(self, muster: Muster, arguments: list[object]) -> None:
        document = {"items": [PARTIAL], "next_cursor": None} if arguments == ["list"] else PARTIAL
        result = muster(["operations", *arguments, "--json"], lambda request: httpx.Response(200, json=document))
        assert json.loads(result.stdout) == document

    def test_show_tells_how_far_it_is(self, muster: Muster, server: Server) -> None:
        server.looks = [operation("failed", 3, counts={"created": 3}, error={"code": 25500, "message": "no \x1b"})]
        shown = muster(["operations", "show", 7], server).stdout
        assert "operation 7 (instance_import): failed, 3 of 4 done, 2 a second" in shown
        assert "items     3 created" in shown
        assert r"error     25500: no \x1b" in shown

    @pytest.mark.parametrize("action", ["cancel", "resume", "retry"])
    def test_the_steering_ones_post_and_show_the_state(self, muster: Muster, server: Server, action: str) -> None:
        result = muster(["operations", action, 7], server)
        assert result.exit_code == 0
        assert server.calls == [f"POST operations/7/{action}"]
        assert "operation 7 (instance_import): queued" in result.stdout

    def test_remove_deletes(self, muster: Muster) -> None:
        calls: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            calls.append(f"{request.method} {request.url.path}")
            return httpx.Response(204)

        assert muster(["operations", "remove", 7], answer).exit_code == 0
        assert calls == ["DELETE /api/v1/operations/7"]

    def test_problems_go_to_standard_output_as_they_came(self, muster: Muster) -> None:
        answer = httpx.Response(200, content=b"name,_line\r\nx,2\r\n")
        assert muster(["operations", "problems", 7], lambda request: answer).stdout_bytes == b"name,_line\r\nx,2\r\n"

    def test_problems_go_to_a_file_that_appears_when_whole(self, muster: Muster, tmp_path: Path) -> None:
        target = tmp_path / "problems.csv"
        cut = httpx.Response(200, stream=Stream([b"name", httpx.ReadError("lost")]))
        assert muster(["operations", "problems", 7, "--output", target], lambda request: cut).exit_code == 2
        assert not list(tmp_path.iterdir())
        whole = httpx.Response(200, content=b"name\n")
        assert muster(["operations", "problems", 7, "--output", target], lambda request: whole).exit_code == 0
        assert target.read_bytes() == b"name\n"

    @pytest.mark.parametrize(
        "arguments",
        [["list"], *([name, 7] for name in ("show", "watch", "cancel", "resume", "retry", "problems", "remove"))],
    )
    def test_a_refusal_is_2_and_told(self, muster: Muster, arguments: list[object]) -> None:
        refused = problem(404, title="Not found", detail="there is no operation 7")
        result = muster(["operations", *arguments], lambda request: refused)
        assert result.exit_code == 2
        assert "Not found (404): there is no operation 7" in result.stderr
