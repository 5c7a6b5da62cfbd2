"""Endpoints a second that a batch sync does, against a bare script that asks the same with the same driver and as many
at once.

Every endpoint has been synced before, and nothing has changed since: that is what syncs find as a rule. What the first
sync took, which writes everything, is shown beside it.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import orjson

from app.models.sync import SyncKind
from bench import background, syncs_bare
from bench.report import Case, Report, Target
from bench.servers import Databases, Server
from bench.syncs_endpoints import SETTINGS, Endpoints, host, registered

AT_ONCE = (1, 10, 50)
KINDS = ((SyncKind.ACCOUNTS,), (SyncKind.CAPACITY,), (SyncKind.ACCOUNTS, SyncKind.CAPACITY))
BARE, ADAPTER, SYNC = "bare script", "adapter alone", "batch sync"
TARGET = Target(0.7, at_least=True)
SYNC_PATH = "/api/v1/syncs"
# Syncs take seconds, and keep every processor busy that a look would need.
LOOK_SECONDS = 0.05


def measure(databases: Databases, report: Report, *, endpoints: int) -> None:
    with Endpoints() as servers:
        template = f"endpoints_{endpoints}"
        databases.prepare(template, registered(databases.kind, endpoints, servers.port))
        for at_once in AT_ONCE:
            # One after the other, a quarter of them takes as long as all of them ten at once.
            asked = endpoints // 4 if at_once == 1 else endpoints
            _measure_at_once(databases, report, template, servers, asked, at_once)
        databases.drop(template)


def _measure_at_once(
    databases: Databases, report: Report, template: str, servers: Endpoints, endpoints: int, at_once: int
) -> None:
    limits = {"sync_connections": str(at_once), "sync_connections_per_host": str(at_once)}
    with Server(databases.copy(template), **SETTINGS, **limits) as server:
        first = endpoints / batch_sync(server, endpoints, KINDS[-1])
        report.say(f"syncs / {databases.kind}, {at_once} at once: the first sync {first:.1f} endpoints/s")
        for kinds in KINDS:
            case = Case(
                measurement="syncs: endpoints a second",
                database=databases.kind,
                name=f"{' and '.join(kinds)} of {endpoints} endpoints, {at_once} at once",
                baseline=BARE,
                unit="/s",
                targets={SYNC: TARGET},
            )
            report.compare(case, _variants(databases, server, servers, endpoints, at_once, kinds))


def _variants(
    databases: Databases,
    server: Server,
    servers: Endpoints,
    endpoints: int,
    at_once: int,
    kinds: Sequence[SyncKind],
) -> dict[str, Callable[[], float]]:
    hosts = [host(number) for number in range(1, endpoints + 1)]

    def bare(ask: syncs_bare.Ask) -> float:
        started = time.perf_counter()
        syncs_bare.run(ask, hosts, servers.port, kinds, at_once)
        return endpoints / (time.perf_counter() - started)

    def sync() -> float:
        databases.checkpoint()
        return endpoints / batch_sync(server, endpoints, kinds)

    return {BARE: partial(bare, syncs_bare.by_driver), ADAPTER: partial(bare, syncs_bare.by_adapter), SYNC: sync}


def batch_sync(server: Server, endpoints: int, kinds: Sequence[SyncKind], first_id: int = 1) -> float:
    """Seconds from asking until the operation has ended; every instance must have succeeded."""
    ids = range(first_id, first_id + endpoints)
    body = orjson.dumps({"instance_ids": list(ids), "kinds": kinds})
    with background.looking(server.database_url) as look:
        started = background.start(server, SYNC_PATH, body, "application/json")
        return background.ended(look, started, LOOK_SECONDS)
