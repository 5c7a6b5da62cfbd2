"""A server as an operator starts it: a process of its own, on a free port."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 10


@dataclass
class Served:
    process: subprocess.Popen[str]
    url: str
    announced: str
    data_dir: Path

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def serve(data_dir: Path, *options: str) -> Served:
    """A server on a free port, when it has said where it is."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    log = data_dir.parent / "serve.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", "0", *options],
            env={**others, "MUSTER_DATA_DIR": str(data_dir)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    announced = "".join(process.stdout.readline() for _ in range(3))
    found = re.search(r"Muster answers on (\S+)", announced)
    assert found, log.read_text()
    return Served(process, found.group(1), announced, data_dir)
