"""How much imports and deletions gain from more worker processes, beside a server that leaves operations to them.

The workers are there and warm. They are frozen while the operations are asked for, so that nobody begins before all
are queued; what is measured begins when they go on, and ends with the last operation.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import background
from bench.background import Look, Started
from bench.create import PREFIX, WARM_UP_ROWS
from bench.delete import DEPENDENT_ROWS, Fleet
from bench.report import Case, Comparison, Report
from bench.rows import csv_file
from bench.servers import ROOT, STOP_SECONDS, Databases, Server

COUNTS = (1, 2, 4)
READY_SECONDS = 30
# A frozen worker must not be taken for a dead one.
HEARTBEAT_SECONDS = "120"
WARM_UP = "warm-up"
_WARM_UP_IDS = f"SELECT id FROM instances WHERE name LIKE '{WARM_UP}%' AND NOT deletion_protection ORDER BY id"


@dataclass(frozen=True, slots=True)
class Share:
    """What all workers have to do between them: operations at once, and rows or instances in each."""

    operations: int
    rows: int
    instances: int


@dataclass(frozen=True, slots=True)
class _Installation:
    server: Server
    look: Look
    workers: Sequence[subprocess.Popen[bytes]]

    def seconds(self, start: Callable[[], list[Started]]) -> float:
        """What the workers need for the operations that are started meanwhile."""
        self._send(signal.SIGSTOP)
        try:
            started = start()
        finally:
            self._send(signal.SIGCONT)
        thawed_at = time.perf_counter()
        for operation in started:
            background.ended(self.look, operation)
        return time.perf_counter() - thawed_at

    def _send(self, what: signal.Signals) -> None:
        for worker in self.workers:
            worker.send_signal(what)


def measure(databases: Databases, report: Report, share: Share) -> None:
    fleet = Fleet(share.operations * share.instances)
    report.say(f"{databases.kind}: {fleet.name}")
    databases.prepare(fleet.template, fleet.statements(databases.kind))
    files = [csv_file(share.rows, prefix=f"{PREFIX}{number}") for number in range(share.operations)]
    imports = {_name(count): _measured(databases, fleet, count, _importing(files)) for count in COUNTS}
    report.compare(_case(databases, f"{share.operations} imports of {share.rows:,} rows", "rows/s"), imports)
    deletions = {_name(count): _measured(databases, fleet, count, _deleting(fleet, share)) for count in COUNTS}
    name = f"{share.operations} deletions of {share.instances:,} instances × {DEPENDENT_ROWS} rows"
    report.compare(_case(databases, name, "instances/s"), deletions)
    databases.drop(fleet.template)


def _name(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def _case(databases: Databases, name: str, unit: str) -> Case:
    return Case(
        measurement="operations: workers",
        database=databases.kind,
        name=name,
        baseline=_name(1),
        unit=unit,
        comparison=Comparison.RATE,
    )


# Starts operations on a server, and says how many rows or instances they have.
Start = Callable[[Server], tuple[list[Started], int]]


def _importing(files: Sequence[bytes]) -> Start:
    def start(server: Server) -> tuple[list[Started], int]:
        rows = sum(file.count(b"\n") - 1 for file in files)
        return [background.start_import(server, file) for file in files], rows

    return start


def _deleting(fleet: Fleet, share: Share) -> Start:
    def start(server: Server) -> tuple[list[Started], int]:
        parts = [fleet.ids[at : at + share.instances] for at in range(0, fleet.count, share.instances)]
        return [background.start_deletion(server, part) for part in parts], fleet.count

    return start


def _measured(databases: Databases, fleet: Fleet, count: int, start: Start) -> Callable[[], float]:
    """Items a second."""

    def run() -> float:
        with _installed(databases, fleet.template, count) as installation:
            databases.checkpoint()
            items = 0

            def begin() -> list[Started]:
                nonlocal items
                started, items = start(installation.server)
                return started

            seconds = installation.seconds(begin)
            return items / seconds

    return run


@contextmanager
def _installed(databases: Databases, template: str, count: int) -> Iterator[_Installation]:
    """A server and workers, each of which has imported and deleted something."""
    url = databases.copy(template)
    settings = {"server_worker": "off", "worker_heartbeat_seconds": HEARTBEAT_SECONDS}
    with Server(url, **settings) as server, background.looking(url) as look, ExitStack() as stack:
        workers = [stack.enter_context(_working(server)) for _ in range(count)]
        installation = _Installation(server, look, workers)
        installation.seconds(lambda: _warm_up_imports(server, count))
        ids = [row[0] for row in databases.rows(_WARM_UP_IDS)]
        installation.seconds(lambda: _warm_up_deletions(server, ids))
        yield installation


def _warm_up_imports(server: Server, count: int) -> list[Started]:
    """Enough for each of the workers."""
    return [
        background.start_import(server, csv_file(WARM_UP_ROWS, prefix=f"{WARM_UP}{number}"))
        for number in range(4 * count)
    ]


def _warm_up_deletions(server: Server, ids: Sequence[int]) -> list[Started]:
    """The same number."""
    return [
        background.start_deletion(server, ids[at : at + WARM_UP_ROWS]) for at in range(0, len(ids), WARM_UP_ROWS)
    ]  # fmt: skip


@contextmanager
def _working(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """A `muster worker` with the server's settings, from when it says that it works."""
    command = [sys.executable, "-m", "app.cli", "worker"]
    with subprocess.Popen(
        command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            assert worker.stdout is not None
            if not worker.stdout.readline():
                raise RuntimeError(f"a worker did not start; it ended with {worker.wait(READY_SECONDS)}")
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
