"""The values that pass between the routes, the services and the repositories."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    id: int
    name: str
    description: str | None
    quota_instances: int | None
    quota_rows: int | None
    archived_at: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None


class SpaceValues(TypedDict, total=False):
    """What of a space is set; what is absent stays as it is."""

    name: str
    description: str | None
    quota_instances: int | None
    quota_rows: int | None
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """What a writer needs to know of a space; a quota of None is no limit."""

    id: int
    quota_instances: int | None
    quota_rows: int | None
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class SpaceCounts:
    """What is in a space. `members` are users who hold a role in it, not those who hold one everywhere."""

    instances: int
    deleted_instances: int
    tags: int
    credentials: int
    members: int


@dataclass(frozen=True, slots=True)
class SpaceFilter:
    """`q` is a substring of the name, in any case; None filters nothing."""

    q: str | None = None
    is_archived: bool | None = None


@dataclass(frozen=True, slots=True)
class SpacePage:
    items: list[SpaceRecord]
    next_cursor: str | None
    total: int | None
