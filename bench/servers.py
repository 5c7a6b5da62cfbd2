"""What is measured: databases copied from templates, and the real server in a process of its own.

Every variant gets a fresh copy of a template, so that none finds what another left behind. Automatic vacuuming is off,
because it would strike one variant and not the next; templates are vacuumed when they are made.
"""

import http.client
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import orjson
import uvloop

from app.database.sqlite import SQLITE_CACHE_KIBIBYTES, SQLITE_CHECKPOINT_PAGES
from bench import signing_in
from bench.load import HOST
from bench.multipart import Upload, multipart
from bench.processes import processor_seconds
from bench.seed import POSTGRESQL, SQLITE
from tests.postgres_server import PostgresServer, free_port

ROOT = Path(__file__).parent.parent
START_SECONDS = 30
STOP_SECONDS = 30
REQUEST_SECONDS = 900
# A server is idle that has used less of a processor in so long.
IDLE_LOOK_SECONDS, IDLE_SHARE = 0.4, 0.1
IMPORT_PATH, DELETION_PATH = "/api/v1/instances/batch-create", "/api/v1/instances/batch-delete"

POSTGRESQL_SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
# The service's own for writers, so that the floor writes under the same rules.
SQLITE_PRAGMAS = (
    "journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL", f"cache_size=-{SQLITE_CACHE_KIBIBYTES}",
    "temp_store=MEMORY", f"wal_autocheckpoint={SQLITE_CHECKPOINT_PAGES}",
)  # fmt: skip


class Databases(ABC):
    """One database system. `copy` replaces the copy before it, so that only one is there at a time."""

    kind: str

    def __init__(self) -> None:
        self._templates: set[str] = set()

    def prepare(self, template: str, statements: Iterable[str]) -> None:
        """Makes a template by the statements, unless it is there."""
        if template not in self._templates:
            self._make(template, statements)
            self._templates.add(template)

    @abstractmethod
    def copy(self, template: str) -> str:
        """The URL of a fresh copy."""

    @abstractmethod
    def keep(self, template: str) -> None:
        """Makes the present copy a template."""

    @abstractmethod
    def drop(self, template: str) -> None:
        """Frees a template's space."""

    @abstractmethod
    def checkpoint(self) -> None:
        """Brings what was written to its final place, so that the next variant does not pay for the last one."""

    @abstractmethod
    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement finds in the present copy."""

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _make(self, template: str, statements: Iterable[str]) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class PostgresqlDatabases(Databases):
    kind = POSTGRESQL

    def __init__(self) -> None:
        super().__init__()
        self._server = PostgresServer(fsync=True)
        try:
            self._server.start()
            self._run(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in POSTGRESQL_SETTINGS.items())
            self._server.stop()
            self._server.start()
            self._run(["CREATE DATABASE empty"])
            _migrate(self._server.url("empty"))
            self._run(signing_in.statements(self.kind), "empty")
        except BaseException:
            self._server.remove()
            raise

    def copy(self, template: str) -> str:
        self._run([
            "DROP DATABASE IF EXISTS measured WITH (FORCE)",
            f"CREATE DATABASE measured TEMPLATE {template} STRATEGY FILE_COPY",
        ])  # fmt: skip
        return self._server.url("measured")

    def keep(self, template: str) -> None:
        self._run(["VACUUM (ANALYZE)"], "measured")
        self._run([f"DROP DATABASE IF EXISTS {template} WITH (FORCE)", f"CREATE DATABASE {template} TEMPLATE measured"])
        self._templates.add(template)

    def drop(self, template: str) -> None:
        self._run([f"DROP DATABASE IF EXISTS {template} WITH (FORCE)"])
        self._templates.discard(template)

    def checkpoint(self) -> None:
        self._run(["CHECKPOINT"])

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return uvloop.run(_fetch(self._server.url("measured"), statement))

    def version(self) -> str:
        found = uvloop.run(_fetch(self._server.url(), "SHOW server_version"))
        return f"PostgreSQL {found[0][0]}"

    def close(self) -> None:
        self._server.remove()

    def _make(self, template: str, statements: Iterable[str]) -> None:
        self._run([f"CREATE DATABASE {template} TEMPLATE empty"])
        # As a replica the session fires no triggers, which are what checks foreign keys.
        self._run(["SET session_replication_role = replica", *statements, "VACUUM (ANALYZE)"], template)

    def _run(self, statements: Iterable[str], database: str = "postgres") -> None:
        uvloop.run(_execute(self._server.url(database), statements))


class SqliteDatabases(Databases):
    kind = SQLITE

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp(prefix="muster-bench-"))
        self._measured = self._directory / "measured.db"
        try:
            _migrate(f"sqlite+aiosqlite:///{self._path('empty')}")
            with closing(sqlite3.connect(self._path("empty"))) as connection, connection:
                for statement in signing_in.statements(self.kind):
                    connection.execute(statement)
            self._settle(self._path("empty"))
        except BaseException:
            self.close()
            raise

    def copy(self, template: str) -> str:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._measured}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self._path(template), self._measured)
        with self._measured.open("rb") as copied:
            os.fsync(copied.fileno())
        return f"sqlite+aiosqlite:///{self._measured}"

    def keep(self, template: str) -> None:
        self.checkpoint()
        shutil.copyfile(self._measured, self._path(template))
        self._templates.add(template)

    def drop(self, template: str) -> None:
        self._path(template).unlink(missing_ok=True)
        self._templates.discard(template)

    def checkpoint(self) -> None:
        self._settle(self._measured)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._measured)) as connection:
            return connection.execute(statement).fetchall()

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _make(self, template: str, statements: Iterable[str]) -> None:
        shutil.copyfile(self._path("empty"), self._path(template))
        with closing(sqlite3.connect(self._path(template))) as connection:
            connection.execute("PRAGMA cache_size=-524288")
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        self._settle(self._path(template))

    def _path(self, template: str) -> Path:
        return self._directory / f"{template}.db"

    @staticmethod
    def _settle(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not busy, "somebody is writing to the database between two measurements"


def sqlite_path(url: str) -> str:
    return url.removeprefix("sqlite+aiosqlite:///")


def sqlite_writer(url: str) -> sqlite3.Connection:
    """A plain connection under the service's pragmas, which begins no transaction by itself."""
    connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


