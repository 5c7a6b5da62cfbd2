"""What authentication and auditing cost: each measured with and without, by the same server program, in one run."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

import orjson
import uvloop

from bench import signing_in
from bench.create import PREFIX, WARM_UP_ROWS
from bench.load import Connection, timed
from bench.report import Case, Comparison, Report, Rounds, Target
from bench.rows import csv_file
from bench.seed import registry
from bench.servers import Databases, Server

LIST = "/api/v1/instances?limit=50"
OPEN, TOKEN, KEY = "no authentication", "bearer token", "API key"
ACCESS_TARGETS = {TOKEN: Target(0.3), KEY: Target(0.5)}
WARM_UP_REQUESTS = 200

UNAUDITED, AUDITED, SEALED = "without entries for rows", "service, sealing later", "service"
AUDIT_TARGET = Target(1.15)
LATER_SECONDS = "3600"
# As the one without entries is.
ALONE = "app.main:create_app"
# One after the other in each round, of which the median counts.
IMPORTS = 5
_ENTRIES = f"SELECT count(*) FROM audit_events WHERE resource_name LIKE '{PREFIX}%'"

Clients = Mapping[str, Connection]


def measure_access(databases: Databases, report: Report, *, stored: int, requests: int) -> None:
    """The time of a list for whoever presents a token or a key, over that for everybody; one request at a time."""
    template = f"registry_{stored}"
    report.say(f"{databases.kind}: a registry of {stored:,} instances")
    databases.prepare(template, registry(databases.kind, stored))
    with Server(databases.copy(template), app="bench.open_gate:create_app") as server:
        databases.checkpoint()
        rounds = uvloop.run(_access_rounds(server.port, report, requests))
    case = Case(
        measurement="authentication",
        database=databases.kind,
        name=f"50 of {stored:,}, median",
        baseline=OPEN,
        unit="ms",
        comparison=Comparison.DIFFERENCE,
        targets=ACCESS_TARGETS,
    )
    report.add(case, rounds)


async def _access_rounds(port: int, report: Report, requests: int) -> Rounds:
    clients: Clients = {
        OPEN: await Connection.open(port, signing_in.STRANGER),
        TOKEN: await Connection.open(port, signing_in.BEARER),
        KEY: await Connection.open(port, signing_in.KEY),
    }
    await _warm_up(clients)
    rounds = [await _access_round(clients, report, requests) for _ in range(report.rounds)]
    for connection in clients.values():
        connection.close()
    return rounds


async def _warm_up(clients: Clients) -> None:
    answers = []
    for connection in clients.values():
        for _ in range(WARM_UP_REQUESTS):
            answer = await connection.get(LIST)
        answers.append(orjson.loads(answer))
    if any(answer != answers[0] for answer in answers):
        raise RuntimeError("the lists do not say the same")


async def _access_round(clients: Clients, report: Report, requests: int) -> dict[str, float]:
    """Medians, in milliseconds. The clients take turns, in an order that is drawn anew each time: whatever else the
    machine does meets them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(requests):
        for name in report.shuffled(list(clients)):
            seconds[name].append(await timed(clients[name], LIST))
    medians = {name: median(each) * 1000 for name, each in seconds.items()}
    report.say("authentication: " + ", ".join(f"{name} {value:.3f} ms" for name, value in medians.items()))
    return medians


def measure_audit(databases: Databases, report: Report, *, rows: int) -> None:
    """An import as it is against one that writes no entry for each row.

    Sealing is work of its own, some seconds later; `SEALED` has it beside the imports, where it seals those before.
    """
    template = "registry_0"
    databases.prepare(template, registry(databases.kind, 0))
    files = [csv_file(rows, prefix=f"{PREFIX}{number}") for number in range(IMPORTS)]
    case = Case(
        measurement="auditing",
        database=databases.kind,
        name=f"an import of {rows:,} rows",
        baseline=UNAUDITED,
        targets={AUDITED: AUDIT_TARGET},
    )
    variants = {
        UNAUDITED: partial(_imports, databases, template, files, app="bench.unaudited:create_app"),
        AUDITED: partial(_imports, databases, template, files, app=ALONE, audit_seal_seconds=LATER_SECONDS),
        SEALED: partial(_imports, databases, template, files),
    }
    entries = {UNAUDITED: 0, AUDITED: rows * IMPORTS, SEALED: rows * IMPORTS}
    report.compare(case, {name: _checked(databases, run, entries[name]) for name, run in variants.items()})


def _imports(
    databases: Databases, template: str, files: Sequence[bytes], *, app: str | None = None, **settings: str
) -> float:
    """The median of several, one after the other."""
    seconds = []
    with Server(databases.copy(template), app=app, **settings) as server:
        server.import_csv(csv_file(WARM_UP_ROWS, prefix="warm-up"))
        for file in files:
            databases.checkpoint()
            seconds.append(server.import_csv(file))
    return median(seconds)


def _checked(databases: Databases, run: Callable[[], float], entries: int) -> Callable[[], float]:
    def checked() -> float:
        seconds = run()
        found = databases.rows(_ENTRIES)[0][0]
        if found != entries:
            raise RuntimeError(f"there are {found} audit entries, not {entries}")
        return seconds

    return checked
