"""`muster worker`: works on operations beside the servers, on PostgreSQL."""

import typer
import uvloop
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from app.commands.configuration import (
    database_failures,
    key_failures,
    on_database,
    prepared_settings,
    shown_url,
    sqlite_file,
)
from app.commands.exit_codes import CommandFailed
from app.database import Database
from app.instances.cascade_postgresql import installed_function_matches
from app.migration import migration_head
from app.worker import run_worker


def work() -> None:
    """Works until it is told to stop."""
    settings = prepared_settings()
    database = sqlite_file(settings)
    if database is not None:
        raise CommandFailed(
            f"one process has the SQLite file {database}, and that is the server: `muster serve` works on operations"
            " itself; workers beside it need PostgreSQL"
        )
    on_database(settings, _require_newest)

    def announce() -> None:
        typer.echo(f"Muster works on operations of {shown_url(settings)}, {settings.worker_operations} at once")

    with key_failures(), database_failures(settings):
        uvloop.run(run_worker(settings, announce))


async def _require_newest(database: Database) -> None:
    """Raises CommandFailed when the database is another version's."""
    head = migration_head()
    async with database.read_engine.connect() as connection:
        current = await connection.run_sync(_current_revision)
        if current != head:
            raise CommandFailed(f"the database is at migration {current}, not at {head}; run `muster migrate`")
        if not await installed_function_matches(connection):
            raise CommandFailed("the database's deletion function is not this version's; run `muster migrate`")


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
