"""Values of syncs, as they pass between layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from app.credentials.records import SealedSignIn
from app.instances.records import InstanceFilter
from app.models.instance import DatabaseType, TlsMode
from app.models.sync import SyncKind, SyncState, SyncTrigger
from app.syncs.targets import ServerPlace


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What is to be synced, in one space: the instances of these ids, or the active ones that the filter selects.

    `space_id` None is the space of the instances, or the filter's. `ignores_open_circuit`: an endpoint is tried even
    where it was found unreachable a moment ago.
    """

    space_id: int | None = None
    instance_ids: Sequence[int] | None = None
    filter: InstanceFilter | None = None
    kinds: Sequence[SyncKind] = tuple(SyncKind)
    trigger: SyncTrigger = SyncTrigger.MANUAL
    ignores_open_circuit: bool = False


@dataclass(frozen=True, slots=True)
class OrderedSync:
    """The same as its operation keeps it. The instances are the session's slices."""

    session_id: int
    kinds: tuple[SyncKind, ...]
    ignores_open_circuit: bool = False

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "OrderedSync":
        return cls(
            stored["sync_session_id"],
            tuple(SyncKind(each) for each in stored["kinds"]),
            bool(stored.get("ignores_open_circuit")),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "sync_session_id": self.session_id,
            "kinds": [each.value for each in self.kinds],
            "ignores_open_circuit": self.ignores_open_circuit,
        }


class InstanceSlice(NamedTuple):
    """Some of a session's instances, in their order; the first one's item has that position, the others the next."""

    first_position: int
    instance_ids: Sequence[int]

    @property
    def last_position(self) -> int:
        return self.first_position + len(self.instance_ids) - 1

    def positions(self) -> dict[int, int]:
        """The ids by their position."""
        return dict(enumerate(self.instance_ids, self.first_position))


class SyncedInstance(NamedTuple):
    """What a sync needs to know of an instance."""

    id: int
    space_id: int
    name: str
    db_type: DatabaseType
    host: str
    port: int
    database_name: str | None
    tls_mode: TlsMode | None
    tls_ca_file: str | None
    credential_id: int | None
    is_active: bool
    deleted_at: datetime | None

    @property
    def place(self) -> ServerPlace:
        return ServerPlace(self.db_type, self.host, self.port, self.database_name, self.tls_mode, self.tls_ca_file)


class UnreachableEndpoint(NamedTuple):
    """`failures` in a row; nobody tries before `retry_at`, if there is such a moment."""

    failures: int
    unreachable_since: datetime
    retry_at: datetime | None
    error_kind: str


class BegunInstance(NamedTuple):
    """An instance whose turn begins, what is known against its endpoint, and its credential."""

    instance: SyncedInstance
    known: UnreachableEndpoint | None
    sealed: SealedSignIn | None


class KnownConnection(NamedTuple):
    """What an instance's row tells of connecting to it."""

    host: str
    port: int
    version: str | None
    last_connected_at: datetime | None


class SessionRecord(NamedTuple):
    """A session as it is shown: its state is that of its operation, for as long as there is one. `done` and `total`
    count instances, and `items` what became of them, as the operation notes them twice a second; None once it is gone.
    """

    id: int
    space_id: int
    operation_id: int | None
    kinds: Sequence[str]
    trigger: SyncTrigger
    state: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    done: int | None
    total: int | None
    items: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """None is any; `instance_id` selects sessions with a record of the instance."""

    state: SyncState | None = None
    trigger: SyncTrigger | None = None
    kind: SyncKind | None = None
    instance_id: int | None = None
    space_id: int | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    items: Sequence[SessionRecord]
    next_cursor: str | None
    total: int | None


class InstanceRecordRow(NamedTuple):
    """What one sync of one kind did for one instance."""

    id: int
    session_id: int
    instance_id: int
    instance_name: str
    kind: SyncKind
    state: SyncState
    found: int
    created: int
    updated: int
    removed: int
    unchanged: int
    milliseconds: int | None
    error_kind: str | None
    error: str | None
    server_code: str | None
    unreachable_since: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """None is any."""

    state: SyncState | None = None
    kind: SyncKind | None = None
    instance_id: int | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    items: Sequence[InstanceRecordRow]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An instance whose turn it is, and since when."""

    instance_id: int
    name: str
    host: str
    port: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class UnreachableInstance:
    instance_id: int
    name: str
    host: str
    port: int
    unreachable_since: datetime


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """`records` counts them by state. `slowest` are the instances under way, the longest first, and `unreachable` those
    that could not be reached, the first few of each."""

    records: Mapping[SyncState, int]
    slowest: Sequence[UnderWay]
    unreachable: Sequence[UnreachableInstance]
    unreachable_count: int
