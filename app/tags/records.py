"""The values that pass between the routes, the service and the repository."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class TagRecord:
    id: int
    space_id: int
    name: str
    color: str | None
    description: str | None
    revision: int
    created_at: datetime
    updated_at: datetime


class TagValues(TypedDict, total=False):
    """What of a tag is set; what is absent stays as it is."""

    name: str
    color: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class TagFilter:
    """`q` is a substring of the name, in any case; None filters nothing."""

    space_id: int | None = None
    q: str | None = None


@dataclass(frozen=True, slots=True)
class TagPage:
    items: list[TagRecord]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Carrier:
    """An instance that carries a tag."""

    id: int
    name: str
