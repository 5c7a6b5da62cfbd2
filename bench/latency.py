"""How long a list of instances takes while a batch runs, against idle, as a light steady client sees it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import quantiles

from bench import background
from bench.create import PREFIX, WARM_UP_ROWS
from bench.delete import DEPENDENT_ROWS, WARM_UP_INSTANCES
from bench.load import SteadyClient
from bench.report import Case, Report, Rounds, Target
from bench.rows import csv_file
from bench.seed import dependents, instances, links, parents
from bench.servers import Databases, Server

PATH = "/api/v1/instances?limit=50"
REQUESTS_PER_SECOND = 50
SETTLE_SECONDS = 0.5
IDLE = "idle"
PERCENTILES = (50, 95, 99)
IMPORT, DELETION = "during an import", "during a deletion"


@dataclass(frozen=True, slots=True)
class Way:
    """How batches are asked for; each call lasts as long as its batch."""

    measurement: str
    create: Callable[[Server, bytes], object]
    delete: Callable[[Server, Iterable[int]], object]
    targets: Mapping[str, Target]


AT_ONCE = Way(
    "latency of a list", Server.import_csv, Server.delete, {IMPORT: Target(2.5), DELETION: Target(2.0)}
)  # fmt: skip
IN_BACKGROUND = Way(
    "operations: latency of a list", background.import_csv, background.delete,
    {IMPORT: Target(2.5), DELETION: Target(2.5)},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """A registry, and what is done to it while the client asks."""

    stored: int
    imported: int
    deleted: int
    idle_seconds: float

    @property
    def template(self) -> str:
        return f"latency_{self.stored}_{self.deleted}"

    def statements(self, kind: str) -> Iterator[str]:
        """The instances that will be deleted come after those that stay and have tags."""
        to_delete = self.deleted + WARM_UP_INSTANCES
        yield from parents(kind, DEPENDENT_ROWS)
        yield from instances(kind, self.stored + to_delete)
        yield from links(kind, self.stored)
        yield from dependents(kind, to_delete, DEPENDENT_ROWS, first_id=self.stored + 1)

    @property
    def deleted_ids(self) -> range:
        return range(self.stored + 1, self.stored + self.deleted + 1)

    @property
    def warm_up_ids(self) -> range:
        return range(self.deleted_ids.stop, self.deleted_ids.stop + WARM_UP_INSTANCES)


def measure(databases: Databases, report: Report, load: Load, way: Way = AT_ONCE) -> None:
    report.say(f"{databases.kind}: a registry of {load.stored:,} instances, {load.deleted:,} of them to be deleted")
    databases.prepare(load.template, load.statements(databases.kind))
    file = csv_file(load.imported, prefix=PREFIX)
    rounds: dict[int, Rounds] = defaultdict(list)
    for number in range(1, report.rounds + 1):
        seconds = _round(databases, report, load, way, file)
        for percentile in PERCENTILES:
            rounds[percentile].append({name: _percentile(each, percentile) for name, each in seconds.items()})
        shown = ", ".join(f"{name} {value:.1f} ms ({len(seconds[name])})" for name, value in rounds[99][-1].items())
        report.say(f"{way.measurement} / {databases.kind}, round {number}: p99 {shown}")
    for percentile in PERCENTILES:
        report.add(_case(databases, load, way, percentile), rounds[percentile])
    databases.drop(load.template)


def _case(databases: Databases, load: Load, way: Way, percentile: int) -> Case:
    return Case(
        measurement=way.measurement,
        database=databases.kind,
        name=f"p{percentile}; {load.imported:,} created, {load.deleted:,} deleted",
        baseline=IDLE,
        unit="ms",
        targets=way.targets if percentile == 99 else {},
    )


def _round(databases: Databases, report: Report, load: Load, way: Way, file: bytes) -> dict[str, list[float]]:
    """By phase, the seconds that each request took."""
    with Server(databases.copy(load.template)) as server:
        way.create(server, csv_file(WARM_UP_ROWS, prefix="warm-up"))
        way.delete(server, load.warm_up_ids)
        phases: dict[str, Callable[[], object]] = {
            IDLE: partial(time.sleep, load.idle_seconds),
            IMPORT: partial(way.create, server, file),
            DELETION: partial(way.delete, server, load.deleted_ids),
        }
        with SteadyClient(server.port, PATH, REQUESTS_PER_SECOND) as client:
            client.start()
            time.sleep(SETTLE_SECONDS)
            client.stop()
            measured = {name: _during(databases, client, phases[name]) for name in report.shuffled(list(phases))}
    return {name: measured[name] for name in phases}


def _during(databases: Databases, client: SteadyClient, phase: Callable[[], object]) -> list[float]:
    databases.checkpoint()
    time.sleep(SETTLE_SECONDS)
    client.start()
    phase()
    return client.stop()


def _percentile(seconds: list[float], percentile: int) -> float:
    """In milliseconds."""
    return quantiles(seconds, n=100, method="inclusive")[percentile - 1] * 1000
