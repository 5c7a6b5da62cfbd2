"""100,000 accounts judged by 50 rules: by the rules alone, and as syncs do it, instance by instance, from what is stored
to assignments that are stored.

Accounts are made up: each has some roles, and privileges on the server, on databases and on tables, hardly two of them
the same. The rules have every condition, alone and in each other.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from functools import partial

import orjson
import uvloop
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.classifications.assignment import PART_ACCOUNTS, AccountClassifier
from app.classifications.evaluation import AccountRights, JudgedAccount, Population
from app.classifications.rules import parse
from app.config import Settings
from app.database import Database
from app.database.transactions import run_in_transaction
from app.inventory.account_sync import AccountSync
from app.inventory.records import FoundAccount, FoundPermissions
from app.models.base import utc_now
from app.models.instance import DatabaseType
from bench.report import Case, Report, Rounds, Target
from bench.seed import instances as seeded_instances
from bench.servers import Databases

RULES = 50
SEED = 1
LIMIT, LIMIT_SECONDS = "limit", 10.0
ALONE, FIRST, AGAIN = "rules alone", "assigned for the first time", "assigned again, nothing new"
TARGET = Target(1.0)
_ROLES = tuple(f"{team}_{kind}" for team in ("orders", "billing", "risk", "media") for kind in ("read", "write", "dba"))
_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "EXECUTE", "USAGE")
_DATABASES = tuple(f"shop_{number}" for number in range(20))
_TABLES = tuple(f"{database}.t_{number}" for database in _DATABASES for number in range(10))
_TYPES = (DatabaseType.POSTGRESQL, DatabaseType.MYSQL, DatabaseType.ORACLE)

Json = dict[str, object]


def measure(databases: Databases, report: Report, *, instances: int, accounts: int) -> None:
    """Of so many instances with so many accounts each."""
    template = f"classified_{instances}"
    databases.prepare(template, _seeded(databases.kind, instances))
    found = [_found(number, accounts) for number in range(instances)]
    case = Case(
        measurement="classification",
        database=databases.kind,
        name=f"{instances * accounts:,} accounts by {RULES} rules",
        baseline=LIMIT,
        targets=dict.fromkeys((ALONE, FIRST, AGAIN), TARGET),
    )
    rounds: Rounds = []
    for number in range(1, report.rounds + 1):
        alone = uvloop.run(_judged(found))
        first, again = uvloop.run(_assigned(databases.copy(template), found))
        rounds.append({LIMIT: LIMIT_SECONDS, ALONE: alone, FIRST: first, AGAIN: again})
        shown = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in rounds[-1].items())
        report.say(f"{case.measurement} / {databases.kind}, round {number}: {shown}")
    report.add(case, rounds)
    databases.drop(template)


async def _judged(found: Sequence[Sequence[FoundAccount]]) -> float:
    """Seconds, in parts as after a sync."""
    fleets = [[_as_judged(number, account) for account in accounts] for number, accounts in enumerate(found, 1)]
    started = time.perf_counter()
    rules = [parse(each) for each in _rules()]
    for accounts in fleets:
        for first in range(0, len(accounts), PART_ACCOUNTS):
            population = Population(accounts[first : first + PART_ACCOUNTS])
            for rule in rules:
                population.matching(rule)
            await asyncio.sleep(0)
    return time.perf_counter() - started


async def _assigned(url: str, found: Sequence[Sequence[FoundAccount]]) -> tuple[float, float]:
    """Seconds of the first time and of the second, each instance in a transaction of its own."""
    database = Database(Settings(database_url=SecretStr(url)))
    try:
        for instance_id, accounts in enumerate(found, 1):
            await run_in_transaction(database.writers, partial(_store, instance_id, accounts))
        return await _assign_all(database, len(found)), await _assign_all(database, len(found))
    finally:
        await database.dispose()


async def _store(instance_id: int, accounts: Sequence[FoundAccount], session: AsyncSession) -> None:
    await AccountSync(session).apply(instance_id, accounts, utc_now())


async def _assign_all(database: Database, count: int) -> float:
    started = time.perf_counter()
    for instance_id in range(1, count + 1):
        await run_in_transaction(database.writers, partial(_assign, instance_id))
    return time.perf_counter() - started


async def _assign(instance_id: int, session: AsyncSession) -> None:
    await AccountClassifier(session).assign(instance_id)


def _seeded(kind: str, count: int) -> Iterator[str]:
    yield from seeded_instances(kind, count)
    types = " ".join(f"WHEN {number} THEN '{_type_of(number)}'" for number in range(len(_TYPES)))
    yield f"UPDATE instances SET db_type = CASE id % {len(_TYPES)} {types} END"
    rows = (f"(1, 'class-{number}', '{orjson.dumps(rule).decode()}')" for number, rule in enumerate(_rules(), 1))
    yield f"INSERT INTO account_classifications (space_id, name, rule) VALUES {', '.join(rows)}"


def _type_of(instance_id: int) -> DatabaseType:
    return _TYPES[instance_id % len(_TYPES)]


def _found(number: int, count: int) -> list[FoundAccount]:
    """The accounts of one instance; the same numbers give the same."""
    draw = random.Random(SEED * 1_000_000 + number)
    return [_account(draw, place) for place in range(count)]


def _account(draw: random.Random, place: int) -> FoundAccount:
    permissions = FoundPermissions(
        roles=sorted(draw.sample(_ROLES, draw.randrange(4))),
        global_privileges=sorted(draw.sample(_PRIVILEGES, draw.choice((0, 0, 0, 1, 2)))),
        database_privileges=_privileges(draw, _DATABASES, 1 + draw.randrange(3)),
        object_privileges=_privileges(draw, _TABLES, draw.randrange(6)),
    )
    name = f"{draw.choice(('app', 'svc', 'dba', 'tmp'))}_{place}"
    return FoundAccount(name, is_superuser=draw.random() < 0.05, permissions=permissions)


def _privileges(draw: random.Random, names: Sequence[str], count: int) -> dict[str, Sequence[str]]:
    return {name: sorted(draw.sample(_PRIVILEGES, 1 + draw.randrange(4))) for name in sorted(draw.sample(names, count))}


def _as_judged(instance_id: int, account: FoundAccount) -> JudgedAccount:
    held = account.permissions
    rights = AccountRights(
        held.roles, held.global_privileges, held.database_privileges, held.object_privileges
    )  # fmt: skip
    digest = f"{instance_id}/{account.username}"
    return JudgedAccount(0, instance_id, _type_of(instance_id), account.username, account.is_superuser, digest, rights)


def _rules() -> list[Json]:
    """Fifty, no two the same: ten of each form."""
    return [rule for number in range(RULES // 5) for rule in _rules_with(number)]


def _rules_with(number: int) -> Iterator[Json]:
    role, privilege = _ROLES[number], _PRIVILEGES[number % len(_PRIVILEGES)]
    yield {"has_role": role}
    yield {"has_privilege": {"privilege": privilege, "on": f"shop_{number}*"}}
    yield {"all": [{"name_matches": f"*_{number}*"}, {"not": {"is_superuser": True}}]}
    yield {
        "any": [
            {"is_superuser": True},
            {"has_role": f"{role[:-1]}?"},
            {"has_privilege": {"privilege": privilege, "on": "*"}},
        ]
    }
    yield {
        "all": [
            {"db_type_in": [_type_of(number).value, _type_of(number + 1).value]},
            {
                "any": [
                    {"has_privilege": {"privilege": privilege, "on": f"shop_{number}.t_*"}},
                    {"has_role": _ROLES[-1]},
                ]
            },
            {"not": {"name_matches": f"tmp_*{number}"}},
        ]
    }
