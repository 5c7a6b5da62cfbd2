"""What a sync finds on a server, as adapters hand it over; names and units are those of the tables they go into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

JsonValue = str | int | float | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


class SyncCounts(NamedTuple):
    """What writing one kind of findings did; the objects are accounts, databases or settings."""

    found: int = 0
    created: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class FoundPermissions:
    """Every collection is sorted and free of repetitions, so that two snapshots compare by their JSON."""

    roles: Sequence[str] = ()
    global_privileges: Sequence[str] = ()
    database_privileges: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # By `schema.table` or `schema.table.column`; where the server's databases hold schemas, `database.schema.table`.
    object_privileges: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # `object: right`, with `*` for the whole server.
    grantable_privileges: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """Identified by `username` and `host` (MySQL's; empty elsewhere), which compare exactly."""

    username: str
    host: str = ""
    is_superuser: bool = False
    can_login: bool = True
    is_locked: bool = False
    authentication_method: str | None = None
    password_expires_at: datetime | None = None
    connection_limit: int | None = None
    # What else the server tells, by its own names; never a password or its hash.
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)
    permissions: FoundPermissions = field(default_factory=FoundPermissions)


@dataclass(frozen=True, slots=True)
class FoundDatabase:
    name: str
    owner: str | None = None
    character_set_name: str | None = None
    collation_name: str | None = None
    is_system: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlMember:
    role: str
    server_uuid: str | None = None
    server_id: int | None = None
    group_name: str | None = None
    source_host: str | None = None
    source_port: int | None = None
    is_read_only: bool = False
    replication_state: str | None = None
    lag_seconds: int | None = None
    gtid_executed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlMember:
    role: str
    system_identifier: str | None = None
    timeline: int | None = None
    source_host: str | None = None
    source_port: int | None = None
    replication_state: str | None = None
    lag_seconds: int | None = None
    replica_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisMember:
    mode: str
    role: str
    node_id: str | None = None
    replication_id: str | None = None
    source_host: str | None = None
    source_port: int | None = None
    replication_state: str | None = None
    lag_seconds: int | None = None
    replica_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MongodbMember:
    role: str
    replica_set_name: str | None = None
    member_name: str | None = None
    source_host: str | None = None
    source_port: int | None = None
    replication_state: str | None = None
    lag_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleMember:
    role: str
    database_unique_name: str | None = None
    open_mode: str | None = None
    protection_mode: str | None = None
    instance_name: str | None = None
    instance_number: int | None = None
    lag_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlserverMember:
    """One for each availability group that the server is in."""

    group_name: str
    role: str
    replica_server_name: str | None = None
    availability_mode: str | None = None
    failover_mode: str | None = None
    synchronization_health: str | None = None
    listener: str | None = None


Member = MysqlMember | PostgresqlMember | RedisMember | MongodbMember | OracleMember | SqlserverMember
