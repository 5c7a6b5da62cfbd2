"""How the API feels a batch sync: a steady client's list, ten users at once and the connection pool, idle and beside it.

Beside the sync, in a third phase, a file of 50 MB is uploaded and all instances are exported, again and again. The upload
is a dry run whose rows are as wide as they may be: what it takes is receiving, storing and reading the file, and judging
as many rows as such a file has, but no writing.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import orjson
import uvloop

from app.models.sync import SyncKind
from bench import background
from bench.latency import PATH, REQUESTS_PER_SECOND, SETTLE_SECONDS
from bench.load import Connection, SteadyClient
from bench.multipart import Upload
from bench.report import Case, Report, Rounds, Target
from bench.rows import write_csv
from bench.seed import POSTGRESQL, instances, links, parents
from bench.servers import Databases, Server
from bench.syncs_endpoints import SETTINGS, Endpoints, registered
from bench.syncs_rate import batch_sync

IDLE, SYNC, ALL = "idle", "beside a sync", "beside a sync, an upload and an export"
LIMIT = "limit"
P99_MS, USERS_SECONDS, UTILIZATION = 100.0, 10.0, 0.8
USERS = 10
POOL_LOOK_SECONDS = 0.05
# Rounds differ by as much when nothing differs.
NO_SLOWER = Target(1.2)
MEGABYTE = 1_000_000
ROW_BYTES = 600
EXPORT_PATH = "/api/v1/instances/export"


@dataclass(frozen=True, slots=True)
class Load:
    """A registry of instances that nobody syncs, and the endpoints that are synced."""

    stored: int
    endpoints: int
    megabytes: int
    seconds: float
    # Of a user, each of a list, an instance, its accounts and its sizes.
    sequences: int

    @property
    def first_id(self) -> int:
        return self.stored + 1


@dataclass(slots=True)
class Felt:
    """What clients saw in one phase."""

    p99_ms: float
    users_seconds: float
    utilization: float


def measure(databases: Databases, report: Report, load: Load) -> None:
    with Endpoints() as servers, TemporaryDirectory(prefix="muster-bench-files-") as directory:
        template = f"beside_{load.stored}"
        databases.prepare(template, _statements(databases.kind, load, servers.port))
        file = Path(directory) / "upload.csv"
        _write(file, load.megabytes)
        rounds = [_round(databases, report, template, load, file) for _ in range(report.rounds)]
        _add(databases, report, load, rounds)
        databases.drop(template)


def _statements(kind: str, load: Load, port: int) -> Iterator[str]:
    yield from parents(kind)
    yield from instances(kind, load.stored)
    yield from links(kind, load.stored)
    yield from registered(kind, load.endpoints, port, first_id=load.first_id)
    if kind == POSTGRESQL:
        yield "SELECT setval('sync_sessions_id_seq', (SELECT max(id) FROM sync_sessions))"


def _write(file: Path, megabytes: int) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        write_csv(text, megabytes * MEGABYTE // ROW_BYTES, prefix="upload", padding=" kept for us" * 37)


def _round(databases: Databases, report: Report, template: str, load: Load, file: Path) -> dict[str, Felt]:
    with (
        Server(databases.copy(template), **SETTINGS) as server,
        SteadyClient(server.port, PATH, REQUESTS_PER_SECOND) as client,
    ):
        batch_sync(server, load.endpoints, list(SyncKind), load.first_id)
        client.start()
        time.sleep(SETTLE_SECONDS)
        client.stop()
        sync = partial(batch_sync, server, load.endpoints, list(SyncKind), load.first_id)
        beside: dict[str, list[Callable[[], object]]] = {
            IDLE: [],
            SYNC: [sync],
            ALL: [sync, partial(_upload, server, file), partial(server.request, "GET", EXPORT_PATH)],
        }
        felt = {name: _felt(databases, server, client, load, beside[name]) for name in report.shuffled(list(beside))}
    shown = "; ".join(
        f"{name}: p99 {each.p99_ms:.1f} ms, users {each.users_seconds:.2f} s, pool {each.utilization:.0%}"
        for name, each in felt.items()
    )
    report.say(f"syncs: latency / {databases.kind}: {shown}")
    return felt


def _upload(server: Server, file: Path) -> None:
    """As it is by default: a file of this size becomes an operation."""
    upload = Upload(file, {"dry_run": "true"})
    with background.looking(server.database_url) as look:
        background.ended(look, background.start_upload(server, upload, upload.media_type))


def _felt(
    databases: Databases, server: Server, client: SteadyClient, load: Load, beside: list[Callable[[], object]]
) -> Felt:
    """First the steady client alone, then the users; what goes on beside them never stops."""
    databases.checkpoint()
    time.sleep(SETTLE_SECONDS)
    with ExitStack() as stack:
        utilizations = stack.enter_context(_sampled(server))
        for each in beside:
            stack.enter_context(_again_and_again(each))
        client.start()
        time.sleep(load.seconds)
        answers = client.stop()
        users_seconds = uvloop.run(_users(server.port, load))
    p99 = quantiles(answers, n=100, method="inclusive")[98] * 1000
    return Felt(p99, users_seconds, max(utilizations))


@contextmanager
def _again_and_again(work: Callable[[], object]) -> Iterator[None]:
    """It is done at least once, and its last time is waited for. What it raises is raised at the block's end."""
    is_over = threading.Event()
    errors: list[BaseException] = []

    def repeat() -> None:
        try:
            while not is_over.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def _sampled(server: Server) -> Iterator[list[float]]:
    """Of the connection pool, looked at while the block lasts."""
    found: list[float] = []

    def look() -> None:
        found.append(orjson.loads(server.request("GET", "/health/pool"))["utilization"])
        time.sleep(POOL_LOOK_SECONDS)

    with _again_and_again(look):
        yield found


