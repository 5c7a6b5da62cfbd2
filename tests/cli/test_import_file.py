import csv
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import cli
from tests.cli.conftest import Handler, Muster, problem


def row(line: int, status: str, *errors: tuple[str, str, str]) -> dict[str, object]:
    return {
        "line": line,
        "name": f"db-{line}",
        "status": status,
        "errors": [{"column": column, "code": code, "message": message} for column, code, message in errors],
    }


def report(outcome: str, items: Sequence[dict[str, object]], *, dry_run: bool = False) -> dict[str, object]:
    statuses = ("created", "updated", "unchanged", "skipped", "invalid", "failed")
    counts = {status: sum(item["status"] == status for item in items) for status in statuses}
    return {
        "outcome": outcome,
        "dry_run": dry_run,
        "counts": {"rows": len(items), **counts},
        "encoding": "utf-8",
        "delimiter": ",",
        "items": list(items),
    }


def answering(document: dict[str, object]) -> Handler:
    return lambda request: httpx.Response(200, json=document)


GOOD = report("complete", [row(2, "created"), row(3, "skipped", ("name", "name_exists", "db-3 is registered"))])
BAD = report("partial", [row(2, "created"), row(3, "invalid", ("port", "out_of_range", "port must be 1 to 65535"))])


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.csv"
    path.write_text("name,db_type,host\npg-1,postgresql,a.example\n")
    return path


class TestReport:
    def test_all_rows_written_is_0_with_the_counts(self, muster: Muster, fleet: Path) -> None:
        result = muster(["import", fleet], answering(GOOD))
        assert result.exit_code == 0
        assert "complete: 1 created, 1 skipped of 2 rows" in result.stdout

    def test_a_skipped_row_is_no_problem(self, muster: Muster, fleet: Path) -> None:
        assert "name_exists" not in muster(["import", fleet], answering(GOOD)).output

    def test_a_refused_row_is_1_and_told_with_line_column_and_code(self, muster: Muster, fleet: Path) -> None:
        result = muster(["import", fleet], answering(BAD))
        assert result.exit_code == 1
        assert "3     port    out_of_range  port must be 1 to 65535" in result.stdout
        assert "partial: 1 created, 1 invalid of 2 rows" in result.stdout

    def test_a_dry_run_says_so(self, muster: Muster, fleet: Path) -> None:
        result = muster(["import", fleet, "--dry-run"], answering({**GOOD, "dry_run": True}))
        assert "complete (dry run: nothing was written)" in result.stdout

    def test_an_atomic_refusal_shows_its_report_and_is_1(self, muster: Muster, fleet: Path) -> None:
        refused = report("failed", [row(2, "invalid", ("host", "required", "host must not be empty"))])
        answer = problem(422, detail="1 row is invalid; nothing was written", report=refused)
        result = muster(["import", fleet, "--atomic"], lambda request: answer)
        assert result.exit_code == 1
        assert "host must not be empty" in result.stdout
        assert "1 row is invalid; nothing was written" in result.stdout

    def test_json_is_the_answer_as_it_came_and_nothing_else(self, muster: Muster, fleet: Path) -> None:
        result = muster(["import", fleet, "--json"], answering(BAD))
        assert json.loads(result.stdout) == BAD
        assert result.exit_code == 1

    def test_texts_of_others_cannot_steer_the_terminal(self, muster: Muster, fleet: Path) -> None:
        hostile = report("failed", [row(2, "invalid", ("name", "invalid_format", "not '\x1b[2Jpg' [bold]x\n\t"))])
        result = muster(["import", fleet], answering(hostile))
        assert r"not '\x1b[2Jpg' [bold]x\n\t" in result.stdout
        assert all(each.isprintable() or each == "\n" for each in result.output)


class TestManyProblems:
    problems = report("failed", [row(n, "invalid", ("host", "required", f"message {n}")) for n in range(2, 132)])

    def test_the_first_50_are_shown_and_the_rest_counted(self, muster: Muster, fleet: Path) -> None:
        result = muster(["import", fleet], answering(self.problems))
        assert "message 51" in result.stdout
        assert "message 52" not in result.stdout
        assert "… and 80 more, see --problems FILE" in result.stdout

    def test_the_file_has_them_all(self, muster: Muster, fleet: Path, tmp_path: Path) -> None:
        target = tmp_path / "problems.csv"
        muster(["import", fleet, "--problems", target], answering(self.problems))
        with target.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert len(rows) == 130
        assert rows[0] == {
            "line": "2",
            "name": "db-2",
            "column": "host",
            "code": "required",
            "message": "message 2",
            "value": "",
        }

    def test_a_cell_that_looks_like_a_formula_is_quoted(self, muster: Muster, fleet: Path, tmp_path: Path) -> None:
        target = tmp_path / "problems.csv"
        document = report("failed", [{**row(2, "invalid", ("name", "invalid_format", "no")), "name": "=cmd()"}])
        muster(["import", fleet, "--problems", target], answering(document))
        assert "'=cmd()" in target.read_text()

    def test_a_file_that_cannot_be_written_stops_the_import_beforehand(self, muster: Muster, fleet: Path) -> None:
        def never(request: httpx.Request) -> httpx.Response:
            raise AssertionError("nothing should have been sent")

        result = muster(["import", fleet, "--problems", fleet.parent / "missing" / "problems.csv"], never)
        assert result.exit_code == 2
        assert "No such file or directory" in result.stderr


