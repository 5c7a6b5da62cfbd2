"""Work in the background, followed: by `operations watch`, and by the commands that began it."""

import json
from pathlib import Path

import httpx
import pytest
from click.testing import Result

from app.commands import following
from tests.cli.conftest import Muster, problem
from tests.cli.scripted_operation import (
    BAD_ROWS,
    COMPLETE,
    DELETED,
    DELETION,
    HINT,
    PARTIAL,
    Server,
    event,
    operation,
    row,
)


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0)
    monkeypatch.setattr(following, "AWAY_SECONDS", (0,) * 5)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.csv"
    path.write_text("name,db_type,host\n")
    return path


class TestStream:
    def watch(self, muster: Muster, server: Server) -> Result:
        server.looks.insert(0, operation())
        return muster(["operations", "watch", 7], server)

    def looks_of(self, server: Server) -> int:
        return server.calls.count("GET operations/7") - 1

    def test_it_is_followed_by_its_events_alone(self, muster: Muster, server: Server) -> None:
        server.streams = [[event(operation(done=1), 2), b": ping\n\n", event(operation(done=2), 3), event(COMPLETE, 4)]]
        assert self.watch(muster, server).exit_code == 0
        assert server.seen == [None]
        assert self.looks_of(server) == 0

    def test_a_stream_that_ends_is_gone_on_with_behind_the_last_event(self, muster: Muster, server: Server) -> None:
        server.looks = [operation(done=2)]
        server.streams = [[event(operation(done=1), 2)], [b": ping\n\n"], [event(COMPLETE, 9)]]
        assert self.watch(muster, server).exit_code == 0
        assert server.seen == [None, "2", "2"]

    def test_one_that_breaks_is_too(self, muster: Muster, server: Server) -> None:
        lost = httpx.ReadError("connection reset")
        server.streams = [[event(operation(done=1), 2), b"data: {", lost], [event(COMPLETE, 9)]]
        assert self.watch(muster, server).exit_code == 0
        assert server.seen == [None, "2"]

    def test_an_end_that_was_missed_is_found_by_a_look(self, muster: Muster, server: Server) -> None:
        server.looks = [COMPLETE]
        server.streams = [[event(operation(done=1), 2)]]
        assert self.watch(muster, server).exit_code == 0

    def test_204_tells_that_nothing_more_will_come(self, muster: Muster, server: Server) -> None:
        server.looks = [operation(), COMPLETE]
        server.streams = [[event(operation(done=1), 2)], httpx.Response(204)]
        assert self.watch(muster, server).exit_code == 0

    @pytest.mark.parametrize(
        "refused",
        [
            problem(429),
            problem(404),
            httpx.Response(200, text="<html>"),
            httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=b"data: nonsense\n\n"),
        ],
    )
    def test_where_there_is_none_it_is_looked_at(self, muster: Muster, server: Server, refused: httpx.Response) -> None:
        server.looks = [operation(done=1), operation(done=2), COMPLETE]
        server.streams = [refused]
        assert self.watch(muster, server).exit_code == 0
        assert len(server.seen) == 1
        assert self.looks_of(server) == 3

    def test_one_that_is_held_back_is_not_tried_again(self, muster: Muster, server: Server) -> None:
        server.looks = [operation(done=1), COMPLETE]
        server.streams = [[httpx.ReadTimeout("silence")]]
        assert self.watch(muster, server).exit_code == 0
        assert len(server.seen) == 1

    @pytest.mark.parametrize(
        "away", [httpx.ConnectError("refused"), problem(503), httpx.Response(502, text="Bad Gateway")]
    )
    def test_a_server_that_is_away_for_a_while_is_waited_for(
        self, muster: Muster, server: Server, away: httpx.Response | Exception
    ) -> None:
        server.looks = [away]
        server.streams = [[event(operation(done=1), 2)], away, httpx.ConnectError("refused"), [event(COMPLETE, 9)]]
        assert self.watch(muster, server).exit_code == 0

    def test_one_that_stays_away_is_2_with_how_to_come_back(self, muster: Muster, server: Server) -> None:
        server.looks = [httpx.ConnectError("refused")]
        result = self.watch(muster, server)
        assert result.exit_code == 2
        assert "cannot connect" in result.stderr
        assert HINT in result.stderr

    def test_ctrl_c_leaves_it_running_and_is_130(self, muster: Muster, server: Server) -> None:
        server.streams = [[event(operation(done=1), 2), KeyboardInterrupt]]
        result = self.watch(muster, server)
        assert result.exit_code == 130
        assert HINT in result.stderr
        assert server.calls == ["GET operations/7", "GET operations/7/events"]


