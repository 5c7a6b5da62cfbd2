"""`muster audit`: checks the sealed chain of the audit trail and says what does not fit, seals, and tells the head."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import BaseModel, Field, ValidationError
from rich.console import Console

from app.audit.chain import Link
from app.audit.head import AuditHead, read_head
from app.audit.restart import AuditRestart, RestartRefused
from app.audit.sealer import AuditSealer, SealingRefused
from app.audit.sealing_key import existing_sealing
from app.audit.verification import AuditVerifier, Verification
from app.commands.configuration import key_failures, on_database, prepared_settings, refusals, sqlite_file
from app.commands.exit_codes import CommandFailed
from app.commands.screen import result_console, show_table
from app.database import Database
from app.fields import at_most, one_line, required

MAX_REASON_CHARACTERS = 500


class KeptHead(BaseModel):
    """What of `GET /audit/head` and `muster audit head` is checked."""

    sequence: Annotated[int, Field(ge=0)]
    seal: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def verify(head_file: Path | None) -> bool:
    """Whether everything fits. Raises CommandFailed when it cannot be checked."""
    head = None if head_file is None else _read(head_file)
    settings = prepared_settings()
    sqlite_file(settings)
    with key_failures():
        sealing = existing_sealing(settings)
    found = on_database(settings, lambda database: AuditVerifier(database, sealing).verify(head))
    _show(found, head)
    return not found.findings


def seal() -> None:
    """Seals what the servers have not sealed yet. Raises CommandFailed when it cannot."""
    settings = prepared_settings()
    sqlite_file(settings)
    with key_failures():
        sealing = existing_sealing(settings)
    try:
        count = on_database(settings, lambda database: AuditSealer(database, sealing).seal())
    except SealingRefused as error:
        raise CommandFailed(f"nothing was sealed: {error}") from error
    typer.echo(f"{count:,} {'entry was' if count == 1 else 'entries were'} sealed")


def restart(reason: str) -> None:
    """Begins the chain anew. Raises CommandFailed when it must not, or the reason is none."""
    with refusals():
        reason = at_most("reason", one_line("reason", required("reason", reason.strip())), MAX_REASON_CHARACTERS)
    settings = prepared_settings()
    sqlite_file(settings)
    with key_failures():
        sealing = existing_sealing(settings)
    try:
        anchor = on_database(settings, lambda database: AuditRestart(database, sealing).restart(reason))
    except RestartRefused as error:
        raise CommandFailed(f"the chain was not restarted: {error}") from error
    typer.echo(
        f"a new chain begins after entry {anchor.end.sequence:,}; "
        f"the {anchor.unverifiable:,} entries up to there cannot be verified any more"
    )


def head() -> None:
    """Prints the head as JSON."""
    settings = prepared_settings()
    sqlite_file(settings)
    found = on_database(settings, _head)
    typer.echo(orjson.dumps(found, option=orjson.OPT_UTC_Z).decode())


async def _head(database: Database) -> AuditHead:
    async with database.readers() as session:
        return await read_head(session)


def _read(file: Path) -> Link:
    try:
        head = KeptHead.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise CommandFailed(f"{file} is no answer of GET /api/v1/audit/head or muster audit head") from error
    return Link(head.sequence, head.seal)


def _show(found: Verification, head: Link | None) -> None:
    console = result_console(as_json=False)
    if found.findings:
        rows = [(str(each.sequence), each.kind.value, each.message) for each in found.findings]
        show_table(console, ("entry", "finding", "message"), rows)
        if found.is_full:
            _say(console, f"the check stopped at {len(found.findings)} findings")
    _show_beginning(console, found, head)
    count = len(found.findings)
    verdict = f"{count} finding{'s' if count > 1 else ''}" if count else "intact"
    _say(console, f"{verdict}: {found.entries:,} sealed entries were checked; {found.unsealed:,} are not sealed yet")


def _show_beginning(console: Console, found: Verification, head: Link | None) -> None:
    """What of the trail is not checked, because it is gone or of a lost key."""
    if found.restart is not None:
        since = found.restart.created_at.partition(".")[0]
        _say(
            console,
            f"{found.unverifiable:,} entries, up to {found.restart.end.sequence:,}, were sealed with a key that was "
            f"lost and cannot be verified any more: the chain was restarted on {since} UTC",
        )
    if found.removed:
        since_then = "" if found.restart is None else " since then"
        _say(
            console,
            f"the first {found.removed:,} entries{since_then} are gone, as old ones are, and an anchor stands for them",
        )
    if head is not None and found.is_exported_gone:
        _say(console, f"entry {head.sequence:,}, which the head is about, is one of them")


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
