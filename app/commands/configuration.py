"""The settings and the database, as the commands on the server's own machine find them."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from alembic.util import CommandError
from asyncpg import PostgresError
from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app.access.identities import Identities
from app.access.tokens import AccessTokens
from app.commands.exit_codes import CommandFailed
from app.config import Settings
from app.credentials.encryption import SecretKeyRefused, SecretUnreadable
from app.credentials.rotation import RotationUnderWay
from app.database import Database
from app.errors import AppError, FieldError
from app.key_file import KeyRefused
from app.logs import configure_logging

DATA_DIR_MODE = 0o700
"""It holds the database and, where none are configured, the keys."""
_secret_settings = {"database_url", "secret_key", "token_key", "audit_key", "admin_password"}

T = TypeVar("T")


def prepared_settings() -> Settings:
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


def sqlite_file(settings: Settings) -> Path | None:
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


def shown_url(settings: Settings) -> str:
    return make_url(settings.resolved_database_url).render_as_string(hide_password=True)


@contextmanager
def key_failures() -> Iterator[None]:
    try:
        yield
    except (KeyRefused, SecretKeyRefused, SecretUnreadable, RotationUnderWay) as error:
        raise CommandFailed(str(error)) from error


@contextmanager
def database_failures(settings: Settings) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise CommandFailed(f"{shown_url(settings)} cannot be migrated: {error}") from error
    except (SQLAlchemyError, PostgresError, OSError) as error:
        raise CommandFailed(f"the database {shown_url(settings)} cannot be used: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """What the database said, without the statement and its values, which may hold what is nobody's business."""
    return str(getattr(error, "orig", None) or error)


@contextmanager
def refusals(about: str = "") -> Iterator[None]:
    """What a service would answer a client with, for who sits at the terminal; `about` goes before it."""
    try:
        yield
    except AppError as error:
        raise CommandFailed(f"{about}{error.detail}") from error
    except FieldError as error:
        raise CommandFailed(f"{about}{error.message}") from error


def on_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """What the work makes of the configured database, which is closed again. Raises CommandFailed."""
    with key_failures(), database_failures(settings):
        return asyncio.run(_on_database(settings, work))


async def _on_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    database = Database(settings)
    try:
        return await work(database)
    finally:
        await database.dispose()


def identities_of(database: Database) -> Identities:
    """For telling the servers that rights have changed; nobody is looked up, so no token needs to be verified.

    A key that is thrown away: that of the servers would be made in the data directory where there is none yet, and
    belong to whoever runs the command instead of the user that the servers run as.
    """
    return Identities(database, AccessTokens(secrets.token_bytes(32), lifetime_seconds=0))
