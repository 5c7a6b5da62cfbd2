"""`muster export`: writes the registered instances as CSV, to a file or to standard output."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import DownloadColumn, TextColumn, TimeElapsedColumn

from app.commands.api_key import KeyFileOption, KeyOption
from app.commands.client import DEFAULT_URL, UrlOption, connected
from app.commands.exit_codes import reporting_failures
from app.commands.output_file import opened
from app.commands.screen import error_console, progress_bar


def export_instances(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", dir_okay=False, metavar="FILE", help="The file to write, instead of standard output."
        ),
    ] = None,
    q: Annotated[
        str | None, typer.Option("--q", metavar="TEXT", help="Only those with this text in their name or host.")
    ] = None,
    db_type: Annotated[str | None, typer.Option(metavar="NAME", help="Only this database type, such as mysql.")] = None,
    environment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this environment, such as production.")
    ] = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="Only active, disabled or deleted ones.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only those with this tag; again for several, all of them.")
    ] = None,
    credential_id: Annotated[
        int | None, typer.Option(min=1, metavar="ID", help="Only those with this credential.")
    ] = None,
    space_id: Annotated[int | None, typer.Option(min=1, metavar="ID", help="Only those of this space.")] = None,
    all_columns: Annotated[
        bool, typer.Option("--all-columns", help="Add the columns that an import does not take, such as the id.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    api_key_file: KeyFileOption = None,
) -> None:
    """Write the registered instances as CSV.

    The columns are those of the import, so that the file can be edited and imported again. Passwords are never part
    of it. A file appears under its name only when it is complete.
    """
    given: dict[str, str | int | None] = {
        "q": q,
        "db_type": db_type,
        "environment": environment,
        "status": status,
        "credential_id": credential_id,
        "space_id": space_id,
        "columns": "all" if all_columns else None,
    }
    parameters: list[tuple[str, str | int]] = [("format", "csv")]
    parameters += [(name, value) for name, value in given.items() if value is not None]
    parameters += [("tag", each) for each in tag or []]
    with reporting_failures(), connected(context, url, api_key, api_key_file) as server:
        with server.download("api/v1/instances/export", parameters) as content, opened(output) as file:
            _write(content, file, show_progress=output is not None)
        if output is not None:
            error_console().print(f"written to {output}", soft_wrap=True)


def _write(content: Iterator[bytes], file: BinaryIO, *, show_progress: bool) -> None:
    columns = (TextColumn("exporting"), DownloadColumn(), TimeElapsedColumn())
    bar = progress_bar(*columns)
    bar.disable = bar.disable or not show_progress
    with bar:
        task = bar.add_task("exporting", total=None)
        for piece in content:
            file.write(piece)
            bar.advance(task, len(piece))
    file.flush()
