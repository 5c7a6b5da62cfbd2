"""A disk that is really full: a small file system of its own, which only the process that is started on it sees.

It is mounted in a mount namespace of that process (`unshare`), and seen from outside through `/proc/PID/root`.
"""

import mmap
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_FILLER = "filler"
_MOUNT = 'mount -t tmpfs -o "size=$1,mode=0700" none "$2" && shift 2 && exec "$@"'


@cache
def _unshare() -> tuple[str, ...] | None:
    """The command that makes a mount namespace; None where that is not permitted."""
    program = shutil.which("unshare")
    if program is None:
        return None
    for namespaces in (("--mount",), ("--user", "--map-root-user", "--mount")):
        command = (program, *namespaces)
        probe = (*command, "sh", "-c", _MOUNT, "sh", "64k", "/mnt", "true")
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return command
    return None


def require_small_disks() -> None:
    if _unshare() is None:
        pytest.skip(
            "no file system can be mounted here: install util-linux (unshare), and allow mount namespaces to this user "
            "(sysctl kernel.unprivileged_userns_clone=1 or user.max_user_namespaces; in a container: --privileged)"
        )


@dataclass
class SmallDisk:
    """On `directory`, which must exist; `pid` is that of the process that was started on it."""

    directory: Path
    size: int
    pid: int | None = None

    @property
    def command(self) -> tuple[str, ...]:
        """What stands before the command of a process that is to have it."""
        unshare = _unshare()
        assert unshare is not None
        return (*unshare, "sh", "-c", _MOUNT, "sh", str(self.size), str(self.directory))

    @property
    def seen(self) -> Path:
        return Path(f"/proc/{self.pid}/root{self.directory}")

    def run(self, *command: str) -> str:
        """What a command says that is run where the disk is seen under its own path, as SQLite needs it."""
        unshare = _unshare()
        assert unshare is not None
        user = ("--user", "--preserve-credentials") if "--user" in unshare else ()
        enter = ("nsenter", "--target", str(self.pid), "--mount", *user)
        return subprocess.run((*enter, *command), capture_output=True, check=True, text=True).stdout.strip()

    def fill(self, free: int = 0) -> None:
        """But for so many bytes, rounded to pages; others may be taking room meanwhile."""
        with (self.seen / _FILLER).open("ab", buffering=0) as file:
            while (room := shutil.disk_usage(self.seen).free - free) >= mmap.PAGESIZE:
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)

    def make_room(self) -> None:
        (self.seen / _FILLER).unlink()

    def names(self, below: str = ".") -> set[str]:
        return {path.name for path in (self.seen / below).iterdir()} - {_FILLER}
