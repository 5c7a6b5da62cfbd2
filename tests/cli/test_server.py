"""`serve`, `migrate` and `rotate-key`.

A server that serves is a process of its own. What refuses to start, or ends by itself, runs inside the test: a process
takes two seconds to load.
"""

import os
import re
import shutil
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from app.commands.server import SAMPLE, announcement, listen, url_of
from tests.cli.conftest import Run
from tests.postgres_server import free_port
from tests.served import ROOT, STOP_SECONDS, Served, serve

ANSWER_SECONDS = 60


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that made its own database, in a data directory that was not there before."""
    server = serve(tmp_path_factory.mktemp("serve") / "data")
    yield server
    server.end()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory with a migrated database."""
    path = tmp_path / "data"
    path.mkdir()
    shutil.copy(os.environ["MUSTER_TEST_SQLITE"], path / "muster.db")
    return path


def import_sample(url: str, key: dict[str, str]) -> httpx.Response:
    with SAMPLE.open("rb") as file:
        # The first import waits for the process that judges files, which is slow to load on a busy machine.
        return httpx.post(url, files={"file": file}, headers=key, timeout=ANSWER_SECONDS)


def group_is_gone(process_group: int) -> bool:
    """Whether nothing of the group runs any more; what watches over shared memory ends just after its parent."""
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(process_group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


class TestServe:
    def test_prints_where_the_documentation_is(self, served: Served) -> None:
        assert f"documentation    {served.url}/docs\n" in served.announced
        assert httpx.get(f"{served.url}/docs").status_code == 200

    def test_is_ready_when_it_says_so(self, served: Served) -> None:
        assert httpx.get(f"{served.url}/health/ready").json() == {"status": "ready"}

    def test_keeps_its_data_from_other_users(self, served: Served) -> None:
        assert served.data_dir.stat().st_mode & 0o777 == 0o700

    def test_the_printed_line_imports_the_sample(self, served: Served) -> None:
        printed = re.search(r'curl -H "(\S+): (\S+)" -F file=@(\S+) (\S+)\n', served.announced)
        assert printed is not None
        header, key, file, url = printed.groups()
        assert (ROOT / file).samefile(SAMPLE)
        report = import_sample(url, {header: key}).json()
        assert report["outcome"] == "complete"
        assert report["counts"]["created"] == 20

    def test_a_second_server_on_the_same_file_refuses(self, served: Served, run: Run) -> None:
        second = run("serve", "--port", "0", data_dir=served.data_dir)
        assert second.exit_code == 2
        assert f"process {served.process.pid} serves" in second.stderr
        assert second.stdout == ""

    def test_a_port_in_use_is_told(self, served: Served, run: Run, tmp_path: Path) -> None:
        port = served.url.rpartition(":")[2]
        second = run("serve", "--port", port, data_dir=tmp_path)
        assert second.exit_code == 2
        assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in second.stderr


class TestStop:
    @pytest.fixture
    def started(self, data_dir: Path) -> Iterator[Served]:
        server = serve(data_dir, "--no-migrate")
        yield server
        server.end()

    def test_sigterm_ends_it_with_0_and_no_process_is_left(self, started: Served) -> None:
        # Judging a file takes a process of its own.
        assert import_sample(f"{started.url}/api/v1/instances/batch-create", started.key).is_success
        assert started.stop(signal.SIGTERM) == 0
        assert group_is_gone(started.process.pid)

    def test_ctrl_c_ends_it_with_0(self, started: Served) -> None:
        assert started.stop(signal.SIGINT) == 0


class TestRefusal:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"port": "http"}, "MUSTER_PORT: Input should be a valid integer"),
            ({"log_level": "loud"}, "MUSTER_LOG_LEVEL: Unknown level: 'LOUD'"),
            ({"pool_size": "0"}, "MUSTER_POOL_SIZE: Input should be greater than or equal to 1, not '0'"),
            ({"database_url": "mysql://db.example/muster"}, "must be for postgresql+asyncpg or sqlite, not mysql"),
            ({"database_url": "not a url"}, "MUSTER_DATABASE_URL is not a database URL"),
            ({"database_url": "sqlite://"}, "must name a file"),
            ({"database_url": "sqlite:////nonexistent/muster.db"}, "the folder /nonexistent of the database"),
            ({"secret_key": "short"}, "MUSTER_SECRET_KEY: key 1 of 1 is not a Fernet key"),
            ({"token_key": "short"}, "the key of MUSTER_TOKEN_KEY must have at least 32 characters"),
            ({"queue_dashboard": "on"}, "MUSTER_QUEUE_DASHBOARD: there is no queue to show"),
        ],
    )
    def test_settings_that_cannot_be(self, run: Run, tmp_path: Path, settings: dict[str, str], message: str) -> None:
        refused = run("serve", **{"port": "0", "data_dir": tmp_path, **settings})
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert list(tmp_path.glob("*.db")) == []

    def test_a_database_that_is_not_there_without_its_password(self, run: Run, tmp_path: Path) -> None:
        url = f"postgresql://muster:hunter2@127.0.0.1:{free_port()}/muster"
        refused = run("serve", "--port", "0", data_dir=tmp_path, database_url=url)
        assert refused.exit_code == 2
        assert "the database postgresql+asyncpg://muster:***@127.0.0.1" in refused.stderr
        assert "hunter2" not in refused.output

    def test_an_address_of_another_machine(self, run: Run, tmp_path: Path) -> None:
        refused = run("serve", "--host", "192.0.2.1", "--port", "0", data_dir=tmp_path)
        assert refused.exit_code == 2
        assert "cannot listen on 192.0.2.1 port 0: Cannot assign requested address" in refused.stderr