class TestImport:
    def run(self, muster: Muster, server: Server, fleet: Path, *options: object) -> Result:
        return muster(["import", fleet, *options], server)

    def test_it_is_followed_and_reported_as_at_once(self, muster: Muster, server: Server, fleet: Path) -> None:
        server.streams = [[event(PARTIAL, 3)]]
        server.items = [row(2, "created"), *BAD_ROWS]
        result = self.run(muster, server, fleet)
        assert result.exit_code == 1
        lines = [line.partition(" ")[0] for line in result.stdout.splitlines()]
        assert lines == ["line", "3", "4", "5", "partial:"]
        assert "3     port    out_of_range  no port in line 3" in result.stdout
        assert "partial: 1 created, 2 invalid, 1 failed of 4 rows" in result.stdout

    def test_all_written_is_0_and_asks_for_no_items(self, muster: Muster, server: Server, fleet: Path) -> None:
        server.streams = [[event(COMPLETE, 3)]]
        assert self.run(muster, server, fleet).exit_code == 0
        assert "GET operations/7/items" not in server.calls

    def test_the_items_are_read_page_by_page(self, muster: Muster, server: Server, fleet: Path, tmp_path: Path) -> None:
        server.page_items = 2
        server.items = [row(line, "invalid") for line in range(2, 7)]
        server.streams = [[event(operation("failed", 4, counts={"invalid": 5}), 3)]]
        target = tmp_path / "problems.csv"
        assert self.run(muster, server, fleet, "--problems", target).exit_code == 1
        assert len(target.read_text().splitlines()) == 6

    def test_json_is_the_report_with_the_rows_refused(self, muster: Muster, server: Server, fleet: Path) -> None:
        server.streams = [[event(PARTIAL, 3)]]
        server.items = BAD_ROWS
        report = json.loads(self.run(muster, server, fleet, "--json").stdout)
        assert report["outcome"] == "partial"
        assert report["counts"] == {"rows": 4, "created": 1, "invalid": 2, "failed": 1}
        assert [item["line"] for item in report["items"]] == [3, 4, 5]

    def test_a_dry_run_says_so(self, muster: Muster, server: Server, fleet: Path) -> None:
        server.streams = [[event({**COMPLETE, "request": {"dry_run": True}}, 3)]]
        assert "complete (dry run: nothing was written)" in self.run(muster, server, fleet, "--dry-run").stdout

    def test_an_atomic_one_that_wrote_nothing_is_1_and_says_why(
        self, muster: Muster, server: Server, fleet: Path
    ) -> None:
        error = {"code": 25016, "message": "the batch is atomic: nothing was written"}
        server.streams = [[event(operation("failed", 4, counts={"invalid": 2}, error=error), 3)]]
        server.items = BAD_ROWS
        result = self.run(muster, server, fleet, "--atomic")
        assert result.exit_code == 1
        assert "the batch is atomic: nothing was written" in result.stdout

    def test_one_that_broke_off_is_2_with_what_was_done(self, muster: Muster, server: Server, fleet: Path) -> None:
        error = {"code": 25020, "message": "its owner is disabled"}
        server.streams = [[event(operation("failed", 3, counts={"created": 3}, error=error), 3)]]
        result = self.run(muster, server, fleet)
        assert result.exit_code == 2
        assert "failed: 3 created of 4 rows" in result.stdout
        assert "operation 7 failed: its owner is disabled (25020)" in result.stderr

    def test_one_that_somebody_cancelled_is_1(self, muster: Muster, server: Server, fleet: Path) -> None:
        server.streams = [[event(operation("cancelled", 3, counts={"created": 3}), 3)]]
        result = self.run(muster, server, fleet)
        assert result.exit_code == 1
        assert "cancelled: 3 created of 4 rows" in result.stdout

    def test_ctrl_c_leaves_it_running(self, muster: Muster, server: Server, fleet: Path) -> None:
        server.streams = [[KeyboardInterrupt]]
        result = self.run(muster, server, fleet)
        assert result.exit_code == 130
        assert HINT in result.stderr
        assert result.stdout == ""

    def test_detached_it_prints_the_id_and_waits_for_nothing(self, muster: Muster, server: Server, fleet: Path) -> None:
        result = self.run(muster, server, fleet, "--detach")
        assert result.exit_code == 0
        assert result.stdout == "7\n"
        assert server.calls == ["POST instances/batch-create"]
        assert b'name="background"\r\n\r\ntrue\r\n' in server.sent[0]

    def test_detached_with_json_it_prints_the_operation(self, muster: Muster, server: Server, fleet: Path) -> None:
        assert json.loads(self.run(muster, server, fleet, "--detach", "--json").stdout) == server.started

    def test_a_problems_file_needs_the_end(self, muster: Muster, server: Server, fleet: Path) -> None:
        result = self.run(muster, server, fleet, "--detach", "--problems", fleet.parent / "problems.csv")
        assert result.exit_code == 2
        assert server.calls == []