async def _execute(url: str, statements: Iterable[str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch(url: str, statement: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def _environment(**settings: str) -> dict[str, str]:
    """This process's environment, with these settings and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return others | {f"MUSTER_{name.upper()}": value for name, value in settings.items()}


def _migrate(url: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env=_environment(database_url=url),
        check=True,
        capture_output=True,
    )


class RequestFailed(RuntimeError):
    """The server answered with something else than success."""


class Server:
    """A server on a free port of the loopback interface, from entering the block until leaving it.

    It is what `muster serve` starts, or else the application that `app` makes (`module:function`), alone in its process.
    """

    def __init__(self, database_url: str, *, app: str | None = None, **settings: str) -> None:
        self.port = free_port()
        self.database_url = database_url
        self._app = app
        self._directory = Path(tempfile.mkdtemp(prefix="muster-bench-server-"))
        self.environment = _environment(
            database_url=database_url, data_dir=str(self._directory), log_level="WARNING", judge_processes="1",
            token_key=signing_in.TOKEN_KEY, rate_limits="off", **settings,
        )  # fmt: skip
        self._log = self._directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command()], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        try:
            self._wait()
            self._settle()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def _command(self) -> list[str]:
        where = ["--host", HOST, "--port", str(self.port)]
        if self._app is None:
            return ["app.cli", "serve", "--no-migrate", *where]
        how = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header"]
        return ["uvicorn", "--factory", self._app, *where, *how]

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def request(
        self, method: str, path: str, body: bytes | Upload | None = None, media_type: str = "application/json"
    ) -> bytes:
        """The answer's body, whole. Raises RequestFailed unless the status is a success."""
        headers = signing_in.BEARER | ({} if body is None else {"Content-Type": media_type})
        if isinstance(body, Upload):
            headers |= {"Content-Length": str(body.size)}
        # A connection each: the server closes one that idles for some seconds.
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=REQUEST_SECONDS)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        if answer.status >= 300:
            raise RequestFailed(f"{method} {path}: {answer.status} {content[:2000]!r}\n{self._logged()}")
        return content

    def import_csv(self, file: bytes) -> float:
        """Seconds from the first byte of the upload to the last one of the report; every row must be created."""
        body, media_type = multipart(file, {"background": "false"})
        started = time.perf_counter()
        answer = self.request("POST", IMPORT_PATH, body, media_type)
        seconds = time.perf_counter() - started
        counts = orjson.loads(answer)["counts"]
        if counts["created"] != counts["rows"]:
            raise RequestFailed(f"not every row was created: {counts}")
        return seconds

    def delete(self, ids: Iterable[int]) -> float:
        """Seconds that a hard deletion takes; every instance must be deleted."""
        body = orjson.dumps({"instance_ids": list(ids), "mode": "hard", "background": False})
        started = time.perf_counter()
        answer = self.request("POST", DELETION_PATH, body)
        seconds = time.perf_counter() - started
        report = orjson.loads(answer)
        if report["outcome"] != "complete":
            raise RequestFailed(f"not every instance was deleted: {report['counts']}")
        return seconds

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.request("GET", "/health/ready")
                return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RequestFailed(f"the server did not start\n{self._logged()}")
            time.sleep(0.05)

    def _settle(self) -> None:
        """Until it is idle: its other processes still read their modules when the server answers, which takes up to two
        seconds of a processor each, and would be counted with whatever is measured first."""
        deadline = time.monotonic() + START_SECONDS
        before, used = 0.0, processor_seconds(self.process_id)
        while used - before > IDLE_SHARE * IDLE_LOOK_SECONDS:
            if time.monotonic() > deadline:
                raise RequestFailed(f"the server is never idle\n{self._logged()}")
            time.sleep(IDLE_LOOK_SECONDS)
            before, used = used, processor_seconds(self.process_id)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _logged(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]