class TestFirstStart:
    def test_shows_a_password_that_signs_in(self, served: Served) -> None:
        form = {"username": "admin", "password": served.password}
        tokens = httpx.post(f"{served.url}/api/v1/auth/login", data=form, timeout=ANSWER_SECONDS).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        me = httpx.get(f"{served.url}/api/v1/auth/me", headers=headers).json()
        assert me["username"] == "admin"

    def test_puts_no_secret_into_the_log_nor_into_a_file(self, served: Served) -> None:
        secrets = [served.password, served.key["X-API-Key"]]
        files = [served.log, *(path for path in served.data_dir.rglob("*") if path.is_file())]
        assert served.data_dir / "muster.db" in files
        assert [path for path in files for secret in secrets if secret.encode() in path.read_bytes()] == []

    def test_a_later_start_shows_no_secret(self, data_dir: Path) -> None:
        first = serve(data_dir)
        first.end()
        later = serve(data_dir)
        later.end()
        assert later.announced.splitlines() == [
            f"Muster answers on {later.url}",
            f"  documentation    {later.url}/docs",
            '  import a sample  curl -H "X-API-Key: $MUSTER_API_KEY" -F file=@examples/fleet.csv '
            f"{later.url}/api/v1/instances/batch-create",
            "                   (for a key, sign in on the documentation page and send POST /api/v1/api-keys)",
        ]

    def test_a_configured_password_is_not_shown_and_no_key_is_made(self, data_dir: Path) -> None:
        password = "configured-for-this-test"
        first = serve(data_dir, admin_password=password)
        try:
            form = {"username": "admin", "password": password}
            assert httpx.post(f"{first.url}/api/v1/auth/login", data=form, timeout=ANSWER_SECONDS).status_code == 200
        finally:
            first.end()
        assert first.announced.startswith(
            "First start: the user admin has the password that MUSTER_ADMIN_PASSWORD says\n"
        )
        assert "mst_" not in first.announced
        assert password not in first.announced + first.log.read_text()

    def test_a_configured_password_that_is_refused_is_2(self, run: Run, data_dir: Path) -> None:
        refused = run("serve", "--port", "0", data_dir=data_dir, admin_password="password1234")
        assert refused.exit_code == 2
        assert "MUSTER_ADMIN_PASSWORD: this password is one of those that are guessed first" in refused.stderr
        assert "password1234" not in refused.output


class TestMigrate:
    def test_makes_the_database_and_can_be_repeated(self, run: Run, tmp_path: Path) -> None:
        for _ in range(2):
            done = run("migrate", data_dir=tmp_path / "data")
            assert done.exit_code == 0, done.stderr
            assert re.search(r"muster\.db is at migration \w+", done.stdout)

    def test_a_database_of_a_newer_version_is_told(self, run: Run, data_dir: Path) -> None:
        with closing(sqlite3.connect(data_dir / "muster.db")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        refused = run("migrate", data_dir=data_dir)
        assert refused.exit_code == 2
        assert "cannot be migrated: Can't locate revision identified by '9999'" in refused.stderr


class TestRotateKey:
    def test_replaces_the_key_in_the_data_directory(self, run: Run, data_dir: Path) -> None:
        keys = []
        for _ in range(2):
            rotated = run("rotate-key", data_dir=data_dir)
            assert rotated.exit_code == 0, rotated.stderr
            assert "0 passwords were sealed with the newest key" in rotated.stdout
            keys.append((data_dir / "secret.key").read_text())
        assert keys[0] != keys[1]

    def test_a_database_without_tables_is_2(self, run: Run, tmp_path: Path) -> None:
        refused = run("rotate-key", data_dir=tmp_path)
        assert refused.exit_code == 2
        assert "cannot be used: no such table" in refused.stderr


class TestAnnouncement:
    def test_the_sample_has_20_rows(self) -> None:
        assert SAMPLE.read_text().count("\n") == 21

    @pytest.mark.parametrize(
        ("host", "shown"),
        [
            ("127.0.0.1", "http://127.0.0.1:"),
            ("localhost", "http://"),
            ("0.0.0.0", "http://127.0.0.1:"),
            pytest.param("::", "http://[::1]:", marks=pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")),
        ],
    )
    def test_the_url_can_be_opened_on_this_machine(self, host: str, shown: str) -> None:
        with listen(host, 0) as listener:
            assert url_of(listener).startswith(shown)
            url = httpx.URL(url_of(listener))
            with socket.create_connection((url.host, url.port or 0), timeout=5):
                pass

    def test_elsewhere_the_sample_is_named_by_its_whole_path(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(ROOT)
        assert "file=@examples/fleet.csv " in announcement("http://127.0.0.1:8000", None)
        monkeypatch.chdir(tmp_path)
        assert f"file=@{SAMPLE} " in announcement("http://127.0.0.1:8000", None)
