"""Which accounts rules match.

Many accounts are judged at once: each condition is a set of accounts, and `all`, `any` and `not` are what these words
are of sets. Who holds a role, or a privilege on something, is looked up by the name of the role or thing, and a pattern
is held against each name once, however many accounts have it. A condition that occurs in several rules is looked for
once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    conditions,
    pattern,
    pattern_of_few,
)
from app.models.instance import DatabaseType


class JudgedAccount(NamedTuple):
    """`permission_id` is what an assignment names; equal `digest`s are equal rights."""

    permission_id: int
    instance_id: int
    db_type: DatabaseType
    username: str
    is_superuser: bool
    digest: str


class AccountRights(NamedTuple):
    """As the snapshot of an account's rights has them; what rules do not look at may be left out."""

    roles: Sequence[str] = ()
    global_privileges: Sequence[str] = ()
    database_privileges: Mapping[str, Sequence[str]] = {}
    object_privileges: Mapping[str, Sequence[str]] = {}


def looked_at(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Which of AccountRights the rules depend on."""
    kinds = {type(condition) for rule in rules for condition in conditions(rule)}
    roles, *privileges = AccountRights._fields
    return ((roles,) if HasRole in kinds else ()) + (tuple(privileges) if HasPrivilege in kinds else ())


Indices = frozenset[int]


class Population:
    """Accounts that rules are evaluated over; an account is told by its index among them.

    Before a rule that looks at rights is evaluated, `learn` must have been told those of all `representatives`.
    """

    def __init__(self, accounts: Sequence[JudgedAccount]) -> None:
        self._accounts = accounts
        self._everybody = frozenset(range(len(accounts)))
        self._found: dict[Condition, Indices] = {}
        self._by_role: dict[str, list[int]] = defaultdict(list)
        # By privilege, in upper case: who holds it on the server, and who on what, by its name.
        self._on_server: dict[str, list[int]] = defaultdict(list)
        self._on_things: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        alike: dict[str, list[int]] = defaultdict(list)
        for index, account in enumerate(accounts):
            alike[account.digest].append(index)
        self._represented = {accounts[indices[0]].permission_id: indices for indices in alike.values()}

    @property
    def representatives(self) -> Sequence[int]:
        """The `permission_id`s of accounts whose rights are those of all: one for each distinct digest."""
        return list(self._represented)

    def learn(self, permission_id: int, rights: AccountRights) -> None:
        """The rights of one of the representatives."""
        holders = self._represented[permission_id]
        for role in rights.roles:
            self._by_role[role] += holders
        for each in rights.global_privileges:
            self._on_server[each.upper()] += holders
        for privileges_by_name in (rights.database_privileges, rights.object_privileges):
            for name, privileges in privileges_by_name.items():
                for each in privileges:
                    self._on_things[each.upper()][name] += holders

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

    def _satisfying(self, condition: Condition) -> Indices:
        match condition:
            case DatabaseTypeIn(types):
                return self._where(lambda account: account.db_type in types)
            case IsSuperuser(wanted):
                return self._where(lambda account: account.is_superuser is wanted)
            case NameMatches(text):
                matches = pattern(text)
                return frozenset(index for index, account in enumerate(self._accounts) if matches(account.username))
            case HasRole(text):
                return _of_names(self._by_role, text)
            case HasPrivilege(privilege, on):
                on_server = frozenset(self._on_server.get(privilege, ()))
                if on == SERVER:
                    return on_server
                return on_server | _of_names(self._on_things.get(privilege, {}), on)

    def _where(self, is_so: Callable[[JudgedAccount], bool]) -> Indices:
        return frozenset(index for index, account in enumerate(self._accounts) if is_so(account))


def _of_names(indices_by_name: Mapping[str, Sequence[int]], text: str | None) -> Indices:
    """Of the names that match the pattern; of all of them where there is none."""
    if text is None:
        return frozenset().union(*indices_by_name.values())
    is_meant = pattern_of_few(text)
    return frozenset().union(*(indices for name, indices in indices_by_name.items() if is_meant(name)))
