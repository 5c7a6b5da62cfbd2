"""The values that pass between routes, services and repositories: permissions and the roles that bundle them."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class PermissionRecord:
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """`permissions` in order of name."""

    id: int
    name: str
    description: str | None
    is_builtin: bool
    revision: int
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrantedRole:
    """What a grant needs to know of its role. `is_admin`: it is the built-in one that may do everything."""

    id: int
    name: str
    permissions: frozenset[str]
    is_admin: bool


class RoleValues(TypedDict, total=False):
    """What of a role is set; what is absent stays as it is."""

    name: str
    description: str | None
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RolePage:
    items: list[RoleRecord]
    next_cursor: str | None
    total: int | None
