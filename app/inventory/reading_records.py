"""What of the inventory is asked for and shown, as it passes between the routes, the service and the repositories."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, NewType, TypeVar

from app.inventory.records import Member
from app.inventory.setting_changes import SettingChanges
from app.models.instance import DatabaseType
from app.models.inventory import AccountChangeType

RecordT_co = TypeVar("RecordT_co", covariant=True)

# As the database gives it. Rights can be long, and are shown as they are stored: reading and writing them again would
# hold the event loop.
JsonText = NewType("JsonText", str)


@dataclass(frozen=True, slots=True)
class Found(Generic[RecordT_co]):
    """A page."""

    items: Sequence[RecordT_co]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """None filters nothing. `q` is a substring of the username, in any case."""

    q: str | None = None
    is_superuser: bool | None = None
    is_present: bool | None = None
    classification_id: int | None = None


@dataclass(frozen=True, slots=True)
class DatabaseFilter:
    """The same of databases."""

    q: str | None = None
    is_system: bool | None = None
    is_present: bool | None = None


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """None filters nothing. The username is exact; `since` is included, `until` is not."""

    username: str | None = None
    change_type: AccountChangeType | None = None
    since: datetime | None = None
    until: datetime | None = None


class ClassRecord(NamedTuple):
    """A classification that an account is in."""

    id: int
    name: str


class RightsRecord(NamedTuple):
    """A snapshot of an account's rights, which were these from `captured_at` on."""

    roles: JsonText
    global_privileges: JsonText
    database_privileges: JsonText
    object_privileges: JsonText
    grantable_privileges: JsonText
    captured_at: datetime


class AccountRecord(NamedTuple):
    id: int
    username: str
    host: str
    is_superuser: bool
    can_login: bool
    is_locked: bool
    authentication_method: str | None
    password_expires_at: datetime | None
    connection_limit: int | None
    attributes: JsonText
    is_present: bool
    first_seen_at: datetime
    last_seen_at: datetime
    permissions: RightsRecord | None
    classifications: Sequence[ClassRecord]


class DatabaseRecord(NamedTuple):
    id: int
    name: str
    owner: str | None
    character_set_name: str | None
    collation_name: str | None
    is_system: bool
    is_present: bool
    first_seen_at: datetime
    last_seen_at: datetime


class ChangeRecord(NamedTuple):
    """An entry of the change log."""

    id: int
    username: str
    host: str
    change_type: AccountChangeType
    diff: str
    changes: JsonText
    changed_at: datetime


class SnapshotRecord(NamedTuple):
    id: int
    settings: dict[str, str]
    captured_at: datetime


@dataclass(frozen=True, slots=True)
class SettingRecord:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class SettingsRecord:
    """A page of the present settings, by name; `captured_at` None when none were ever seen."""

    captured_at: datetime | None
    page: Found[SettingRecord]


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """What differs between a snapshot and the one before it. The id is the later one's."""

    id: int
    captured_at: datetime
    changes: SettingChanges


@dataclass(frozen=True, slots=True)
class PlaceRecord:
    """A place in replication or a cluster, as the server told it at `seen_at`."""

    id: int
    db_type: DatabaseType
    seen_at: datetime
    place: Member
