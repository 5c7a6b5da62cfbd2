"""100,000 accounts judged by 50 rules: by the rules alone, and as syncs do it, instance by instance, from what is stored
to assignments that are stored; the first time against a bulk load of the same assignments.

The floor has them ready in memory: nothing is read, nothing judged, nothing compared. On SQLite there are two, as
`executemany` is what one would take, and hundreds of rows a statement are twice as fast.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, groupby
from typing import Any

import asyncpg
import orjson
import uvloop
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.classifications.assignment import STEP_ACCOUNTS, AccountClassifier
from app.classifications.evaluation import AccountRights, JudgedAccount, Population
from app.classifications.rules import parse
from app.config import Settings
from app.database import Database
from app.database.bulk_loads import SQLITE_INSERT_ROWS
from app.database.transactions import run_in_transaction
from app.garbage import settle_garbage_collector
from app.inventory.account_sync import AccountSync
from app.inventory.records import FoundAccount
from app.models.base import utc_now
from app.syncs.instance_sync import WRITING_TURNS
from bench.accounts import RULES, TYPES, found_accounts, rules, type_of
from bench.report import Case, Report, Rounds, Target
from bench.seed import POSTGRESQL, SQLITE
from bench.seed import instances as seeded_instances
from bench.servers import Databases, sqlite_writer

LIMIT, LIMIT_SECONDS = "limit", 10.0
ALONE = "rules alone"
FIRST, FIRST_OF_BATCH = "first time, one by one", f"first time, {WRITING_TURNS} at once"
AGAIN, CHANGED = "again, nothing new", "again, one account of each changed"
TIMED = (ALONE, FIRST, FIRST_OF_BATCH, AGAIN, CHANGED)
TARGET, FLOOR_TARGET = Target(1.0), Target(1.5)
_TABLE = "account_classification_assignments"
_COLUMNS = ("instance_id", "permission_id", "classification_id", "rule_version", "assigned_at")
_ASSIGNED = f"SELECT {', '.join(_COLUMNS)} FROM {_TABLE} ORDER BY instance_id, permission_id, classification_id"

# Of each instance, its rows.
Rows = list[list[tuple[Any, ...]]]


def measure(databases: Databases, report: Report, *, instances: int, accounts: int) -> None:
    """Of so many instances with so many accounts each."""
    found = [found_accounts(number, accounts) for number in range(instances)]
    template = f"classified_{instances}"
    rows = _prepare(databases, template, found)
    # As in the service: what is kept in memory here is nothing to look through again and again.
    settle_garbage_collector()
    gc.freeze()
    rounds: Rounds = []
    for number in range(1, report.rounds + 1):
        figures = {LIMIT: LIMIT_SECONDS, ALONE: uvloop.run(_judged(found))}
        for variant in report.shuffled((*_floors[databases.kind], FIRST, FIRST_OF_BATCH)):
            figures |= _figures(databases, template, variant, rows)
        rounds.append(figures)
        shown = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in figures.items())
        report.say(f"classification / {databases.kind}, round {number}: {shown}")
    databases.drop(template)
    _add(report, databases.kind, f"{instances * accounts:,} accounts by {RULES} rules", rounds)


def _figures(databases: Databases, template: str, variant: str, rows: Rows) -> dict[str, float]:
    """Seconds, by variant: of the first time those of the times after it come along."""
    url = databases.copy(template)
    databases.checkpoint()
    if variant == FIRST:
        figures = uvloop.run(_assigned(url, len(rows)))
    elif variant == FIRST_OF_BATCH:
        figures = {variant: uvloop.run(_assigned_at_once(url, len(rows)))}
    else:
        figures = {variant: _floors[databases.kind][variant](url, rows)}
    if databases.rows(f"SELECT count(*) FROM {_TABLE}") != [(sum(map(len, rows)),)]:
        raise RuntimeError(f"{variant} did not write what was to be written")
    return figures


def _add(report: Report, kind: str, name: str, rounds: Rounds) -> None:
    """The figures against the limit, and the first time against the floor."""
    floor, *others = _floors[kind]
    for baseline, variants, targets in (
        (LIMIT, TIMED, dict.fromkeys(TIMED, TARGET)),
        (floor, (*others, FIRST, FIRST_OF_BATCH), {FIRST: FLOOR_TARGET}),
    ):
        case = Case("classification", kind, name, baseline, targets=targets)
        report.add(case, [{each: figures[each] for each in (baseline, *variants)} for figures in rounds])


def _prepare(databases: Databases, template: str, found: Sequence[Sequence[FoundAccount]]) -> Rows:
    """Makes a template with the accounts, as syncs store them, and tells what is to be assigned to them."""
    empty = f"unclassified_{len(found)}"
    databases.prepare(empty, _seeded(databases.kind, len(found)))
    uvloop.run(_store_all(databases.copy(empty), found))
    databases.keep(template)
    databases.drop(empty)
    uvloop.run(_assigned_at_once(databases.copy(template), len(found)))
    return [list(of_instance) for _, of_instance in groupby(databases.rows(_ASSIGNED), lambda row: row[0])]


async def _judged(found: Sequence[Sequence[FoundAccount]]) -> float:
    """Seconds, in steps as after a sync."""
    fleets = [[_as_judged(number, *each) for each in enumerate(accounts)] for number, accounts in enumerate(found, 1)]
    started = time.perf_counter()
    understood = [parse(each) for each in rules()]
    for accounts in fleets:
        for first in range(0, len(accounts), STEP_ACCOUNTS):
            step = accounts[first : first + STEP_ACCOUNTS]
            population = Population([account for account, _ in step])
            for account, rights in step:
                population.learn(account.permission_id, rights)
            for rule in understood:
                population.matching(rule)
            await asyncio.sleep(0)
    return time.perf_counter() - started


def _as_judged(instance_id: int, number: int, account: FoundAccount) -> tuple[JudgedAccount, AccountRights]:
    held = account.permissions
    rights = AccountRights(
        held.roles, held.global_privileges, held.database_privileges, held.object_privileges
    )  # fmt: skip
    name = account.username
    return JudgedAccount(number, instance_id, type_of(instance_id), name, account.is_superuser, name), rights


async def _store_all(url: str, found: Sequence[Sequence[FoundAccount]]) -> None:
    database = Database(Settings(database_url=SecretStr(url)))
    try:
        for instance_id, accounts in enumerate(found, 1):
            await run_in_transaction(database.writers, partial(_store, instance_id, accounts))
    finally:
        await database.dispose()


async def _store(instance_id: int, accounts: Sequence[FoundAccount], session: AsyncSession) -> None:
    await AccountSync(session).apply(instance_id, accounts, utc_now())


async def _assigned(url: str, count: int) -> dict[str, float]:
    """Seconds by variant, each instance in a transaction of its own, one after the other."""
    database = Database(Settings(database_url=SecretStr(url)))
    try:
        figures = {FIRST: await _assign_all(database, count), AGAIN: await _assign_all(database, count)}
        async with database.writers.begin() as session:
            # By another digest its rights are others, which happen to match the same rules.
            some = "SELECT max(id) FROM account_permissions GROUP BY instance_id"
            await session.execute(text(f"UPDATE account_permissions SET digest = 'another' WHERE id IN ({some})"))
        return figures | {CHANGED: await _assign_all(database, count)}
    finally:
        await database.dispose()


async def _assigned_at_once(url: str, count: int) -> float:
    """Seconds, as many instances at once as syncs write."""
    database = Database(Settings(database_url=SecretStr(url)))
    try:
        return await _assign_all(database, count, at_once=WRITING_TURNS)
    finally:
        await database.dispose()


async def _assign_all(database: Database, count: int, at_once: int = 1) -> float:
    turns = asyncio.Semaphore(at_once)

    async def assign(instance_id: int) -> None:
        async with turns:
            await run_in_transaction(database.writers, partial(_assign, instance_id))

    started = time.perf_counter()
    await asyncio.gather(*(assign(instance_id) for instance_id in range(1, count + 1)))
    return time.perf_counter() - started


async def _assign(instance_id: int, session: AsyncSession) -> None:
    await AccountClassifier(session).assign(instance_id)


def _copied(url: str, rows: Rows) -> float:
    return uvloop.run(_copy(url, rows))


async def _copy(url: str, rows: Rows) -> float:
    connection = await asyncpg.connect(url)
    try:
        started = time.perf_counter()
        for of_instance in rows:
            async with connection.transaction():
                await connection.copy_records_to_table(_TABLE, columns=_COLUMNS, records=of_instance)
        return time.perf_counter() - started
    finally:
        await connection.close()


def _inserted(url: str, rows: Rows, *, at_once: int) -> float:
    """`at_once`: rows of a statement; one is `executemany`."""
    row = f"({', '.join('?' * len(_COLUMNS))})"
    with closing(sqlite_writer(url)) as connection:
        started = time.perf_counter()
        for of_instance in rows:
            connection.execute("BEGIN IMMEDIATE")
            for count, values in _as_values(of_instance, at_once):
                marks = ", ".join([row] * count)
                connection.executemany(f"INSERT INTO {_TABLE} ({', '.join(_COLUMNS)}) VALUES {marks}", values)
            connection.execute("COMMIT")
        return time.perf_counter() - started


def _as_values(rows: Sequence[tuple[Any, ...]], at_once: int) -> Iterator[tuple[int, Sequence[Sequence[Any]]]]:
    """For statements of so many rows, and one of the rest, the values of each execution."""
    if at_once == 1:
        yield 1, rows
        return
    for first in range(0, len(rows), at_once):
        piece = rows[first : first + at_once]
        yield len(piece), [list(chain.from_iterable(piece))]


# The first is what the service is measured against.
_floors: Mapping[str, Mapping[str, Callable[[str, Rows], float]]] = {
    POSTGRESQL: {"COPY": _copied},
    SQLITE: {
        "executemany": partial(_inserted, at_once=1),
        f"{SQLITE_INSERT_ROWS} rows a statement": partial(_inserted, at_once=SQLITE_INSERT_ROWS),
    },
}


def _seeded(kind: str, count: int) -> Iterator[str]:
    yield from seeded_instances(kind, count)
    types = " ".join(f"WHEN {number} THEN '{type_of(number)}'" for number in range(len(TYPES)))
    yield f"UPDATE instances SET db_type = CASE id % {len(TYPES)} {types} END"
    values = (f"(1, 'class-{number}', '{orjson.dumps(rule).decode()}')" for number, rule in enumerate(rules(), 1))
    yield f"INSERT INTO account_classifications (space_id, name, rule) VALUES {', '.join(values)}"
