"""Classifications, as they pass between layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict


@dataclass(frozen=True, slots=True)
class ClassificationRecord:
    id: int
    space_id: int
    name: str
    description: str | None
    rule: Mapping[str, Any]
    rule_version: int
    priority: int
    is_enabled: bool
    revision: int
    created_at: datetime
    updated_at: datetime


class ClassificationValues(TypedDict, total=False):
    """What a client sets."""

    name: str
    description: str | None
    rule: dict[str, Any]
    priority: int
    is_enabled: bool


@dataclass(frozen=True, slots=True)
class ClassificationFilter:
    """None is any."""

    space_id: int | None = None
    is_enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class ClassificationPage:
    items: Sequence[ClassificationRecord]
    next_cursor: str | None
    total: int | None


class RuleVersion(NamedTuple):
    rule_version: int
    rule: Mapping[str, Any]
    created_at: datetime


class StoredRule(NamedTuple):
    """A rule as it is stored."""

    classification_id: int
    revision: int
    rule_version: int
    is_enabled: bool
    rule: object


class MatchedAccount(NamedTuple):
    """An account that a rule matches, for showing it."""

    instance_id: int
    instance_name: str
    db_type: str
    username: str
    host: str
    is_superuser: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule would match: how many of how many accounts, and the first of them."""

    accounts: int
    matched: int
    items: Sequence[MatchedAccount]
