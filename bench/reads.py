"""Reading: pages at any depth of a large registry, and the list against the way one writes it first."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from statistics import median
from types import SimpleNamespace

import orjson
import uvloop

from bench import plain_list
from bench.cursors import cursor_after
from bench.load import Connection, requests_per_second, timed
from bench.report import Case, Report, Rounds, Target
from bench.seed import registry
from bench.servers import Databases, Server

LIST = "/api/v1/instances?limit=50"
SORTS = ("id", "name", "-created_at")
FIRST = "first page"
SLOWEST = "slowest of those at 25, 50, 75 and 99 %"
DEPTHS = (0.25, 0.5, 0.75, 0.99)
REQUESTS_PER_PAGE = 40
PAGE_TARGET = Target(3.0)

PLAIN = "ORM + response_model"
CONNECTIONS = 8
LIST_TARGET = Target(1.9, at_least=True)


def measure_pages(databases: Databases, report: Report, *, stored: int) -> None:
    """The time of pages anywhere in the registry against that of the first."""
    template = f"registry_{stored}"
    report.say(f"{databases.kind}: a registry of {stored:,} instances")
    databases.prepare(template, registry(databases.kind, stored))
    with Server(databases.copy(template)) as server:
        for sort in SORTS:
            paths = {FIRST: f"{LIST}&sort={sort}"}
            paths |= {f"{depth:.0%}": _path_at(databases, sort, int(stored * depth)) for depth in DEPTHS}
            databases.checkpoint()
            rounds = uvloop.run(_page_rounds(server.port, report, paths))
            case = Case(
                measurement="a page",
                database=databases.kind,
                name=f"of {stored:,}, by {sort}",
                baseline=FIRST,
                unit="ms",
                targets={SLOWEST: PAGE_TARGET},
            )
            report.add(case, rounds)


def _path_at(databases: Databases, sort: str, depth: int) -> str:
    column, direction = sort.removeprefix("-"), "DESC" if sort.startswith("-") else "ASC"
    found = databases.rows(
        f"SELECT id, name, created_at FROM instances ORDER BY {column} {direction}, id {direction} LIMIT 1 OFFSET {depth}"
    )[0]
    row = SimpleNamespace(id=found[0], name=found[1], created_at=_moment(found[2]))
    return f"{LIST}&sort={sort}&cursor={cursor_after(sort, row)}"


def _moment(stored: datetime | str) -> datetime:
    """SQLite keeps moments as text."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC) if isinstance(stored, str) else stored


async def _page_rounds(port: int, report: Report, paths: dict[str, str]) -> Rounds:
    """Medians, in milliseconds, of the first page's requests and of the slowest other's, asked for in shuffled order."""
    connection = await Connection.open(port)
    rounds = []
    for path in paths.values():
        page = orjson.loads(await connection.get(path))
        assert len(page["items"]) == 50
    for _ in range(report.rounds):
        seconds: dict[str, list[float]] = {name: [] for name in paths}
        for name in report.shuffled([*paths] * REQUESTS_PER_PAGE):
            seconds[name].append(await timed(connection, paths[name]))
        first, *others = (median(seconds[name]) * 1000 for name in paths)
        rounds.append({FIRST: first, SLOWEST: max(others)})
    connection.close()
    return rounds


def measure_list(databases: Databases, report: Report, *, stored: int, seconds: float) -> None:
    """Requests a second of the list and of its plain form, in one process."""
    template = f"registry_{stored}"
    report.say(f"{databases.kind}: a registry of {stored:,} instances")
    databases.prepare(template, registry(databases.kind, stored))
    paths = {PLAIN: f"{plain_list.PATH}?limit=50", "service": LIST}
    with Server(databases.copy(template), app="bench.plain_list:create_app") as server:
        answers = uvloop.run(_answers(server.port, list(paths.values())))
        if any(answer != answers[0] for answer in answers):
            raise RuntimeError(f"the lists do not say the same: {answers}")
        databases.checkpoint()
        ask = partial(requests_per_second, server.port, connections=CONNECTIONS, seconds=seconds)
        for path in paths.values():
            requests_per_second(server.port, path, connections=CONNECTIONS, seconds=0.5)
        case = Case(
            measurement="the list",
            database=databases.kind,
            name=f"50 of {stored:,}, {CONNECTIONS} clients",
            baseline=PLAIN,
            unit="/s",
            targets={"service": LIST_TARGET},
        )
        report.compare(case, {name: partial(ask, path) for name, path in paths.items()})


async def _answers(port: int, paths: Sequence[str]) -> list[object]:
    connections = [await Connection.open(port) for _ in paths]
    bodies = await asyncio.gather(*(each.get(path) for each, path in zip(connections, paths, strict=True)))
    for each in connections:
        each.close()
    return [orjson.loads(body) for body in bodies]
