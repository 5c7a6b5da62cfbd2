"""The values that pass between routes, services and repositories: who holds which role where."""

from dataclasses import dataclass
from typing import NamedTuple, TypedDict


class Assignment(NamedTuple):
    """A role in a space; `space_id` None is everywhere."""

    role_id: int
    space_id: int | None


class RoleReference(TypedDict, total=False):
    """A role in a space, by the role's id or its name; without a space it is everywhere."""

    role_id: int
    role: str
    space_id: int | None


@dataclass(frozen=True, slots=True)
class GrantRecord:
    id: int
    role_id: int
    role: str
    space_id: int | None

    @property
    def assignment(self) -> Assignment:
        return Assignment(self.role_id, self.space_id)


@dataclass(frozen=True, slots=True)
class Holder:
    """The user whose grants are changed."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class MemberRole:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A user who holds roles in a space; those who hold one everywhere are not members by that. Roles by name."""

    user_id: int
    username: str
    display_name: str | None
    is_active: bool
    roles: tuple[MemberRole, ...]


@dataclass(frozen=True, slots=True)
class MemberPage:
    items: list[MemberRecord]
    next_cursor: str | None
    total: int | None
