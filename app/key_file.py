"""Keys that are configured, or else made at first start and kept in a file that only its owner can read."""

import os
import secrets
import tempfile
from pathlib import Path

from pydantic import SecretStr

MIN_CHARACTERS = 32


class KeyRefused(Exception):
    """The key cannot be used. The message names where it comes from, never the key."""


def configured_or_made(configured: SecretStr | None, variable: str, path: Path) -> bytes:
    """The configured key, which `variable` is the name of, or that of the file, which is made when there is none."""
    if configured is not None:
        return _long_enough(configured.get_secret_value(), variable)
    try:
        if not path.exists():
            _make(path)
        return _long_enough(path.read_text("ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise KeyRefused(f"{path} cannot be read: {error.__class__.__name__}") from error


def _long_enough(key: str, source: str) -> bytes:
    if len(key) < MIN_CHARACTERS:
        raise KeyRefused(f"the key of {source} must have at least {MIN_CHARACTERS} characters")
    return key.encode()


def _make(path: Path) -> None:
    """The file appears complete, or another process's has come first and stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp lets nobody but the owner read it.
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(path).hardlink_to(name)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