class TestRequest:
    def test_the_options_become_the_form(self, muster: Muster, fleet: Path) -> None:
        sent: list[bytes] = []

        def answer(request: httpx.Request) -> httpx.Response:
            assert request.url == "http://db.example:9000/api/v1/instances/batch-create"
            sent.append(request.content)
            return httpx.Response(200, json=GOOD)

        options = "--space-id 3 --on-existing update --dry-run --atomic --encoding gb18030 --ignore-unknown-columns"
        muster(["import", fleet, "--url", "http://db.example:9000", *options.split()], answer)
        for name, value in (
            ("space_id", "3"),
            ("on_existing", "update"),
            ("dry_run", "true"),
            ("atomic", "true"),
            ("encoding", "gb18030"),
            ("ignore_unknown_columns", "true"),
            ("background", "auto"),
        ):
            assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in sent[0]
        assert fleet.read_bytes() in sent[0]

    def test_background_is_asked_for_whatever_the_size(self, muster: Muster, fleet: Path) -> None:
        sent: list[bytes] = []

        def answer(request: httpx.Request) -> httpx.Response:
            sent.append(request.content)
            return httpx.Response(200, json=GOOD)

        muster(["import", fleet, "--background"], answer)
        assert b'name="background"\r\n\r\ntrue\r\n' in sent[0]

    def test_the_url_comes_from_the_environment(
        self, muster: Muster, fleet: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MUSTER_URL", "https://muster.example/base/")

        def answer(request: httpx.Request) -> httpx.Response:
            assert request.url == "https://muster.example/base/api/v1/instances/batch-create"
            return httpx.Response(200, json=GOOD)

        assert muster(["import", fleet], answer).exit_code == 0

    def test_the_file_is_sent_in_pieces_with_its_length(self, tmp_path: Path) -> None:
        large = tmp_path / "large.csv"
        large.write_bytes(b"x" * 1_000_000)
        pieces: list[int] = []

        class Measuring(httpx.BaseTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                assert isinstance(request.stream, httpx.SyncByteStream)
                pieces.extend(len(piece) for piece in request.stream)
                assert int(request.headers["Content-Length"]) == sum(pieces)
                return httpx.Response(200, json=GOOD)

        result = CliRunner().invoke(cli, ["import", str(large)], obj=Measuring())
        assert result.exit_code == 0
        assert sum(pieces) > 1_000_000
        assert max(pieces) <= 64 * 1024

    def test_a_pipe_can_be_imported(self, muster: Muster, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_text("name,db_type,host\n"))
        writer.start()

        def answer(request: httpx.Request) -> httpx.Response:
            assert request.headers["Transfer-Encoding"] == "chunked"
            assert b"name,db_type,host\n" in request.content
            return httpx.Response(200, json=GOOD)

        assert muster(["import", pipe], answer).exit_code == 0
        writer.join()


class TestFailure:
    def test_a_problem_is_2_with_title_detail_errors_and_request_id(self, muster: Muster, fleet: Path) -> None:
        answer = problem(
            422,
            title="File cannot be parsed",
            detail="1 column is unknown",
            request_id="abc123",
            errors=[
                {"column": "hots", "line": 1, "code": "unknown", "message": "did you mean host?"},
                {"pointer": "/body/space_id", "code": "int", "message": "must be a number"},
            ],
        )
        result = muster(["import", fleet], lambda request: answer)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines() == [
            "muster: File cannot be parsed (422): 1 column is unknown",
            "  line 1, hots: did you mean host?",
            "  /body/space_id: must be a number",
            "  request id: abc123",
        ]

    def test_with_json_the_problem_goes_to_standard_output(self, muster: Muster, fleet: Path) -> None:
        result = muster(["import", fleet, "--json"], lambda request: problem(413, detail="too large"))
        assert result.exit_code == 2
        assert json.loads(result.stdout)["detail"] == "too large"
        assert "too large" in result.stderr

    def test_no_server_is_2(self, muster: Muster, fleet: Path) -> None:
        result = muster(["import", fleet])
        assert result.exit_code == 2
        assert "cannot connect to http://127.0.0.1:8000" in result.stderr

    def test_a_lost_connection_is_2_and_says_what_is_not_known(self, muster: Muster, fleet: Path) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            raise httpx.RemoteProtocolError("Server disconnected", request=request)

        result = muster(["import", fleet], answer)
        assert result.exit_code == 2
        assert "may be done all the same, and running the command again is safe" in result.stderr

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(502, text="<h1>Bad Gateway</h1>"),
            httpx.Response(200, text="hello"),
            httpx.Response(200, json={"ok": True}),
            httpx.Response(302, headers={"Location": "/elsewhere"}),
        ],
    )
    def test_an_answer_of_another_program_is_2(self, muster: Muster, fleet: Path, answer: httpx.Response) -> None:
        result = muster(["import", fleet], lambda request: answer)
        assert result.exit_code == 2
        assert "not as Muster does" in result.stderr

    @pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://db.example", "http://", "http://db:port", "nonsense"])
    def test_a_bad_url_is_2(self, muster: Muster, fleet: Path, url: str) -> None:
        result = muster(["import", fleet, "--url", url])
        assert result.exit_code == 2
        assert "--url" in result.stderr

    @pytest.mark.parametrize("arguments", [["/nonexistent.csv"], ["--on-existing", "replace"], ["--space-id", "0"]])
    def test_bad_arguments_are_2(self, muster: Muster, fleet: Path, arguments: list[str]) -> None:
        given = arguments if arguments[0].startswith("/") else [str(fleet), *arguments]
        assert muster(["import", *given]).exit_code == 2

    def test_an_interruption_is_130(self, muster: Muster, fleet: Path) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt

        result = muster(["import", fleet], answer)
        assert result.exit_code == 130
        assert result.stderr == "muster: interrupted\n"
