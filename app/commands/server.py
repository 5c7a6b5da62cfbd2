"""What runs on the server's own machine: `serve`, `migrate` and `rotate-key`, on the configured database."""

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import typer
import uvicorn
from alembic.util import CommandError
from asyncpg import PostgresError
from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app import migration
from app.commands.exit_codes import CommandFailed, ExitCode
from app.commands.sqlite_lock import exclusive_server
from app.config import Settings
from app.credentials.encryption import SecretKeyRefused, SecretUnreadable, open_secret_box
from app.credentials.rotation import RotationUnderWay, rotate_keys
from app.database import Database
from app.logs import configure_logging
from app.main import create_app

GRACEFUL_SECONDS = 30
LISTEN_BACKLOG = 2048
"""uvicorn's own."""
DATA_DIR_MODE = 0o700
"""It holds the database and, where none is configured, the key that credentials are encrypted with."""
SAMPLE = Path(__file__).parent.parent.parent / "examples" / "fleet.csv"
_secret_settings = {"database_url", "secret_key"}


def serve(*, host: str | None, port: int | None, migrate_first: bool, access_log: bool) -> None:
    """Serves until it is told to stop; what is not given comes from the settings."""
    settings = _prepare()
    database = _sqlite_file(settings)
    with exclusive_server(database) if database else nullcontext():
        # The port is taken before anything is changed, and connections wait in its backlog meanwhile.
        listener = listen(settings.host if host is None else host, settings.port if port is None else port)
        with listener:
            with _key_failures():
                open_secret_box(settings)
            if migrate_first:
                _migrate(settings)
            _run(settings, listener, access_log=access_log)


def migrate() -> None:
    settings = _prepare()
    _sqlite_file(settings)
    _migrate(settings)
    typer.echo(f"{_shown_url(settings)} is at migration {migration.migration_head()}")


def rotate_key() -> None:
    settings = _prepare()
    _sqlite_file(settings)
    with _key_failures(), _database_failures(settings):
        count = asyncio.run(_rotate(settings))
    typer.echo(f"{count:,} passwords were sealed with the newest key; the older keys are no longer needed")


async def _rotate(settings: Settings) -> int:
    database = Database(settings)
    try:
        return await rotate_keys(settings, database)
    finally:
        await database.dispose()


def _prepare() -> Settings:
    """The settings, with logging as they say and the data directory made."""
    try:
        settings = Settings()
        configure_logging(settings.log_level)
    except ValidationError as error:
        raise CommandFailed("\n".join(_complaints(error))) from error
    except ValueError as error:
        raise CommandFailed(f"MUSTER_LOG_LEVEL: {error}") from error
    settings.data_dir.mkdir(mode=DATA_DIR_MODE, parents=True, exist_ok=True)
    return settings


def _complaints(error: ValidationError) -> Iterator[str]:
    for each in error.errors():
        name = str(each["loc"][0])
        value = "" if name in _secret_settings else f", not {each['input']!r}"
        yield f"MUSTER_{name.upper()}: {each['msg']}{value}"


def _sqlite_file(settings: Settings) -> Path | None:
    """The SQLite file to work on, or None with PostgreSQL. Raises CommandFailed for what is neither."""
    try:
        url = make_url(settings.resolved_database_url)
    except ArgumentError as error:
        raise CommandFailed(
            "MUSTER_DATABASE_URL is not a database URL; it looks like postgresql+asyncpg://user:password@host/database"
        ) from error
    if url.drivername == "postgresql+asyncpg":
        return None
    if url.drivername != "sqlite+aiosqlite":
        raise CommandFailed(f"MUSTER_DATABASE_URL must be for postgresql+asyncpg or sqlite, not {url.drivername}")
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise CommandFailed(
            "MUSTER_DATABASE_URL must name a file by its path, as in sqlite:////var/lib/muster/muster.db"
        )
    path = Path(url.database)
    if not path.parent.is_dir():
        raise CommandFailed(f"the folder {path.parent} of the database does not exist")
    return path


def _shown_url(settings: Settings) -> str:
    return make_url(settings.resolved_database_url).render_as_string(hide_password=True)


def _migrate(settings: Settings) -> None:
    with _database_failures(settings):
        migration.migrate()


@contextmanager
def _key_failures() -> Iterator[None]:
    try:
        yield
    except (SecretKeyRefused, SecretUnreadable, RotationUnderWay) as error:
        raise CommandFailed(str(error)) from error


@contextmanager
def _database_failures(settings: Settings) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise CommandFailed(f"{_shown_url(settings)} cannot be migrated: {error}") from error
    except (SQLAlchemyError, PostgresError, OSError) as error:
        reason = getattr(error, "orig", None) or error
        raise CommandFailed(f"the database {_shown_url(settings)} cannot be used: {reason}") from error


def listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CommandFailed(f"cannot listen on {host} port {port}: {reason}") from error


class _AnnouncingServer(uvicorn.Server):
    """Says where it is once it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            typer.echo(announcement(url_of(sockets[0])))


def _run(settings: Settings, listener: socket.socket, *, access_log: bool) -> None:
    server = _AnnouncingServer(
        uvicorn.Config(
            create_app(settings),
            loop="uvloop",
            http="httptools",
            lifespan="on",
            access_log=access_log,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
    )
    # uvicorn raises the signal that stopped it once more when it is done; a server that ended when told to succeeded.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _end)
    server.run(sockets=[listener])
    if not server.started:
        raise CommandFailed("the server could not start; the log says why")


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(ExitCode.DONE)


def url_of(listener: socket.socket) -> str:
    """The address to open on this machine: what listens on every interface answers on the loopback one."""
    host, port = listener.getsockname()[:2]
    address = ip_address(host)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"


def announcement(url: str) -> str:
    """Where the documentation page is, and a line to paste that imports the repository's sample."""
    lines = [f"Muster answers on {url}", f"  documentation    {url}/docs"]
    if SAMPLE.exists():
        sample = os.path.relpath(SAMPLE) if SAMPLE.is_relative_to(Path.cwd()) else str(SAMPLE)
        lines.append(f"  import a sample  curl -F file=@{shlex.quote(sample)} {url}/api/v1/instances/batch-create")
    return "\n".join(lines)
