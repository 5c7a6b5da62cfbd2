"""Accounts that are made up, and rules to judge them by.

Each account has some roles, and privileges on the server, on databases and on tables, hardly two of them the same. The
rules have every condition, alone and in each other.
"""

import random
from collections.abc import Iterator, Sequence

from app.inventory.records import FoundAccount, FoundPermissions
from app.models.instance import DatabaseType

RULES = 50
SEED = 1
TYPES = (DatabaseType.POSTGRESQL, DatabaseType.MYSQL, DatabaseType.ORACLE)
_ROLES = tuple(f"{team}_{kind}" for team in ("orders", "billing", "risk", "media") for kind in ("read", "write", "dba"))
_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "EXECUTE", "USAGE")
_DATABASES = tuple(f"shop_{number}" for number in range(20))
_TABLES = tuple(f"{database}.t_{number}" for database in _DATABASES for number in range(10))

Json = dict[str, object]


def type_of(instance_id: int) -> DatabaseType:
    return TYPES[instance_id % len(TYPES)]


def found_accounts(number: int, count: int) -> list[FoundAccount]:
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


def rules() -> list[Json]:
    """Fifty, no two the same: ten of each form."""
    return [rule for number in range(RULES // 5) for rule in _with(number)]


def _with(number: int) -> Iterator[Json]:
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
            {"db_type_in": [type_of(number).value, type_of(number + 1).value]},
            {
                "any": [
                    {"has_privilege": {"privilege": privilege, "on": f"shop_{number}.t_*"}},
                    {"has_role": _ROLES[-1]},
                ]
            },
            {"not": {"name_matches": f"tmp_*{number}"}},
        ]
    }
