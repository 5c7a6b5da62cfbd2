"""`make bench`: measures the service against floors, on both databases, in one run.

make bench
python -m bench --only create --database postgresql --rounds 5 --quick
"""

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType

from bench import (
    access,
    classifying,
    create,
    delete,
    latency,
    memory,
    operations,
    reads,
    syncs_latency,
    syncs_rate,
    workers,
)
from bench.report import Report
from bench.seed import POSTGRESQL, SQLITE
from bench.servers import Databases, PostgresqlDatabases, SqliteDatabases

ROUNDS = 5
QUICK_ROUNDS = 3

_databases: dict[str, Callable[[], Databases]] = {POSTGRESQL: PostgresqlDatabases, SQLITE: SqliteDatabases}


def _create(databases: Databases, report: Report, *, quick: bool) -> None:
    sizes, registries = ((10_000,), (0,)) if quick else ((10_000, 100_000), (0, 1_000_000))
    create.measure(databases, report, sizes=sizes, registries=registries)


def _delete(databases: Databases, report: Report, *, quick: bool) -> None:
    few, wide = ((300,), 10) if quick else ((1_000, 10_000), 50)
    fleets = [*(delete.Fleet(count) for count in few), delete.Fleet(wide, delete.WIDE_ROWS)]
    delete.measure(databases, report, fleets)


def _latency(databases: Databases, report: Report, *, quick: bool) -> None:
    latency.measure(databases, report, _load(quick=quick))


def _load(*, quick: bool) -> latency.Load:
    return latency.Load(10_000, 20_000, 300, 2) if quick else latency.Load(100_000, 100_000, 5_000, 8)


def _list(databases: Databases, report: Report, *, quick: bool) -> None:
    reads.measure_list(databases, report, stored=10_000 if quick else 100_000, seconds=1 if quick else 4)


def _pages(databases: Databases, report: Report, *, quick: bool) -> None:
    reads.measure_pages(databases, report, stored=10_000 if quick else 1_000_000)


def _access(databases: Databases, report: Report, *, quick: bool) -> None:
    stored, requests = (10_000, 500) if quick else (100_000, 2_000)
    access.measure_access(databases, report, stored=stored, requests=requests)


def _audit(databases: Databases, report: Report, *, quick: bool) -> None:
    access.measure_audit(databases, report, rows=10_000)


def _operations_import(databases: Databases, report: Report, *, quick: bool) -> None:
    operations.measure_import(databases, report, rows=10_000 if quick else 100_000)


def _operations_delete(databases: Databases, report: Report, *, quick: bool) -> None:
    operations.measure_deletion(databases, report, delete.Fleet(500 if quick else 10_000))


def _operations_first_item(databases: Databases, report: Report, *, quick: bool) -> None:
    operations.measure_first_item(databases, report)


def _operations_latency(databases: Databases, report: Report, *, quick: bool) -> None:
    latency.measure(databases, report, _load(quick=quick), latency.IN_BACKGROUND)


def _operations_workers(databases: Databases, report: Report, *, quick: bool) -> None:
    """On SQLite the server itself is the only worker."""
    if databases.kind == POSTGRESQL:
        share = workers.Share(8, 2_000, 50) if quick else workers.Share(8, 20_000, 500)
        workers.measure(databases, report, share)


def _operations_memory(databases: Databases, report: Report, *, quick: bool) -> None:
    memory.measure(databases, report, sizes=(10_000, 100_000) if quick else (100_000, 1_000_000))


def _syncs_rate(databases: Databases, report: Report, *, quick: bool) -> None:
    syncs_rate.measure(databases, report, endpoints=20 if quick else 200)


def _syncs_latency(databases: Databases, report: Report, *, quick: bool) -> None:
    load = syncs_latency.Load(5_000, 20, 5, 3.0, 2) if quick else syncs_latency.Load(100_000, 200, 50, 12.0, 20)
    syncs_latency.measure(databases, report, load)


def _classify(databases: Databases, report: Report, *, quick: bool) -> None:
    classifying.measure(databases, report, instances=2 if quick else 20, accounts=500 if quick else 5_000)


_measurements = {
    "create": _create,
    "delete": _delete,
    "latency": _latency,
    "list": _list,
    "pages": _pages,
    "access": _access,
    "audit": _audit,
    "operations-import": _operations_import,
    "operations-delete": _operations_delete,
    "operations-first-item": _operations_first_item,
    "operations-latency": _operations_latency,
    "operations-workers": _operations_workers,
    "operations-memory": _operations_memory,
    "syncs-rate": _syncs_rate,
    "syncs-latency": _syncs_latency,
    "classify": _classify,
}


def main() -> None:
    options = _options()
    # Ends the servers too: they stop when the blocks around them are left.
    signal.signal(signal.SIGTERM, _leave)
    report = Report(rounds=options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS), seed=options.seed,
                    is_quick=options.quick)  # fmt: skip
    try:
        for kind in options.database or _databases:
            with _databases[kind]() as databases:
                report.note(**{kind: databases.version()})
                for name in options.only or _measurements:
                    _measurements[name](databases, report, quick=options.quick)
    finally:
        report.show()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(_measurements), help="measure this; can be repeated")
    parser.add_argument(
        "--database", action="append", choices=list(_databases), help="measure on this; can be repeated"
    )
    parser.add_argument("--rounds", type=int, help=f"by default {ROUNDS}, or {QUICK_ROUNDS} with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less, to see that everything works")
    parser.add_argument("--seed", type=int, default=1, help="of the shuffled order")
    return parser.parse_args()


if __name__ == "__main__":
    main()
