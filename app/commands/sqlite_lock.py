"""One server process per SQLite file: the in-process writer lock knows nothing of another process's writers."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.commands.exit_codes import CommandFailed

LOCK_FILE_MODE = 0o600


@contextmanager
def exclusive_server(database: Path) -> Iterator[None]:
    """Holds `<database>.lock` while the body runs. Raises CommandFailed when another process holds it.

    The operating system frees the lock when the process ends, however it ends. The file stays: whoever removed it could
    take away the name under which a third process already waits.
    """
    path = database.with_name(f"{database.name}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, LOCK_FILE_MODE)
    try:
        _lock(descriptor, database)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, database: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode().strip()
        who = f"process {holder}" if holder else "another process"
        raise CommandFailed(
            f"{who} serves {database} already; an SQLite file takes one server, PostgreSQL as many as you like"
        ) from None
