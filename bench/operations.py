"""Operations against floors that write the same rows, items included; and how soon the first item is there.

An operation's time is what its client waits: from the first byte of the request until the operation has ended. The same
batch answered at once, without items, is shown beside it.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from bench import background
from bench.create import PREFIX, WARM_UP_ROWS, WRITTEN, good_rows, load_rows, prepared_rows
from bench.delete import Fleet, Procedure, checked, loop, on_connection, service
from bench.report import Case, Comparison, Report, Rounds, Target
from bench.rows import csv_file
from bench.seed import OPERATION_ID, POSTGRESQL, registry
from bench.servers import Databases, Server

IMPORT_TARGET, DELETION_TARGET = Target(2.0), Target(0.9, at_least=True)
FIRST_ITEM_TARGET_MS = Target(300)
FIRST_ITEM_ROWS = 1_000
# One after the other in each round, of which the median counts.
FIRST_ITEM_IMPORTS = 5
FIRST_ITEM_LOOK_SECONDS = 0.002
OPERATION, AT_ONCE = "operation", "answered at once, no items"
ACCEPTED, FIRST_ITEM, END = "202", "first item", "end"
# Both variants must have written the same items too.
_ITEMS = f"""
SELECT count(*), sum(position), sum(length(name) + length(status)), sum(instance_id), count(detail)
FROM operation_items WHERE name LIKE '{PREFIX}-%'
"""


def measure_import(databases: Databases, report: Report, *, rows: int) -> None:
    template = "registry_0"
    databases.prepare(template, registry(databases.kind, 0))
    file = csv_file(rows, prefix=PREFIX)
    prepared = prepared_rows(
        databases.kind, good_rows(file), first_id=WARM_UP_ROWS + 1, operation_id=OPERATION_ID,
        status=background.ACCEPTED_STATUS,
    )  # fmt: skip
    floor = "COPY" if databases.kind == POSTGRESQL else "executemany"
    written: dict[str, Any] = {}

    def noted(name: str, run: Callable[[], float]) -> Callable[[], float]:
        def runs() -> float:
            seconds = run()
            written[name] = databases.rows(WRITTEN) + databases.rows(_ITEMS)
            return seconds

        return runs

    case = Case(
        measurement="operations: import",
        database=databases.kind,
        name=f"{rows:,} rows, with items",
        baseline=floor,
        targets={OPERATION: IMPORT_TARGET},
    )
    variants = {
        floor: noted(floor, lambda: load_rows(databases, template, prepared)),
        OPERATION: noted(OPERATION, lambda: _import(databases, template, file)),
        AT_ONCE: lambda: _import_at_once(databases, template, file),
    }
    report.compare(case, variants)
    if written[OPERATION] != written[floor]:
        raise RuntimeError(f"the variants did not write the same: {written}")


def _import(databases: Databases, template: str, file: bytes) -> float:
    with Server(databases.copy(template)) as server:
        background.import_csv(server, csv_file(WARM_UP_ROWS, prefix="warm-up"))
        databases.checkpoint()
        return background.import_csv(server, file)


def _import_at_once(databases: Databases, template: str, file: bytes) -> float:
    with Server(databases.copy(template)) as server:
        server.import_csv(csv_file(WARM_UP_ROWS, prefix="warm-up"))
        databases.checkpoint()
        return server.import_csv(file)


def measure_deletion(databases: Databases, report: Report, fleet: Fleet) -> None:
    report.say(f"{databases.kind}: {fleet.name}")
    databases.prepare(fleet.template, fleet.statements(databases.kind))
    floor = "procedure" if databases.kind == POSTGRESQL else "loop of statements"
    case = Case(
        measurement="operations: deletion",
        database=databases.kind,
        name=f"{fleet.name}, with items",
        baseline=floor,
        comparison=Comparison.RATE,
        targets={OPERATION: DELETION_TARGET},
    )
    variants = {
        floor: checked(databases, fleet, _deletion_floor(databases, fleet), with_items=True),
        OPERATION: checked(databases, fleet, _deletion(databases, fleet), with_items=True),
        AT_ONCE: checked(databases, fleet, service(databases, fleet)),
    }
    if databases.kind == POSTGRESQL:
        one = _deletion(databases, fleet, deletion_connections="1")
        variants["operation, 1 connection"] = checked(databases, fleet, one, with_items=True)
    report.compare(case, variants)
    databases.drop(fleet.template)


def _deletion_floor(databases: Databases, fleet: Fleet) -> Callable[[], float]:
    if databases.kind == POSTGRESQL:
        return on_connection(databases, fleet, Procedure(durable=True, with_items=True))
    return loop(databases, fleet, durable=True, with_items=True)


def _deletion(databases: Databases, fleet: Fleet, **settings: str) -> Callable[[], float]:
    def run() -> float:
        with Server(databases.copy(fleet.template), **settings) as server:
            background.delete(server, fleet.warm_up_ids)
            databases.checkpoint()
            return background.delete(server, fleet.ids)

    return run


def measure_first_item(databases: Databases, report: Report) -> None:
    """From the 202 until the first item is committed, on a server with nothing else to do."""
    template = "registry_0"
    databases.prepare(template, registry(databases.kind, 0))
    case = Case(
        measurement="operations: first item",
        database=databases.kind,
        name=f"{FIRST_ITEM_ROWS:,} rows, idle",
        baseline=ACCEPTED,
        unit="ms",
        comparison=Comparison.DIFFERENCE,
        targets={FIRST_ITEM: FIRST_ITEM_TARGET_MS},
    )
    rounds: Rounds = [_first_items(databases, template) for _ in range(report.rounds)]
    for number, each in enumerate(rounds, 1):
        shown = ", ".join(f"{name} {value:.0f} ms" for name, value in each.items())
        report.say(f"{case.measurement} / {case.database}, round {number}: {shown}")
    report.add(case, rounds)


def _first_items(databases: Databases, template: str) -> dict[str, float]:
    """Medians, in milliseconds from the first byte of the request."""
    moments: list[Sequence[float]] = []
    with Server(databases.copy(template)) as server, background.looking(server.database_url) as look:
        background.import_csv(server, csv_file(WARM_UP_ROWS, prefix="warm-up"))
        for number in range(FIRST_ITEM_IMPORTS):
            databases.checkpoint()
            moments.append(_first_item(server, look, csv_file(FIRST_ITEM_ROWS, prefix=f"{PREFIX}{number}")))
    names = (ACCEPTED, FIRST_ITEM, END)
    return {name: median(each) * 1000 for name, each in zip(names, zip(*moments, strict=True), strict=True)}


def _first_item(server: Server, look: background.Look, file: bytes) -> Sequence[float]:
    started = background.start_import(server, file)
    statement = f"SELECT position FROM operation_items WHERE operation_id = {started.id} LIMIT 1"
    background.until(look, statement, FIRST_ITEM_LOOK_SECONDS)
    first_item = time.perf_counter() - started.sent_at
    return started.answered_at - started.sent_at, first_item, background.ended(look, started)
