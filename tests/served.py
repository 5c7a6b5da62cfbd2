"""A server as an operator starts it: a process of its own, on a free port."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 10
# What the announcement ends with: the line to paste, with a key, or else how to come by one.
_last_line = re.compile(r".*X-API-Key: mst_|  *\(for a key,")


@dataclass
class Served:
    """`announced` is all that it has printed; `log` is its standard error."""

    process: subprocess.Popen[str]
    announced: str
    data_dir: Path
    log: Path

    @property
    def url(self) -> str:
        return self._shown(r"Muster answers on (\S+)")

    @property
    def password(self) -> str:
        """That of the user `admin`; only the first start shows it."""
        return self._shown(r"^  password +(\S+)$")

    @property
    def key(self) -> dict[str, str]:
        """Headers with the API key of the first start."""
        return {"X-API-Key": self._shown(r"X-API-Key: (mst_[^\"]+)")}

    def _shown(self, pattern: str) -> str:
        found = re.search(pattern, self.announced, re.MULTILINE)
        assert found, self.announced + self.log.read_text()
        return found[1]

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def serve(data_dir: Path, *options: str, command: Sequence[str] = (), **settings: str) -> Served:
    """A server on a free port, when it has said where it is; `command` is what starts it."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    log = data_dir.parent / "serve.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, sys.executable, "-m", "app.cli", "serve", "--port", "0", *options],
            env=others
            | {"MUSTER_DATA_DIR": str(data_dir)}
            | {f"MUSTER_{name.upper()}": value for name, value in settings.items()},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    return Served(process, _announced(process), data_dir, log)


def _announced(process: subprocess.Popen[str]) -> str:
    """All that it prints at its start; what it had printed until then where it ends instead."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if _last_line.match(line):
            break
    return "".join(lines)