async def _users(port: int, load: Load) -> float:
    """Seconds until the last of them is done."""
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(USERS):
            group.create_task(_user(port, load, number))
    return time.perf_counter() - started


async def _user(port: int, load: Load, number: int) -> None:
    connection = await Connection.open(port)
    for sequence in range(load.sequences):
        instance = f"/api/v1/instances/{load.first_id + (number + sequence * USERS) % load.endpoints}"
        for path in (PATH, instance, f"{instance}/accounts", f"{instance}/capacity"):
            await connection.get(path)
    connection.close()


def _add(databases: Databases, report: Report, load: Load, rounds: list[dict[str, Felt]]) -> None:
    beside = f"{load.endpoints} endpoints, {load.megabytes} MB, {load.stored:,} instances"
    p99: Rounds = [{name: felt.p99_ms for name, felt in each.items()} for each in rounds]
    users: Rounds = [{name: felt.users_seconds for name, felt in each.items()} for each in rounds]
    pool: Rounds = [{name: 100 * felt.utilization for name, felt in each.items()} for each in rounds]

    def add(name: str, unit: str, baseline: str, rounds: Rounds, targets: dict[str, Target]) -> None:
        case = Case("syncs: beside them", databases.kind, f"{name}; {beside}", baseline, unit, targets=targets)
        report.add(case, rounds)

    limited = dict.fromkeys((SYNC, ALL), Target(1.0))
    add("p99 of a list, against idle", "ms", IDLE, _in_order(p99, IDLE, SYNC, ALL), {SYNC: Target(3.0)})
    add(f"p99 of a list, against {P99_MS:.0f} ms", "ms", LIMIT, _limited(p99, P99_MS), limited)
    add("p99 of a list, against a sync alone", "ms", SYNC, _in_order(p99, SYNC, ALL), {ALL: NO_SLOWER})
    add(f"{USERS} users, against {USERS_SECONDS:.0f} s", "s", LIMIT, _limited(users, USERS_SECONDS), limited)
    add(f"{USERS} users, against a sync alone", "s", SYNC, _in_order(users, SYNC, ALL, IDLE), {ALL: NO_SLOWER})
    add("the pool at its fullest", "%", LIMIT, _limited(pool, 100 * UTILIZATION), limited)


def _in_order(rounds: Rounds, *names: str) -> Rounds:
    return [{name: each[name] for name in names} for each in rounds]


def _limited(rounds: Rounds, limit: float) -> Rounds:
    return [{LIMIT: limit, **_in_order([each], IDLE, SYNC, ALL)[0]} for each in rounds]
