"""Real MariaDB and Redis servers for tests, from the installed binaries: made, started, stopped.

Each is a throw-away server of its own on a free port, with its data in a temporary directory.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.postgres_server import START_SECONDS, free_port, memory
from tests.syncs.certificates import CertificateAuthority, ServerFiles

ROOT_PASSWORD = "root-of-the-tests"


def require(package: str, *names: str) -> Path:
    """The first of the binaries that is installed. Without any, the test is skipped, or fails where all servers must
    be there (MUSTER_TEST_ALL_SERVERS=1)."""
    # Debian keeps servers where only root's PATH leads.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    message = f"{' or '.join(names)} is not installed: this test needs a real server (apt-get install {package})"
    if os.environ.get("MUSTER_TEST_ALL_SERVERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


class _Server:
    """A process in a directory of its own. Not root's: servers refuse to run as root, or should."""

    def __init__(self, name: str, listen: str) -> None:
        # In memory where there is room: DDL waits for the disk several times a table.
        self.directory = Path(tempfile.mkdtemp(prefix=f"muster-{name}-", dir=memory()))
        self.listen = listen
        self.port = free_port()
        self.user = "nobody" if os.geteuid() == 0 else None
        self.authority = CertificateAuthority(self.directory)
        self.certificate = self.authority.issue("localhost", "127.0.0.1")
        self._process: subprocess.Popen[bytes] | None = None
        self.give_away()

    def give_away(self) -> None:
        """What the directory holds belongs to whom the server runs as."""
        if self.user is not None:
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, pwd.getpwnam(self.user).pw_uid, -1)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def launch(self, command: Sequence[str | Path]) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self.user, cwd=self.directory, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.log)
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class MariadbServer(_Server):
    """`root` signs in with ROOT_PASSWORD from anywhere; TLS is offered beside plain connections."""

    def __init__(self, *, listen: str = "127.0.0.1") -> None:
        self._server = require("mariadb-server", "mariadbd", "mysqld")
        self._installer = require("mariadb-server", "mariadb-install-db", "mysql_install_db")
        super().__init__("mariadb", listen)
        self._install()

    def _install(self) -> None:
        command = [
            self._installer,
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
        made = subprocess.run(command, user=self.user, cwd=self.directory, capture_output=True, check=False)
        if made.returncode != 0:
            raise RuntimeError((made.stdout + made.stderr).decode(errors="replace"))
        # The installer's own root users need no password, from these hosts.
        (self.directory / "first.sql").write_text(
            "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> '%';\n"
            "FLUSH PRIVILEGES;\n"
            f"CREATE OR REPLACE USER root@'%' IDENTIFIED BY '{ROOT_PASSWORD}';\n"
            "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;\n"
        )

    def start(self, *options: str) -> None:
        # A server that starts removes what it takes for its own leftovers in there.
        (self.directory / "tmp").mkdir(exist_ok=True)
        self.give_away()
        self.launch([
            self._server,
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            f"--tmpdir={self.directory / 'tmp'}",
            f"--init-file={self.directory / 'first.sql'}",
            f"--bind-address={self.listen}",
            f"--port={self.port}",
            f"--socket={self.directory / 'socket'}",
            f"--pid-file={self.directory / 'pid'}",
            f"--ssl-cert={self.certificate.certificate}",
            f"--ssl-key={self.certificate.key}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--max-connections=500",
            "--table-open-cache=400",
            *options,
        ])  # fmt: skip


class RedisServer(_Server):
    """Its default user has ROOT_PASSWORD; `port` speaks plainly and `tls_port` TLS, as Redis has it."""

    def __init__(self, *, listen: str = "127.0.0.1") -> None:
        self._server = require("redis-server", "redis-server", "valkey-server")
        super().__init__("redis", listen)
        self.tls_port = free_port()

    def start(self, *options: str) -> None:
        self.launch([self._server, *self._options(self.certificate), *options])

    def _options(self, certificate: ServerFiles) -> list[str]:
        settings = {
            "bind": self.listen,
            "port": self.port,
            "tls-port": self.tls_port,
            "tls-cert-file": certificate.certificate,
            "tls-key-file": certificate.key,
            "tls-ca-cert-file": self.authority.file,
            "tls-auth-clients": "no",
            "requirepass": ROOT_PASSWORD,
            "dir": self.directory,
            "save": "",
            "appendonly": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", str(value))]
