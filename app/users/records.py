"""The values that pass between the routes, the services and the repositories: users, and what goes with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from app.users.grant_records import GrantRecord


@dataclass(frozen=True, slots=True)
class UserRecord:
    id: int
    username: str
    email: str | None
    display_name: str | None
    is_active: bool
    last_login_at: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None


class UserValues(TypedDict, total=False):
    """What of a user is set; what is absent stays as it is. `username` only when the user is made."""

    username: str
    password: str
    email: str | None
    display_name: str | None
    is_active: bool


class StoredValues(TypedDict, total=False):
    """The same as they are stored."""

    username: str
    password_hash: str
    password_changed_at: datetime
    email: str | None
    display_name: str | None
    is_active: bool


@dataclass(frozen=True, slots=True)
class UserFilter:
    """`q` is a substring of user name, displayed name or email address, in any case; None filters nothing."""

    q: str | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class UserPage:
    items: list[UserRecord]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class UserDeletion:
    """What goes with a user and what stays, by table, in rows; tables without any are left out.

    `deleted` rows go, `cleared` ones stay and no longer tell that they are this user's work, `kept` ones stay with the
    name as text.
    """

    user_id: int
    username: str
    dry_run: bool
    deleted: Mapping[str, int]
    cleared: Mapping[str, int]
    kept: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Profile:
    user: UserRecord
    roles: list[GrantRecord]


@dataclass(frozen=True, slots=True)
class Account:
    """What signing in needs to know of a user."""

    id: int
    username: str
    password_hash: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class SignInPair:
    """What failures are counted by: the name as it was given, in its one form, and the client's address."""

    username: str
    address: str


@dataclass(frozen=True, slots=True)
class TokenFamily:
    """A refresh token with the session that it belongs to. `is_alive`: neither has ended or expired, and the user is
    active."""

    token_id: int
    session_id: int
    user_id: int
    username: str
    is_alive: bool


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
