"""Rules by which accounts are classified: JSON in, a tree out; FieldError for what cannot be understood.

    {"all": [rule, …]}   {"any": [rule, …]}   {"not": rule}
    {"db_type_in": ["mysql", …]}
    {"is_superuser": true}
    {"has_role": "dba*"}
    {"has_privilege": "SELECT"}   {"has_privilege": {"privilege": "SELECT", "on": "shop*"}}
    {"name_matches": "app_*"}

Patterns are those of a shell (`*`, `?`, `[abc]`), match the whole text, and tell capitals from small letters; regular
expressions could keep a processor busy for years. A privilege's name is compared in any case. One on the whole server
is held on everything in it; `on` is a database, `schema.table` or `database.schema.table`, as the account's rights name
it, and `*` alone is the server.

A rule is checked as a whole: nothing of one that has a part which cannot be understood is ever applied.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final, TypeGuard

from app.errors import FieldError, cut
from app.models.instance import DatabaseType

MAX_DEPTH: Final = 8
MAX_CONDITIONS: Final = 100
MAX_TEXT_CHARACTERS: Final = 255
SERVER: Final = "*"
MAX_KNOWN_TEXTS: Final = 2_000


@dataclass(frozen=True, slots=True)
class AllOf:
    rules: tuple["Rule", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    rules: tuple["Rule", ...]


@dataclass(frozen=True, slots=True)
class Not:
    rule: "Rule"


@dataclass(frozen=True, slots=True)
class DatabaseTypeIn:
    types: frozenset[DatabaseType]


@dataclass(frozen=True, slots=True)
class IsSuperuser:
    wanted: bool


@dataclass(frozen=True, slots=True)
class HasRole:
    pattern: str


@dataclass(frozen=True, slots=True)
class HasPrivilege:
    """`privilege` in upper case; `on` None is anywhere."""

    privilege: str
    on: str | None = None


@dataclass(frozen=True, slots=True)
class NameMatches:
    pattern: str


Condition = DatabaseTypeIn | IsSuperuser | HasRole | HasPrivilege | NameMatches
Rule = AllOf | AnyOf | Not | Condition


def parse(value: object) -> Rule:
    """Raises FieldError, whose message names the place in the rule."""
    rule = _rule(value, "rule", 1)
    count = len(list(conditions(rule)))
    if count > MAX_CONDITIONS:
        raise FieldError("too_long", f"rule may have at most {MAX_CONDITIONS} conditions, not {count}")
    return rule


def conditions(rule: Rule) -> list[Condition]:
    """Every condition in it, in order."""
    match rule:
        case AllOf(rules) | AnyOf(rules):
            return [each for part in rules for each in conditions(part)]
        case Not(part):
            return conditions(part)
        case _:
            return [rule]


@lru_cache(maxsize=256)
def pattern(text: str) -> Callable[[str], object]:
    """Gives something for a text that matches the pattern as a whole, and None for another."""
    return re.compile(translate(text)).match


@lru_cache(maxsize=256)
def pattern_of_few(text: str) -> Callable[[str], object]:
    """The same, for texts of which few occur many times, such as names of roles and databases."""
    return lru_cache(maxsize=MAX_KNOWN_TEXTS)(pattern(text))


def _rule(value: object, place: str, depth: int) -> Rule:
    if depth > MAX_DEPTH:
        raise FieldError("too_long", f"{place}: rules may stand in each other {MAX_DEPTH} deep at most")
    if not isinstance(value, Mapping) or len(value) != 1:
        allowed = ", ".join(_readers)
        raise FieldError("invalid_format", f"{place} must be an object with one of {allowed}")
    [(name, content)] = value.items()
    reader = _readers.get(str(name))
    if reader is None:
        message = f"{place} must have one of {', '.join(_readers)}, not {cut(str(name))!r}"
        raise FieldError("unknown_value", message)
    return reader(content, f"{place}.{name}", depth)


def _rules(value: object, place: str, depth: int) -> tuple[Rule, ...]:
    """At least one: of no rules at all every one would hold, for every account there is."""
    if not _is_list(value) or not value:
        raise FieldError("invalid_format", f"{place} must be a list of rules, and not an empty one")
    if len(value) > MAX_CONDITIONS:
        raise FieldError("too_long", f"{place} may have at most {MAX_CONDITIONS} rules")
    return tuple(_rule(each, f"{place}[{number}]", depth + 1) for number, each in enumerate(value))


def _all(value: object, place: str, depth: int) -> Rule:
    return AllOf(_rules(value, place, depth))


def _any(value: object, place: str, depth: int) -> Rule:
    return AnyOf(_rules(value, place, depth))


def _not(value: object, place: str, depth: int) -> Rule:
    return Not(_rule(value, place, depth + 1))


def _db_type_in(value: object, place: str, depth: int) -> Rule:
    allowed = ", ".join(DatabaseType)
    if not _is_list(value) or not value:
        raise FieldError("invalid_format", f"{place} must be a list of {allowed}, and not an empty one")
    unknown = [each for each in value if not isinstance(each, str) or each not in frozenset(DatabaseType)]
    if unknown:
        raise FieldError("unknown_value", f"{place} must be of {allowed}, not {cut(str(unknown[0]))!r}")
    return DatabaseTypeIn(frozenset(DatabaseType(str(each)) for each in value))


def _is_superuser(value: object, place: str, depth: int) -> Rule:
    if not isinstance(value, bool):
        raise FieldError("invalid_format", f"{place} must be true or false")
    return IsSuperuser(value)


def _has_role(value: object, place: str, depth: int) -> Rule:
    return HasRole(_text(value, place))


def _has_privilege(value: object, place: str, depth: int) -> Rule:
    if not isinstance(value, Mapping):
        return HasPrivilege(_text(value, place).upper())
    unknown = value.keys() - {"privilege", "on"}
    if unknown:
        raise FieldError("unknown_value", f"{place} has privilege and on, not {cut(str(min(unknown, key=str)))!r}")
    on = value.get("on")
    return HasPrivilege(
        _text(value.get("privilege"), f"{place}.privilege").upper(), None if on is None else _text(on, f"{place}.on")
    )


def _name_matches(value: object, place: str, depth: int) -> Rule:
    return NameMatches(_text(value, place))


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise FieldError("invalid_format", f"{place} must be a text, and not an empty one")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise FieldError("too_long", f"{place} must have at most {MAX_TEXT_CHARACTERS} characters")
    if "\x00" in value:
        raise FieldError("invalid_format", f"{place} must not hold control characters")
    return value


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


_readers: Mapping[str, Callable[[object, str, int], Rule]] = {
    "all": _all,
    "any": _any,
    "not": _not,
    "db_type_in": _db_type_in,
    "is_superuser": _is_superuser,
    "has_role": _has_role,
    "has_privilege": _has_privilege,
    "name_matches": _name_matches,
}
