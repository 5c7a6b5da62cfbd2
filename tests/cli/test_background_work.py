"""The commands against a server that works in the background, on either database, as a person runs them.

The server writes few rows at a time, so that an import takes long enough to be stopped.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import cli
from app.commands import delete_instances
from tests.conftest import execute_on
from tests.served import ROOT, Served, serve

ROWS = 12_000
IDS = 600
WAIT_SECONDS = 120
# A process that was started by one that ignores interruptions ignores them too.
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from app.cli import main; main()"
)


@dataclass
class Live:
    """A server, and how commands reach it."""

    url: str
    key: str

    def run(self, *arguments: object, stdin: str | None = None) -> Result:
        environment = {"MUSTER_URL": self.url, "MUSTER_API_KEY": self.key}
        return CliRunner().invoke(cli, [str(each) for each in arguments], input=stdin, env=environment)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """As a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, *map(str, arguments)],
            env={**os.environ, "MUSTER_URL": self.url, "MUSTER_API_KEY": self.key},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def operation(self, operation_id: str) -> dict[str, object]:
        return dict(json.loads(self.run("operations", "show", operation_id, "--json").stdout))

    def found(self, prefix: str, **parameters: str | int) -> dict[str, object]:
        answer = httpx.get(
            f"{self.url}/api/v1/instances",
            params={"q": prefix, **parameters},
            headers={"X-API-Key": self.key},
            timeout=WAIT_SECONDS,
        )
        return dict(answer.json())

    def count(self, prefix: str) -> object:
        return self.found(prefix, limit=1, include_total="true")["total"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data = tmp_path_factory.mktemp("background") / "data"
    data.mkdir()
    settings = {"batch_chunk_rows": "50", "rate_limits": "off"}
    if request.param == "sqlite":
        shutil.copy(os.environ["MUSTER_TEST_SQLITE"], data / "muster.db")
    else:
        postgres = os.environ["MUSTER_TEST_POSTGRES"]
        name = f"test_background_{os.getpid()}"
        asyncio.run(execute_on(postgres.format("postgres"), f"CREATE DATABASE {name} TEMPLATE template_muster"))
        settings["database_url"] = postgres.format(name)
    server = serve(data, "--no-migrate", **settings)
    try:
        yield Live(server.url, administrators_key(server))
    finally:
        server.end()
        if request.param == "postgresql":
            asyncio.run(execute_on(postgres.format("postgres"), f"DROP DATABASE {name} WITH (FORCE)"))


def administrators_key(server: Served) -> str:
    """One that may delete for good, which the one of the first start may not."""
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=WAIT_SECONDS) as client:
        tokens = client.post("/auth/login", data={"username": "admin", "password": server.password}).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        return str(client.post("/api-keys", json={"name": "all"}, headers=bearer).json()["key"])


def fleet(directory: Path, prefix: str, rows: int = ROWS) -> Path:
    """Good rows, the last of which has no host."""
    path = directory / "fleet.csv"
    lines = [f"{prefix}-{number},mysql,{prefix}-{number}.example" for number in range(rows - 1)]
    path.write_text("\n".join(["name,db_type,host", *lines, f"{prefix}-last,mysql,\n"]))
    return path


