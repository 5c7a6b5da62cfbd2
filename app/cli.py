"""The `muster` command: what it offers and how it is asked.

`serve`, `worker`, `migrate`, `rotate-key`, `user` and `audit` work on the configured database; `import`, `delete`,
`export` and `operations` talk to a running server. What each does lives in `app/commands/`.

Exit codes, for scripts: 0 all done, 1 some rows or ids were refused, 2 failed, 130 interrupted.
"""

import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from app.commands.audit_cli import audit_cli
from app.commands.delete_instances import delete_instances
from app.commands.exit_codes import ExitCode, reporting_failures
from app.commands.export_instances import export_instances
from app.commands.import_file import import_file
from app.commands.operations_cli import operations_cli
from app.commands.user_cli import user_cli
from app.garbage import collect_seldom

cli = typer.Typer(
    name="muster",
    help="Registers fleets of database instances, keeps what is known of them true, and retires them cleanly.",
    epilog="Exit codes: 0 all done, 1 some rows or ids were refused, 2 failed, 130 interrupted. "
    "The server's settings are MUSTER_* environment variables; the README lists them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.command("import", no_args_is_help=True)(import_file)
cli.command("delete", no_args_is_help=True)(delete_instances)
cli.command("export")(export_instances)
cli.add_typer(operations_cli, name="operations")
cli.add_typer(user_cli, name="user")
cli.add_typer(audit_cli, name="audit")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"muster {version('muster')}")
        raise typer.Exit


@cli.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


# The commands below import what they run when they run it: the web framework and the database take four times as long
# to load as all that `muster import` needs.


@cli.command()
def serve(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="The address to listen on, instead of MUSTER_HOST (by default 127.0.0.1)."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="NUMBER",
            help="The port, instead of MUSTER_PORT (by default 8000); 0 takes a free one.",
        ),
    ] = None,
    migrate_first: Annotated[
        bool, typer.Option("--migrate/--no-migrate", help="Bring the database to the newest schema before serving.")
    ] = True,
    access_log: Annotated[
        bool, typer.Option("--access-log/--no-access-log", help="Log a line for every request.")
    ] = False,
    worker: Annotated[
        bool | None,
        typer.Option(
            "--worker/--no-worker",
            help="Work on operations too, or leave them to `muster worker` (PostgreSQL), instead of "
            "MUSTER_SERVER_WORKER (by default on).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the API and its documentation page.

    Without MUSTER_DATABASE_URL the data is kept in an SQLite file in MUSTER_DATA_DIR. One server works on an SQLite
    file at a time; on PostgreSQL as many as you like. SIGTERM and Ctrl-C let running requests finish, for at most 30
    seconds.
    """
    from app.commands import server  # noqa: PLC0415

    with reporting_failures():
        server.serve(host=host, port=port, migrate_first=migrate_first, access_log=access_log, worker=worker)


@cli.command("worker")
def work() -> None:
    """Work on imports and deletions in the background, beside the servers, on PostgreSQL.

    As many as you like, on any number of machines, with the servers' settings. SIGTERM and Ctrl-C let what is under way
    finish its present chunk and hand the rest over to another worker; MUSTER_WORKER_GRACE_SECONDS later, or at a second
    signal, it is cut off. Nothing is lost or done twice either way.
    """
    from app.commands import worker  # noqa: PLC0415

    with reporting_failures():
        worker.work()


@cli.command()
def migrate() -> None:
    """Bring the configured database to the newest schema.

    Creates the SQLite file, or the tables in the PostgreSQL database that MUSTER_DATABASE_URL names; does nothing where
    the schema is already the newest. `serve` does the same when it starts.
    """
    from app.commands import server  # noqa: PLC0415

    with reporting_failures():
        server.migrate()


@cli.command("rotate-key")
def rotate_key() -> None:
    """Encrypt every stored password anew, with a new key.

    The key in the data directory is replaced by a new one. Keys in MUSTER_SECRET_KEY are yours to make: put the new one
    before the old, separated by a comma, restart the servers, run this, and then take the old one out. Servers may go
    on running meanwhile, and whatever breaks off can be run again.
    """
    from app.commands import server  # noqa: PLC0415

    with reporting_failures():
        server.rotate_key()


def main() -> None:
    collect_seldom()
    try:
        cli()
    except Exception:
        # Python's own exit code for an exception is 1, which here means that some rows were refused.
        traceback.print_exc()
        sys.exit(ExitCode.FAILED)


if __name__ == "__main__":
    main()
