"""What runs on the server's own machine: `serve`, `migrate` and `rotate-key`, on the configured database."""

import os
import shlex
import signal
import socket
import sys
from contextlib import nullcontext
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import typer
import uvicorn
from fastapi import FastAPI

from app import migration
from app.access.tokens import open_access_tokens
from app.audit.sealing_key import open_sealing
from app.commands.api_key import KEY_VARIABLE
from app.commands.configuration import (
    database_failures,
    key_failures,
    on_database,
    prepared_settings,
    refusals,
    shown_url,
    sqlite_file,
)
from app.commands.exit_codes import CommandFailed, ExitCode
from app.commands.first_start import USERNAME, FirstStart, start_first
from app.commands.sqlite_lock import exclusive_server
from app.config import Settings
from app.credentials.encryption import open_secret_box
from app.credentials.rotation import rotate_keys
from app.main import create_app
from app.operations.working import hand_over
from app.worker_process import WorkerProcess

GRACEFUL_SECONDS = 30
LISTEN_BACKLOG = 2048
"""uvicorn's own."""
SAMPLE = Path(__file__).parent.parent.parent / "examples" / "fleet.csv"
HOW_TO_MAKE_A_KEY = "for a key, sign in on the documentation page and send POST /api/v1/api-keys"


def serve(
    *, host: str | None, port: int | None, migrate_first: bool, access_log: bool, worker: bool | None = None
) -> None:
    """Serves until it is told to stop; what is not given comes from the settings."""
    settings = prepared_settings()
    if worker is not None:
        settings = settings.model_copy(update={"server_worker": "on" if worker else "off"})
    database = sqlite_file(settings)
    if database is not None and settings.queue_dashboard == "on":
        raise CommandFailed(
            f"MUSTER_QUEUE_DASHBOARD: there is no queue to show, as operations of the SQLite file {database} are worked"
            " on by the server itself; the dashboard needs PostgreSQL"
        )
    if database is not None and settings.server_worker == "off":
        raise CommandFailed(
            "without its worker (--no-worker, MUSTER_SERVER_WORKER) nobody would work on operations, as one process"
            f" has the SQLite file {database}; workers beside the server need PostgreSQL"
        )
    with exclusive_server(database) if database else nullcontext():
        # The port is taken before anything is changed, and connections wait in its backlog meanwhile.
        listener = listen(settings.host if host is None else host, settings.port if port is None else port)
        with listener:
            _open_keys(settings)
            if migrate_first:
                _migrate(settings)
            first = _start_first(settings)
            api_key = None if first is None else first.api_key
            if database is None and settings.server_worker == "on":
                with WorkerProcess(settings) as beside:
                    _run(settings, listener, api_key, access_log=access_log, beside=beside)
            else:
                _run(settings, listener, api_key, access_log=access_log)


def migrate() -> None:
    settings = prepared_settings()
    sqlite_file(settings)
    _migrate(settings)
    typer.echo(f"{shown_url(settings)} is at migration {migration.migration_head()}")


def rotate_key() -> None:
    settings = prepared_settings()
    sqlite_file(settings)
    count = on_database(settings, lambda database: rotate_keys(settings, database))
    typer.echo(f"{count:,} passwords were sealed with the newest key; the older keys are no longer needed")


def _open_keys(settings: Settings) -> None:
    """A key that cannot be used is better known before anything is changed."""
    with key_failures():
        open_secret_box(settings)
        open_access_tokens(settings)
        open_sealing(settings)


def _start_first(settings: Settings) -> FirstStart | None:
    """Shown at once: a server that did not come up afterwards would leave a password that nobody knows."""
    configured = None if settings.admin_password is None else settings.admin_password.get_secret_value()
    with refusals("MUSTER_ADMIN_PASSWORD: "):
        first = on_database(settings, lambda database: start_first(database, configured))
    if first is not None:
        typer.echo(introduction(first))
    return first


def introduction(first: FirstStart) -> str:
    if first.password is None:
        return f"First start: the user {USERNAME} has the password that MUSTER_ADMIN_PASSWORD says"
    return "\n".join((
        "First start. The password is shown this once:",
        f"  user name        {USERNAME}",
        f"  password         {first.password}",
    ))  # fmt: skip


def _migrate(settings: Settings) -> None:
    with database_failures(settings):
        migration.migrate()


def listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CommandFailed(f"cannot listen on {host} port {port}: {reason}") from error


class _AnnouncingServer(uvicorn.Server):
    """Says where it is once it answers, with the API key of the first start."""

    def __init__(self, config: uvicorn.Config, api_key: str | None, beside: WorkerProcess | None) -> None:
        super().__init__(config)
        self._api_key = api_key
        self._beside = beside

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            typer.echo(announcement(url_of(sockets[0]), self._api_key))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # It waits until every answer has ended, and a stream of events ends only when it is told to.
        application = self.config.app
        assert isinstance(application, FastAPI)
        application.state.operation_streams.close()
        # Before the last answer: whoever takes over need not wait for it.
        hand_over(application.state.operation_engine, application.state.operation_runner)
        if self._beside is not None:
            self._beside.hand_over()
        await super().shutdown(sockets)


def _run(
    settings: Settings,
    listener: socket.socket,
    api_key: str | None,
    *,
    access_log: bool,
    beside: WorkerProcess | None = None,
) -> None:
    server = _AnnouncingServer(
        uvicorn.Config(
            create_app(settings, is_alone=beside is None),
            loop="uvloop",
            http="httptools",
            lifespan="on",
            access_log=access_log,
            log_config=None,
            server_header=False,
            # The application reads them itself, from the proxies that are configured.
            proxy_headers=False,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        ),
        api_key,
        beside,
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


def announcement(url: str, api_key: str | None) -> str:
    """Where the documentation page is, and a line to paste that imports the repository's sample.

    Without a key the line takes it from the environment, and another one tells how to come by it.
    """
    lines = [f"Muster answers on {url}", f"  documentation    {url}/docs"]
    if SAMPLE.exists():
        sample = os.path.relpath(SAMPLE) if SAMPLE.is_relative_to(Path.cwd()) else str(SAMPLE)
        key = f"${KEY_VARIABLE}" if api_key is None else api_key
        command = f'curl -H "X-API-Key: {key}" -F file=@{shlex.quote(sample)} {url}/api/v1/instances/batch-create'
        lines.append(f"  import a sample  {command}")
    if api_key is None:
        lines.append(f"                   ({HOW_TO_MAKE_A_KEY})")
    return "\n".join(lines)
