"""An instance as the routes, the services and the repository pass it to each other, and which instances are meant."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from app.instances.fields import endpoint_key
from app.models.instance import DatabaseType, Environment, SyncPolicy, TlsMode


class InstanceStatus(StrEnum):
    """Active and disabled are told by `is_active`, of instances that are not deleted."""

    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class InstanceFilter:
    """None (or no tag) filters nothing, but without a status deleted instances are left out.

    `q` is a substring of name or host, in any case; of `tags` an instance must carry all.
    """

    q: str | None = None
    db_type: DatabaseType | None = None
    environment: Environment | None = None
    status: InstanceStatus | None = None
    tags: Sequence[str] = ()
    credential_id: int | None = None
    space_id: int | None = None


class InstanceRecord(NamedTuple):
    """A stored instance, under the contract's names and in their order. `tags` are names, sorted.

    A named tuple, because a page makes up to two hundred of them: it costs a tenth of what a frozen dataclass does. For
    the same reason enumerated values stay the text that is stored.
    """

    id: int
    space_id: int
    name: str
    db_type: str
    host: str
    port: int
    database_name: str | None
    description: str | None
    environment: str
    credential_id: int | None
    tags: Sequence[str]
    sync_policy: str
    is_active: bool
    deletion_protection: bool
    tls_mode: str | None
    tls_ca_file: str | None
    version: str | None
    last_connected_at: datetime | None
    deleted_at: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None


class ExportedInstance(NamedTuple):
    record: InstanceRecord
    credential: str | None


@dataclass(frozen=True, slots=True)
class InstancePage:
    items: Sequence[InstanceRecord]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class InstanceFields:
    """What a client sets of an instance, normalised by the rules in fields.py; `tags` are distinct and sorted."""

    name: str
    db_type: DatabaseType
    host: str
    port: int
    database_name: str | None = None
    description: str | None = None
    environment: Environment = Environment.PRODUCTION
    credential_id: int | None = None
    tags: tuple[str, ...] = ()
    sync_policy: SyncPolicy = SyncPolicy.OFF
    is_active: bool = True
    deletion_protection: bool = False
    # None is the configured mode, and the system's own authorities.
    tls_mode: TlsMode | None = None
    tls_ca_file: str | None = None

    @classmethod
    def of(cls, record: InstanceRecord) -> "InstanceFields":
        values = {field.name: getattr(record, field.name) for field in fields(cls)}
        enumerated = {
            "db_type": DatabaseType(record.db_type),
            "environment": Environment(record.environment),
            "sync_policy": SyncPolicy(record.sync_policy),
            "tls_mode": None if record.tls_mode is None else TlsMode(record.tls_mode),
        }
        return cls(**values | enumerated | {"tags": tuple(record.tags)})

    @property
    def endpoint_key(self) -> str:
        return endpoint_key(self.db_type, self.host, self.port, self.database_name)

    def columns(self) -> dict[str, Any]:
        """The columns of the instance's row that these fields set."""
        values = asdict(self)
        del values["tags"]
        return values | {"endpoint_key": self.endpoint_key}


@dataclass(frozen=True, slots=True)
class Rival:
    """An instance, not deleted, that has the name or the endpoint that another one is to get."""

    id: int
    name: str
    endpoint_key: str


@dataclass(frozen=True, slots=True)
class KindCount:
    """How many instances are alike in these."""

    db_type: str
    environment: str
    is_active: bool
    is_deleted: bool
    count: int

    @property
    def status(self) -> InstanceStatus:
        if self.is_deleted:
            return InstanceStatus.DELETED
        return InstanceStatus.ACTIVE if self.is_active else InstanceStatus.DISABLED


@dataclass(frozen=True, slots=True)
class InstanceStatistics:
    """Counts of instances. All but `status` are of those that are not deleted; tags that nobody carries are absent."""

    total: int
    db_type: dict[DatabaseType, int]
    environment: dict[Environment, int]
    status: dict[InstanceStatus, int]
    tag: dict[str, int]


@dataclass(frozen=True, slots=True)
class LockedInstance:
    """What the tagging of many needs to know of each."""

    id: int
    space_id: int
    name: str


class Link(NamedTuple):
    instance_id: int
    tag_id: int
