"""What became of an account between two syncs: which rights it was given or lost, which attributes changed.

For programs a change is the JSON in `account_change_logs.changes`:

    given, taken    what of FoundPermissions it has now and had not, or the other way round; without what is empty
    changed         by attribute {"before": …, "after": …}

For readers it is the `diff`, a line for each right and attribute:

    + account bob@%                 (only of one that was added; `-` of one that is gone)
    + role dba
    + CREATEDB on the server
    + CONNECT on database shop
    - SELECT on shop.orders
    SELECT on shop.orders: grantable
    SELECT on shop.orders: no longer grantable
    is_superuser: no -> yes
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from typing import Final

import orjson

from app.inventory.records import JsonValue
from app.models.inventory import AccountChangeType

# As FoundPermissions names them, as plain JSON.
Rights = Mapping[str, Sequence[str] | Mapping[str, Sequence[str]]]
Attribute = JsonValue | datetime

# A role that is given rights on every table of a server is no reason for megabytes of text; `changes` has them all.
MAX_DIFF_LINES: Final = 1_000
MAX_SHOWN_CHARACTERS: Final = 200
WHOLE_SERVER: Final = "*"

_listed = ("roles", "global_privileges", "grantable_privileges")
_by_object = ("database_privileges", "object_privileges")
_breaks_line = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class AttributeChange:
    before: Attribute
    after: Attribute


@dataclass(frozen=True, slots=True)
class AccountChange:
    """An entry of the change log."""

    change_type: AccountChangeType
    username: str
    host: str
    given: Rights = field(default_factory=dict)
    taken: Rights = field(default_factory=dict)
    changed: Mapping[str, AttributeChange] = field(default_factory=dict)

    @property
    def as_json(self) -> bytes:
        """Without what is empty."""
        members = {"given": self.given, "taken": self.taken, "changed": self.changed}
        present = {name: value for name, value in members.items() if value}
        return orjson.dumps(present, option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS)

    @property
    def diff(self) -> str:
        lines = self._lines()
        shown = list(islice(lines, MAX_DIFF_LINES))
        if omitted := sum(1 for _ in lines):
            shown.append(f"… and {omitted} more")
        return "\n".join(_breaks_line.sub(_escaped, line) for line in shown)

    def _lines(self) -> Iterator[str]:
        name = f"{self.username}@{self.host}" if self.host else self.username
        if self.change_type is AccountChangeType.ADDED:
            yield f"+ account {name}"
        elif self.change_type is AccountChangeType.REMOVED:
            yield f"- account {name}"
        yield from (f"+ {right}" for right in _described(self.given))
        yield from (f"- {right}" for right in _described(self.taken))
        yield from (f"{right}: grantable" for right in _grantable(self.given))
        yield from (f"{right}: no longer grantable" for right in _grantable(self.taken))
        yield from (f"{name}: {_shown(each.before)} -> {_shown(each.after)}" for name, each in self.changed.items())


def beyond(rights: Rights, others: Rights) -> Rights:
    """What of the rights is not among the others; collections of which nothing is left are left out."""
    surplus: dict[str, Sequence[str] | Mapping[str, Sequence[str]]] = {}
    for name in _listed:
        if more := _more(_list(rights, name), _list(others, name)):
            surplus[name] = more
    for name in _by_object:
        if more_by_object := _more_by_object(_mapping(rights, name), _mapping(others, name)):
            surplus[name] = more_by_object
    return surplus


def changed_attributes(
    before: Mapping[str, Attribute], after: Mapping[str, Attribute]
) -> Mapping[str, AttributeChange]:
    """By name, in its order; what a side lacks is None."""
    return {
        name: AttributeChange(before.get(name), after.get(name))
        for name in dict.fromkeys(chain(before, after))
        if before.get(name) != after.get(name)
    }


def _list(rights: Rights, name: str) -> Sequence[str]:
    found = rights.get(name) or ()
    return () if isinstance(found, Mapping) else found


def _mapping(rights: Rights, name: str) -> Mapping[str, Sequence[str]]:
    found = rights.get(name) or {}
    return found if isinstance(found, Mapping) else {}


def _more(some: Sequence[str], others: Sequence[str]) -> Sequence[str]:
    return [] if some == others else sorted(set(some).difference(others))


def _more_by_object(
    some: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    found = {name: _more(rights, others.get(name, ())) for name, rights in some.items()}
    return {name: more for name, more in found.items() if more}


def _described(rights: Rights) -> Iterator[str]:
    yield from (f"role {name}" for name in _list(rights, "roles"))
    yield from (f"{right} on the server" for right in _list(rights, "global_privileges"))
    for name, held in _mapping(rights, "database_privileges").items():
        yield from (f"{right} on database {name}" for right in held)
    for name, held in _mapping(rights, "object_privileges").items():
        yield from (f"{right} on {name}" for right in held)


def _grantable(rights: Rights) -> Iterator[str]:
    for each in _list(rights, "grantable_privileges"):
        # From the right: an object's name can hold a colon.
        name, _, right = each.rpartition(": ")
        yield f"{right} on {'the server' if name == WHOLE_SERVER else name}" if name else right


def _shown(value: Attribute) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S} UTC"
        case str():
            text = value
        case _:
            text = orjson.dumps(value).decode()
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
