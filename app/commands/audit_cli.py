"""`muster audit`: what it offers and how it is asked. What it does is in `audit`, which is imported when it is run."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.exit_codes import ExitCode, reporting_failures

audit_cli = typer.Typer(
    help="Check and seal the audit trail, in the configured database.", no_args_is_help=True, rich_markup_mode=None
)


@audit_cli.command()
def verify(
    from_head: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="What `muster audit head` printed earlier, or GET /api/v1/audit/head answered: its entry "
            "must still be there, unchanged.",
        ),
    ] = None,
) -> None:
    """Find out whether an entry was changed, removed, put in or cut off.

    Needs the key that the trail is sealed with (MUSTER_AUDIT_KEY, or audit.key in the data directory). Servers may go
    on running. That the newest entries were cut off is found by a head that was kept elsewhere. Exit code 1 tells that
    something was found.
    """
    from app.commands import audit  # noqa: PLC0415

    with reporting_failures():
        is_intact = audit.verify(from_head)
    if not is_intact:
        raise typer.Exit(ExitCode.REFUSED)


@audit_cli.command()
def head() -> None:
    """Print the newest sealed entry's place and seal as JSON, to be kept on another machine.

    Whoever can write to the database could cut the newest entries off, and what is left would still fit together;
    `muster audit verify --from-head` compares it with what was kept.
    """
    from app.commands import audit  # noqa: PLC0415

    with reporting_failures():
        audit.head()


@audit_cli.command()
def seal() -> None:
    """Seal what was recorded since the servers did so last, as they do every few seconds by themselves."""
    from app.commands import audit  # noqa: PLC0415

    with reporting_failures():
        audit.seal()


@audit_cli.command()
def restart(
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="What happened to the key; it stands in the trail from now on.")
    ],
) -> None:
    """Begin a new chain under the present key, when the key that the trail was sealed with is lost.

    What was sealed until now stays, but cannot be verified any more; `muster audit verify` says so ever after. First
    give all servers the new key (MUSTER_AUDIT_KEY, or audit.key in the data directory) and restart them. It is refused
    where the present key is the one that the trail is sealed with.
    """
    from app.commands import audit  # noqa: PLC0415

    with reporting_failures():
        audit.restart(reason)