class TestImport:
    def test_it_is_followed_to_its_end_with_the_same_report(self, live: Live, tmp_path: Path) -> None:
        result = live.run("import", fleet(tmp_path, "whole"))
        assert result.exit_code == 1, result.stderr
        assert f"{ROWS + 1}  host    required" in result.stdout
        assert f"partial: {ROWS - 1:,} created, 1 invalid of {ROWS:,} rows" in result.stdout
        assert live.count("whole-") == ROWS - 1

    def test_ctrl_c_leaves_it_running_and_watch_comes_back(self, live: Live, tmp_path: Path) -> None:
        process = live.start("import", fleet(tmp_path, "left"))
        assert process.stderr is not None
        begun = process.stderr.readline()
        operation_id = begun.split()[1]
        assert begun.startswith(f"operation {operation_id} does it in the background")
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 130
        assert printed == ""
        assert f"`muster operations watch {operation_id}` comes back to it" in said
        watched = live.run("operations", "watch", operation_id)
        assert watched.exit_code == 1
        assert f"partial: {ROWS - 1:,} created, 1 invalid of {ROWS:,} rows" in watched.stdout
        assert live.count("left-") == ROWS - 1

    def test_a_cancelled_one_is_gone_on_with(self, live: Live, tmp_path: Path) -> None:
        operation_id = live.run("import", fleet(tmp_path, "stopped"), "--detach").stdout.strip()
        assert live.run("operations", "cancel", operation_id).exit_code == 0
        watched = live.run("operations", "watch", operation_id)
        assert watched.exit_code == 1
        assert watched.stdout.startswith("cancelled: ")
        assert int(str(live.operation(operation_id)["done"])) < ROWS
        assert live.run("operations", "resume", operation_id).exit_code == 0
        assert live.run("operations", "watch", operation_id).exit_code == 1
        assert live.count("stopped-") == ROWS - 1

    def test_its_problems_are_given_back_and_it_is_removed(self, live: Live, tmp_path: Path) -> None:
        operation_id = live.run("import", fleet(tmp_path, "few", 20), "--detach").stdout.strip()
        assert live.run("operations", "watch", operation_id).exit_code == 1
        target = tmp_path / "problems.csv"
        assert live.run("operations", "problems", operation_id, "--output", target).exit_code == 0
        text = target.read_text(encoding="utf-8-sig")
        assert [line.split(",")[0] for line in text.splitlines()] == ["name", "few-last"]
        assert f"\n{operation_id} " in live.run("operations", "list", "--state", "partial").stdout
        assert live.run("operations", "remove", operation_id).exit_code == 0
        assert live.run("operations", "show", operation_id).exit_code == 2

    def test_a_dry_run_is_followed_too(self, live: Live, tmp_path: Path) -> None:
        result = live.run("import", fleet(tmp_path, "trial", 20), "--dry-run", "--background")
        assert result.exit_code == 1, result.stderr
        assert "partial (dry run: nothing was written): 19 created, 1 invalid of 20 rows" in result.stdout
        assert live.count("trial-") == 0

    def test_an_atomic_one_with_a_bad_row_writes_nothing(self, live: Live, tmp_path: Path) -> None:
        result = live.run("import", fleet(tmp_path, "atomic", 20), "--atomic", "--background")
        assert result.exit_code == 1, result.stderr
        assert "failed: 1 invalid, 19 failed of 20 rows" in result.stdout
        assert live.count("atomic-") == 0


class TestDelete:
    @pytest.mark.parametrize("options", [["--yes"], []])
    def test_many_ids_are_deleted_in_the_background(
        self, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
    ) -> None:
        monkeypatch.setattr(delete_instances, "_can_ask", lambda: True)
        prefix = "asked" if not options else "gone"
        assert live.run("import", fleet(tmp_path, prefix, IDS)).exit_code == 1
        ids = [*self.ids(live, prefix), 10**9]
        source = tmp_path / "ids.txt"
        source.write_text("\n".join(map(str, ids)))
        result = live.run("delete", "--from-file", source, "--mode", "hard", "--json", *options, stdin="y\n")
        assert result.exit_code == 1, result.stderr
        assert "does it in the background" in result.stderr
        report = json.loads(result.stdout)
        assert report["counts"] == {"requested": IDS, "deleted": IDS - 1, "blocked": 0, "missing": 1, "failed": 0}
        assert report["rows_deleted"]["instances"] == IDS - 1
        assert [item["instance_id"] for item in report["items"]] == ids
        assert live.count(f"{prefix}-") == 0

    def ids(self, live: Live, prefix: str) -> list[int]:
        found: list[int] = []
        cursor: str | None = ""
        while cursor is not None:
            page = live.found(f"{prefix}-", limit=200, **({"cursor": cursor} if cursor else {}))
            assert isinstance(page["items"], list)
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]  # type: ignore[assignment]
        return sorted(found)
