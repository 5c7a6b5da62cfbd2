"""How much memory an import takes: of the server and all processes below it, above what they have when idle.

A process's share of memory (PSS) counts what several have in common once. It is read every tenth of a second, so a peak
shorter than that can be missed.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import background
from bench.create import PREFIX
from bench.multipart import Upload
from bench.processes import tree
from bench.report import Case, Comparison, Report, Rounds, Target
from bench.rows import csv_file, write_csv
from bench.seed import registry
from bench.servers import Databases, Server

SAMPLE_SECONDS = 0.1
WARM_UP_ROWS = 10_000
SETTLE_SECONDS = 2.0
MEGABYTE = 1_000_000
MAX_BODY_BYTES = "200000000"
ROUNDS = 3
# Makes rows of 150 bytes.
PADDING = " kept for us"
IDLE, PEAK = "idle", "peak"
TARGET = Target(200)


def measure(databases: Databases, report: Report, *, sizes: Sequence[int]) -> None:
    template = "registry_0"
    databases.prepare(template, registry(databases.kind, 0))
    with TemporaryDirectory(prefix="muster-bench-files-") as directory:
        for size in sizes:
            file = Path(directory) / f"{size}.csv"
            with file.open("w", encoding="utf-8", newline="") as text:
                write_csv(text, size, prefix=PREFIX, padding=PADDING)
            _measure(databases, report, template, file, size)


def _measure(databases: Databases, report: Report, template: str, file: Path, size: int) -> None:
    case = Case(
        measurement="operations: memory",
        database=databases.kind,
        name=f"an import of {size:,} rows, {file.stat().st_size / MEGABYTE:.0f} MB",
        baseline=IDLE,
        unit="MB",
        comparison=Comparison.DIFFERENCE,
        targets={PEAK: TARGET},
    )
    rounds: Rounds = []
    for number in range(1, min(report.rounds, ROUNDS) + 1):
        rounds.append(_megabytes(databases, template, file))
        shown = ", ".join(f"{name} {value:.0f} MB" for name, value in rounds[-1].items())
        report.say(f"{case.measurement} / {case.database} / {case.name}, round {number}: {shown}")
    report.add(case, rounds)


def _megabytes(databases: Databases, template: str, file: Path) -> dict[str, float]:
    url = databases.copy(template)
    with Server(url, max_body_bytes=MAX_BODY_BYTES) as server, background.looking(url) as look:
        background.import_csv(server, csv_file(WARM_UP_ROWS, prefix="warm-up"))
        time.sleep(SETTLE_SECONDS)
        idle = memory_of(server.process_id)
        upload = Upload(file, background.IN_BACKGROUND)
        with _sampling(server.process_id) as samples:
            background.ended(look, background.start_upload(server, upload, upload.media_type))
    return {IDLE: idle / MEGABYTE, PEAK: max(samples) / MEGABYTE}


@contextmanager
def _sampling(process_id: int) -> Iterator[list[int]]:
    """The memory of a process and all below it, read again and again while the block lasts."""
    samples: list[int] = []
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(SAMPLE_SECONDS):
            samples.append(memory_of(process_id))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def memory_of(process_id: int) -> int:
    """Bytes of the process and of all below it."""
    return sum(_own_memory(each) for each in tree(process_id))


def _own_memory(process_id: int) -> int:
    """0 for one that has just ended."""
    try:
        rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
