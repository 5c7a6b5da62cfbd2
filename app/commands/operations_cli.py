"""`muster operations`: what it offers and how it is asked."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.commands.api_key import KeyFileOption, KeyOption
from app.commands.client import DEFAULT_URL, UrlOption, connected, parsed
from app.commands.exit_codes import reporting_failures
from app.commands.following import Operation
from app.commands.operations import operation_path, show_operation, show_page, watch
from app.commands.output_file import opened
from app.commands.screen import error_console

operations_cli = typer.Typer(
    help="List, follow and steer what a server does in the background.", no_args_is_help=True, rich_markup_mode=None
)


class OperationState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


IdArgument = Annotated[int, typer.Argument(min=1, metavar="ID", help="The operation's id.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]


@operations_cli.command("list")
def list_operations(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only instance_import or instance_deletion.")] = None,
    state: Annotated[OperationState | None, typer.Option(case_sensitive=False, help="Only those in it.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, metavar="NUMBER", help="How many, the newest first.")] = 20,
    as_json: JsonOption = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """List your operations, and those that you may see besides."""
    given = {"kind": kind, "state": state.value if state is not None else None}
    parameters: list[tuple[str, str | int]] = [("limit", limit), ("sort", "-id")]
    parameters += [(name, value) for name, value in given.items() if value is not None]
    with reporting_failures(as_json=as_json), connected(context, url, api_key, api_key_file) as server:
        show_page(server, parameters, as_json=as_json)


@operations_cli.command()
def show(
    context: typer.Context,
    operation_id: IdArgument,
    as_json: JsonOption = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Tell how far an operation is."""
    with reporting_failures(as_json=as_json), connected(context, url, api_key, api_key_file) as server:
        answer = server.get(operation_path(operation_id))
        show_operation(parsed(Operation, answer), answer.text, as_json=as_json)


@operations_cli.command("watch")
def watch_operation(
    context: typer.Context,
    operation_id: IdArgument,
    as_json: JsonOption = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Follow an operation to its end and show what became of it.

    Ctrl-C leaves it running. The exit code tells how it ended: 0 succeeded, 1 partial or cancelled, 2 failed.
    """
    with reporting_failures(as_json=as_json), connected(context, url, api_key, api_key_file) as server:
        code = watch(server, operation_id, as_json=as_json)
    raise typer.Exit(code)


@operations_cli.command()
def cancel(
    context: typer.Context,
    operation_id: IdArgument,
    as_json: JsonOption = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Have an operation stop after what it is at; what is done stays done."""
    _ask(context, url, api_key, api_key_file, operation_id, "cancel", as_json=as_json)


@operations_cli.command()
def resume(
    context: typer.Context,
    operation_id: IdArgument,
    as_json: JsonOption = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Go on with a cancelled or failed operation where it stopped."""
    _ask(context, url, api_key, api_key_file, operation_id, "resume", as_json=as_json)


@operations_cli.command()
def retry(
    context: typer.Context,
    operation_id: IdArgument,
    as_json: JsonOption = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Try the failed items of an operation again; of an atomic import, all."""
    _ask(context, url, api_key, api_key_file, operation_id, "retry", as_json=as_json)


@operations_cli.command()
def problems(
    context: typer.Context,
    operation_id: IdArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", dir_okay=False, metavar="FILE", help="The file to write, instead of standard output."
        ),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Write the rows that were not applied as CSV, each with the reason, to be corrected and imported again.

    A file appears under its name only when it is complete.
    """
    with reporting_failures(), connected(context, url, api_key, api_key_file) as server:
        path = f"{operation_path(operation_id)}/problems.csv"
        with server.download(path) as content, opened(output) as file:
            for piece in content:
                file.write(piece)
            file.flush()
        if output is not None:
            error_console().print(f"written to {output}", soft_wrap=True)


@operations_cli.command()
def remove(
    context: typer.Context,
    operation_id: IdArgument,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Forget an operation that has ended, with what is known of its items; what it did stays done."""
    with reporting_failures(), connected(context, url, api_key, api_key_file) as server:
        server.delete(operation_path(operation_id))
        typer.echo(f"operation {operation_id} is removed")


def _ask(
    context: typer.Context,
    url: str,
    api_key: str | None,
    api_key_file: Path | None,
    operation_id: int,
    action: str,
    *,
    as_json: bool,
) -> None:
    with reporting_failures(as_json=as_json), connected(context, url, api_key, api_key_file) as server:
        answer = server.post(f"{operation_path(operation_id)}/{action}")
        operation = parsed(Operation, answer)
        show_operation(operation, answer.text, as_json=as_json)
        if not operation.has_ended:
            error_console().print(f"`muster operations watch {operation_id}` follows it to its end", soft_wrap=True)
