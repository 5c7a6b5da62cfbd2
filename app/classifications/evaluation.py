"""Which accounts rules match.

Many accounts are judged at once: each condition is a set of accounts, and `all`, `any` and `not` are what these words
are of sets. A condition that occurs in several rules is looked for once.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from app.classifications.rules import (
    SERVER,
    AllOf,
    AnyOf,
    Condition,
    DatabaseTypeIn,
    HasPrivilege,
    HasRole,
    IsSuperuser,
    NameMatches,
    Not,
    Rule,
    pattern,
    pattern_of_few,
)
from app.models.instance import DatabaseType


class AccountRights(NamedTuple):
    """As the snapshot of an account's rights has them."""

    roles: Sequence[str]
    global_privileges: Sequence[str]
    database_privileges: Mapping[str, Sequence[str]]
    object_privileges: Mapping[str, Sequence[str]]


class JudgedAccount(NamedTuple):
    """`permission_id` is what an assignment names; equal `digest`s are equal rights."""

    permission_id: int
    instance_id: int
    db_type: DatabaseType
    username: str
    is_superuser: bool
    digest: str
    rights: AccountRights


Indices = frozenset[int]


class Population:
    """Accounts that rules are evaluated over; an account is told by its index among them."""

    def __init__(self, accounts: Sequence[JudgedAccount]) -> None:
        self.accounts = accounts
        self._everybody = frozenset(range(len(accounts)))
        self._found: dict[Condition, Indices] = {}

    def matching(self, rule: Rule) -> Indices:
        match rule:
            case AllOf(rules):
                return frozenset.intersection(*(self.matching(each) for each in rules))
            case AnyOf(rules):
                return frozenset().union(*(self.matching(each) for each in rules))
            case Not(negated):
                return self._everybody - self.matching(negated)
            case _:
                if rule not in self._found:
                    self._found[rule] = self._satisfying(rule)
                return self._found[rule]

    @cached_property
    def _held(self) -> Sequence[Mapping[str, Sequence[str]]]:
        """By account: what its privileges are held on, told once for each distinct set of rights."""
        by_digest = {account.digest: account.rights for account in self.accounts}
        holders = {digest: _holders(rights) for digest, rights in by_digest.items()}
        return [holders[account.digest] for account in self.accounts]

    def _satisfying(self, condition: Condition) -> Indices:
        match condition:
            case DatabaseTypeIn(types):
                return self._where(lambda account: account.db_type in types)
            case IsSuperuser(wanted):
                return self._where(lambda account: account.is_superuser is wanted)
            case NameMatches(text):
                matches = pattern(text)
                return frozenset(index for index, account in enumerate(self.accounts) if matches(account.username))
            case HasRole(text):
                is_meant = pattern_of_few(text)
                return self._where(lambda account: any(map(is_meant, account.rights.roles)))
            case HasPrivilege(privilege, on):
                held = self._held
                return frozenset(index for index in range(len(held)) if _is_held(held[index].get(privilege, ()), on))

    def _where(self, is_so: Callable[[JudgedAccount], bool]) -> Indices:
        return frozenset(index for index, account in enumerate(self.accounts) if is_so(account))


def _holders(rights: AccountRights) -> Mapping[str, Sequence[str]]:
    """By privilege, in upper case, the names of what it is held on."""
    held: dict[str, list[str]] = {each.upper(): [SERVER] for each in rights.global_privileges}
    for by_name in (rights.database_privileges, rights.object_privileges):
        for name, privileges in by_name.items():
            for each in privileges:
                held.setdefault(each.upper(), []).append(name)
    return held


def _is_held(names: Sequence[str], on: str | None) -> bool:
    """Whether a privilege that is held on these is held there; one on the server, which comes first, is everywhere."""
    if not names or on is None or names[0] == SERVER:
        return bool(names)
    return on != SERVER and any(map(pattern_of_few(on), names))
