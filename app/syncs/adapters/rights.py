"""Gathers what accounts may do, one grant after the other, as catalogues list it."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from app.inventory.records import FoundPermissions


class Rights:
    """Of one account; what is told twice counts once."""

    def __init__(self) -> None:
        self.roles: set[str] = set()
        self.everywhere: set[str] = set()
        self._by_database: defaultdict[str, set[str]] = defaultdict(set)
        self._by_object: defaultdict[str, set[str]] = defaultdict(set)
        self._grantable: set[str] = set()

    def add_role(self, role: str, *, grantable: bool = False) -> None:
        self.roles.add(role)
        self._note(grantable, "*", role)

    def add(self, privilege: str, *, grantable: bool = False) -> None:
        """On the whole server."""
        self.everywhere.add(privilege)
        self._note(grantable, "*", privilege)

    def add_on_database(self, database: str, privilege: str, *, grantable: bool = False) -> None:
        self._by_database[database].add(privilege)
        self._note(grantable, database, privilege)

    def add_on_object(self, name: str, privilege: str, *, grantable: bool = False) -> None:
        self._by_object[name].add(privilege)
        self._note(grantable, name, privilege)

    def found(self) -> FoundPermissions:
        return FoundPermissions(
            roles=sorted(self.roles),
            global_privileges=sorted(self.everywhere),
            database_privileges=_sorted(self._by_database),
            object_privileges=_sorted(self._by_object),
            grantable_privileges=sorted(self._grantable),
        )

    def _note(self, grantable: bool, name: str, right: str) -> None:
        if grantable:
            self._grantable.add(f"{name}: {right}")


def reached_roles(direct: Collection[str], roles_of: Mapping[str, Collection[str]]) -> set[str]:
    """These roles, those that they are members of, and so on; a circle ends."""
    reached: set[str] = set()
    to_visit = list(direct)
    while to_visit:
        role = to_visit.pop()
        if role not in reached:
            reached.add(role)
            to_visit.extend(roles_of.get(role, ()))
    return reached


def _sorted(privileges: Mapping[str, set[str]]) -> dict[str, list[str]]:
    return {name: sorted(privileges[name]) for name in sorted(privileges)}