class TestDelete:
    @pytest.fixture(autouse=True)
    def deletion(self, server: Server) -> None:
        server.started = operation("queued", kind="instance_deletion", total=2, request={"mode": "hard"})
        server.items = DELETED

    def run(self, muster: Muster, server: Server, *options: object) -> Result:
        return muster(["delete", 4, 9, "--mode", "hard", "--yes", *options], server)

    def test_it_is_followed_and_reported_as_at_once(self, muster: Muster, server: Server) -> None:
        server.streams = [[event(DELETION, 3)]]
        result = self.run(muster, server)
        assert result.exit_code == 1
        assert "9         missing  there is no such instance" in result.stdout
        assert "partial: 1 deleted, 1 missing of 2 ids; 3 rows removed" in result.stdout

    def test_json_is_the_report_that_one_at_once_would_have(self, muster: Muster, server: Server) -> None:
        server.streams = [[event(DELETION, 3)]]
        assert json.loads(self.run(muster, server, "--json").stdout) == {
            "outcome": "partial",
            "mode": "hard",
            "dry_run": False,
            "counts": {"requested": 2, "deleted": 1, "blocked": 0, "missing": 1, "failed": 0},
            "rows_deleted": {"instance_accounts": 2, "instances": 1},
            "items": [
                {"instance_id": 4, "name": "a", "status": "deleted", "rows_deleted": {"instance_accounts": 2}},
                {"instance_id": 9, "status": "missing"},
            ],
        }

    def test_several_requests_are_all_asked_for_before_the_first_is_followed(
        self, muster: Muster, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.commands.delete_instances.IDS_PER_REQUEST", 1)
        server.streams = [[event(DELETION, 3)], [event(DELETION, 3)]]
        result = self.run(muster, server, "--json")
        assert server.calls[:3] == ["POST instances/batch-delete"] * 2 + ["GET operations/7/events"]
        assert json.loads(result.stdout)["counts"]["deleted"] == 2

    def test_ctrl_c_leaves_what_has_ended_and_tells_what_goes_on(
        self, muster: Muster, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.commands.delete_instances.IDS_PER_REQUEST", 1)
        server.streams = [[event(DELETION, 3)], [KeyboardInterrupt]]
        result = self.run(muster, server, "--json")
        assert result.exit_code == 130
        assert result.stderr.count(HINT) == 1
        assert json.loads(result.stdout)["counts"]["deleted"] == 1

    def test_one_that_broke_off_is_2_with_what_was_done(self, muster: Muster, server: Server) -> None:
        error = {"code": 25020, "message": "its owner is disabled"}
        server.streams = [[event({**DELETION, "state": "failed", "total": 3, "error": error}, 3)]]
        result = self.run(muster, server)
        assert result.exit_code == 2
        assert "failed: 1 deleted, 1 missing of 3 ids" in result.stdout
        assert "its owner is disabled" in result.stderr

    def test_detached_it_prints_the_id_and_waits_for_nothing(self, muster: Muster, server: Server) -> None:
        result = self.run(muster, server, "--detach")
        assert result.exit_code == 0
        assert result.stdout == "7\n"
        assert server.calls == ["POST instances/batch-delete"]
        assert json.loads(server.sent[0])["background"] is True
