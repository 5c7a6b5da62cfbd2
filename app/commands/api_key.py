"""Which API key a command shows to the server, and where it comes from."""

import os
from pathlib import Path
from typing import Annotated

import typer

from app.commands.exit_codes import CommandFailed

KEY_VARIABLE = "MUSTER_API_KEY"
# Far more than a key has: a file that is none is not read to its end.
MAX_FILE_CHARACTERS = 1000

KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help=f"The API key to show, instead of {KEY_VARIABLE}. Whoever lists this machine's processes sees it: "
        f"better set {KEY_VARIABLE}, or give --api-key-file.",
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file", dir_okay=False, metavar="PATH", help=f"Read the API key from this file, not {KEY_VARIABLE}."
    ),
]


def chosen_key(key: str | None, file: Path | None) -> str | None:
    """The key that was given by option, file or environment; None when there is none.

    Raises CommandFailed for two options at once, and for what cannot be a key; the message does not hold it.
    """
    if key is not None and file is not None:
        raise CommandFailed("give --api-key or --api-key-file, not both")
    if key is not None:
        return _checked(key, "--api-key")
    if file is not None:
        return _checked(_read(file), str(file))
    configured = os.environ.get(KEY_VARIABLE)
    return _checked(configured, KEY_VARIABLE) if configured else None


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(MAX_FILE_CHARACTERS)
    except UnicodeDecodeError:
        raise CommandFailed(f"{file} holds no API key") from None


def _checked(given: str, source: str) -> str:
    """Without what surrounds it; whatever else is in it may not break out of the header that it is sent in."""
    key = given.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise CommandFailed(f"{source} holds no API key; one looks like mst_ and 43 letters, digits, - and _")
    return key
