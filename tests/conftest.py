"""Databases for tests: real ones, built once by Alembic as templates and copied for each test.

`database_url` is parametrised over both, so whatever uses it (settings, app, client, database) runs on both.
"""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.config import Settings
from app.database import Database
from app.main import create_app
from tests.compilations import share_compilations
from tests.factories import Registry
from tests.postgres_server import PostgresServer, memory
from tests.signing_in import signed_in_as

pytest_plugins = ["tests.loop_watch_plugin", "tests.quick_hashes"]

ROOT = Path(__file__).parent.parent
_postgres: PostgresServer | None = None
_directory: Path | None = None


def migrate(url: str, revision: str = "head", command: str = "upgrade") -> None:
    subprocess.run(
        [sys.executable, "-m", "alembic", command, revision],
        cwd=ROOT,
        env={**os.environ, "MUSTER_DATABASE_URL": url},
        check=True,
        capture_output=True,
    )


async def execute_on(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def pytest_configure(config: pytest.Config) -> None:
    """The controller brings up PostgreSQL and both templates; xdist's workers find them in the environment."""
    global _postgres, _directory
    share_compilations()
    if hasattr(config, "workerinput") or config.option.collectonly or config.option.help:
        return
    in_memory = memory()
    _directory = Path(tempfile.mkdtemp(prefix="muster-tests-", dir=in_memory))
    _keep_bytecode(_directory / "bytecode")
    if in_memory is not None:
        # Below it pytest makes `tmp_path`, where SQLite would wait for the disk with every commit.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(in_memory))
    # These servers have no TLS. asyncpg prepares for it before it asks, and logs an error when cancelled meanwhile.
    os.environ["PGSSLMODE"] = "disable"
    _postgres = PostgresServer()
    _postgres.start()
    os.environ["MUSTER_TEST_POSTGRES"] = _postgres.url("{}")
    os.environ["MUSTER_TEST_SQLITE"] = str(_directory / "template.db")
    asyncio.run(execute_on(_postgres.url(), "CREATE DATABASE template_muster"))
    migrate(_postgres.url("template_muster"))
    migrate(f"sqlite+aiosqlite:///{_directory / 'template.db'}")
    with closing(sqlite3.connect(_directory / "template.db")) as template:
        template.execute("PRAGMA journal_mode=WAL")


def _keep_bytecode(directory: Path) -> None:
    """Where Python is told to write none beside the sources, each process that a test starts would compile all of the
    service and its libraries anew, which takes seconds."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(directory)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _postgres is not None:
        _postgres.remove()
    if _directory is not None:
        shutil.rmtree(_directory, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def execute_on_server() -> Iterator[Callable[[str], None]]:
    """Statements on PostgreSQL that are of no database, by a connection that all tests of this process share."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(os.environ["MUSTER_TEST_POSTGRES"].format("postgres")))
        yield lambda statement: runner.run(connection.execute(statement))
        runner.run(connection.close())


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database of this test's own."""
    if database_kind == "sqlite":
        shutil.copy(os.environ["MUSTER_TEST_SQLITE"], tmp_path / "muster.db")
        yield f"sqlite+aiosqlite:///{tmp_path / 'muster.db'}"
        return
    execute = request.getfixturevalue("execute_on_server")
    name = f"test_{uuid4().hex}"
    execute(f"CREATE DATABASE {name} TEMPLATE template_muster STRATEGY FILE_COPY")
    yield os.environ["MUSTER_TEST_POSTGRES"].format(name)
    execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def common_settings() -> Settings:
    """Files are judged in a thread: starting a process for each test would cost more than the test."""
    return Settings(
        judge_processes=0,
        log_level="WARNING",
        allowed_hosts="muster.test",
        rate_limits="off",
        # No sealer beside the tests; those that need one say so.
        audit_seal_seconds=3600,
        # Nothing begins by itself; those that are about it have it look, and those whose operations are to be worked on
        # say so.
        scheduler="off",
        server_worker="off",
    )


@pytest.fixture
def settings(common_settings: Settings, database_url: str, tmp_path: Path) -> Settings:
    """A copy, as looking through the environment for each takes a twentieth of a test."""
    return common_settings.model_copy(update={"database_url": SecretStr(database_url), "data_dir": tmp_path})


@cache
def _application(settings: Settings) -> FastAPI:
    """One for all tests whose settings differ in nothing but where data is: making it takes longer than most tests."""
    return create_app(settings)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    application = _application(settings.model_copy(update={"database_url": None, "data_dir": Path()}))
    application.state.settings = settings
    async with application.router.lifespan_context(application):
        yield application


def client_of(app: FastAPI, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://muster.test", headers=headers)


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has not signed in."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def admin(registry: Registry) -> int:
    """The id of a user who may do everything."""
    return await registry.user(role="admin")


@pytest.fixture
async def client(app: FastAPI, admin: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is signed in as an administrator."""
    async with client_of(app, await signed_in_as(app, admin)) as client:
        yield client


@pytest.fixture
async def database(app: FastAPI) -> Database:
    return app.state.database


@pytest.fixture
def registry(database: Database) -> Registry:
    """Makes rows with valid parents, so that a test states only what it checks."""
    return Registry(database)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
