"""Secrets at rest: Fernet tokens, and where the keys for them come from.

The keys are those of MUSTER_SECRET_KEY, separated by commas, or else the lines of `secret.key` in the data directory,
a file that is made when there is none. The first key seals, every key opens, so that a key can be replaced while
secrets sealed with the one before it are still stored.
"""

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.config import Settings

log = structlog.get_logger(__name__)

KEY_FILE_NAME = "secret.key"
# Readable by nobody but the owner; tempfile.mkstemp makes its files so.
_others = stat.S_IRWXG | stat.S_IRWXO


class SecretKeyRefused(Exception):
    """The keys cannot be used. The message names where they come from and which of them it is, never the key."""


class SecretUnreadable(Exception):
    """None of the keys opens a secret."""


class KeySource(Protocol):
    def keys(self) -> tuple[str, ...]:
        """The keys as they are now, newest first; at least one, and each a valid one."""


class ConfiguredKeys:
    """Keys that were given to the process and stay as they are while it runs."""

    def __init__(self, text: str) -> None:
        self._keys = _valid_keys(text.split(","), "MUSTER_SECRET_KEY")

    def keys(self) -> tuple[str, ...]:
        return self._keys


class KeyFile:
    """One key a line. A server that is running notices when another process rotates the keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: tuple[str, ...] = ()
        self._seen: tuple[int, int, int] | None = None
        if not path.exists():
            self._create()
        self.keys()

    def keys(self) -> tuple[str, ...]:
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._warn_of_readers(found.st_mode)
                self._keys = _valid_keys(self.path.read_text("ascii").splitlines(), str(self.path))
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise SecretKeyRefused(f"{self.path} cannot be read: {error.__class__.__name__}") from error
        return self._keys

    def add_key(self) -> None:
        """Puts a new key in front; the old ones still open what they sealed."""
        self._replace((Fernet.generate_key().decode(), *self.keys()))

    def keep_newest(self) -> None:
        """Drops every key but the first. Whatever the others sealed is lost."""
        self._replace(self.keys()[:1])

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        complete = self._written((Fernet.generate_key().decode(),))
        try:
            # Of two processes that start at once, one makes the file; no one ever sees it half-written.
            os.link(complete, self.path)
            log.info("made a key for secrets; keep a copy of it apart from the database's", path=str(self.path))
        except FileExistsError:
            pass
        finally:
            complete.unlink()
        _sync_directory(self.path.parent)

    def _replace(self, keys: Iterable[str]) -> None:
        self._written(keys).replace(self.path)
        _sync_directory(self.path.parent)

    def _written(self, keys: Iterable[str]) -> Path:
        """A complete file of mode 0600 beside the key file, under another name."""
        descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.writelines(f"{key}\n" for key in keys)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)

    def _warn_of_readers(self, mode: int) -> None:
        if mode & _others:
            log.warning(
                "the key file can be read by others than its owner; set its mode to 0600",
                path=str(self.path),
                mode=oct(stat.S_IMODE(mode)),
            )


class SecretBox:
    """Seals secrets to store them, and opens them again. Tokens are URL-safe base64 text."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._keys: tuple[str, ...] = ()
        self._fernets: list[Fernet] = []

    def seal(self, secret: str) -> str:
        return self._newest.encrypt(secret.encode()).decode()

    def open(self, token: str) -> str:
        """Raises SecretUnreadable when the token was sealed with a key that is not known, or is none."""
        try:
            return MultiFernet(self._current()).decrypt(token).decode()
        except InvalidToken as error:
            raise SecretUnreadable("sealed with a key that is not among the present ones") from error

    def reseal(self, token: str) -> str:
        """The same secret sealed with the newest key; raises SecretUnreadable as `open` does."""
        try:
            return MultiFernet(self._current()).rotate(token).decode()
        except InvalidToken as error:
            raise SecretUnreadable("sealed with a key that is not among the present ones") from error

    def is_newest(self, token: str) -> bool:
        """Whether the newest key sealed it."""
        try:
            self._newest.decrypt(token)
        except InvalidToken:
            return False
        return True

    @property
    def _newest(self) -> Fernet:
        return self._current()[0]

    def _current(self) -> list[Fernet]:
        keys = self._source.keys()
        if keys != self._keys:
            self._keys, self._fernets = keys, [Fernet(key) for key in keys]
        return self._fernets


def key_source(settings: Settings) -> ConfiguredKeys | KeyFile:
    """Raises SecretKeyRefused when a key is not one."""
    configured = settings.secret_key.get_secret_value() if settings.secret_key else ""
    # An empty variable is how compose files spell "not set".
    return ConfiguredKeys(configured) if configured.strip() else KeyFile(settings.data_dir / KEY_FILE_NAME)


def open_secret_box(settings: Settings) -> SecretBox:
    return SecretBox(key_source(settings))


def _valid_keys(texts: Iterable[str], origin: str) -> tuple[str, ...]:
    keys = tuple(text.strip() for text in texts if text.strip())
    if not keys:
        raise SecretKeyRefused(f"{origin} holds no key")
    for place, key in enumerate(keys, 1):
        if not _is_key(key):
            raise SecretKeyRefused(
                f"{origin}: key {place} of {len(keys)} is not a Fernet key (32 bytes in URL-safe base64)"
            )
    return keys


def _is_key(text: str) -> bool:
    try:
        Fernet(text)
    except ValueError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    """Makes the new name itself durable: without it a power cut can take the key of what was stored since."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
