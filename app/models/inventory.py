"""What syncs find on a server: accounts and their rights, databases, settings, cluster membership, and what changed.

Units and meaning stand at the columns. Everything below an instance carries `instance_id` itself, grandchildren too:
one predicate clears it, and no row can be added below an instance that is locked for deletion.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, false, true
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Json, Name, OwnedBySpace, Timestamped, UtcDateTime, enum_column, utc_now


def _instance_id(*, index: bool = False) -> Mapped[int]:
    return mapped_column(ForeignKey("instances.id", ondelete="CASCADE"), index=index)


class AccountChangeType(StrEnum):
    ADDED = "added"
    PRIVILEGES_CHANGED = "privileges_changed"
    ATTRIBUTES_CHANGED = "attributes_changed"
    REMOVED = "removed"


class InstanceAccount(Timestamped, Base):
    """A login of the server: a PostgreSQL role, a MySQL 'user'@'host', a Redis ACL user."""

    __tablename__ = "instance_accounts"
    __table_args__ = (UniqueConstraint("instance_id", "username", "host"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    username: Mapped[str] = mapped_column(String(255))
    host: Mapped[str] = mapped_column(String(255), server_default="", doc="MySQL's host part; empty elsewhere")
    is_superuser: Mapped[bool] = mapped_column(default=False, server_default=false())
    can_login: Mapped[bool] = mapped_column(default=True, server_default=true(), doc="False for a pure role")
    is_locked: Mapped[bool] = mapped_column(default=False, server_default=false(), doc="mysql.user.account_locked")
    authentication_method: Mapped[str | None] = mapped_column(String(64), doc="mysql.user.plugin; scram-sha-256, …")
    password_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="pg_roles.rolvaliduntil")
    connection_limit: Mapped[int | None] = mapped_column(Integer, doc="Concurrent connections; null is unlimited")
    attributes: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="What else the server tells, by its own names")
    is_present: Mapped[bool] = mapped_column(default=True, server_default=true(), doc="Whether the last sync saw it")
    first_seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class AccountPermission(Base):
    """The last snapshot of one account's rights; `digest` makes comparing two snapshots one look."""

    __tablename__ = "account_permissions"
    __table_args__ = (UniqueConstraint("account_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id(index=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("instance_accounts.id", ondelete="CASCADE"))
    roles: Mapped[list[str] | None] = mapped_column(Json, doc="Names of granted roles, sorted")
    global_privileges: Mapped[list[str] | None] = mapped_column(Json, doc="Server-wide privileges, sorted")
    database_privileges: Mapped[dict[str, list[str]] | None] = mapped_column(Json, doc="Privileges by database")
    object_privileges: Mapped[dict[str, list[str]] | None] = mapped_column(
        Json, doc="Privileges by schema.table or schema.table.column"
    )
    grantable_privileges: Mapped[list[str] | None] = mapped_column(Json, doc="Held WITH GRANT OPTION, as object: right")
    digest: Mapped[str] = mapped_column(String(64), doc="SHA-256, in hex, of the rights in canonical JSON")
    captured_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class AccountClassification(OwnedBySpace, Timestamped, Base):
    """A rule that puts accounts into a class, such as "can read every table"."""

    __tablename__ = "account_classifications"
    __table_args__ = (UniqueConstraint("space_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    description: Mapped[str | None] = mapped_column(String(500))
    rule: Mapped[dict[str, Any]] = mapped_column(Json)
    rule_version: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    priority: Mapped[int] = mapped_column(Integer, default=100, server_default="100", doc="Lower is looked at first")
    is_enabled: Mapped[bool] = mapped_column(default=True, server_default=true())
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")


class AccountClassificationVersion(OwnedBySpace, Base):
    """A rule as it was from `created_at` until the next version; assignments name the version that matched."""

    __tablename__ = "account_classification_versions"
    __table_args__ = (Index("ix_account_classification_versions_space_id", "space_id"),)

    classification_id: Mapped[int] = mapped_column(
        ForeignKey("account_classifications.id", ondelete="CASCADE"), primary_key=True
    )
    rule_version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    rule: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class AccountClassificationAssignment(Base):
    """That the rights in a snapshot matched a rule, and which version of the rule.

    An instance can have millions of them, and most of what writing one costs is looking up what it refers to. So
    `permission_id` is no foreign key: snapshots go with their instance only, which is one.
    """

    __tablename__ = "account_classification_assignments"
    __table_args__ = (
        # Of the class' foreign key, and of whoever applies its rule to accounts.
        Index(
            "uq_account_classification_assignments_classification_permission",
            "classification_id",
            "permission_id",
            unique=True,
        ),
        {"sqlite_with_rowid": False},
    )

    instance_id: Mapped[int] = mapped_column(
        ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    permission_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False, doc="No foreign key")
    classification_id: Mapped[int] = mapped_column(
        ForeignKey("account_classifications.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    rule_version: Mapped[int] = mapped_column(Integer)
    assigned_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class AccountChangeLog(Base):
    """What a sync found changed about an account. The name is text: the entry outlives the account's row."""

    __tablename__ = "account_change_logs"
    __table_args__ = (
        Index("ix_account_change_logs_instance_id_changed_at", "instance_id", "changed_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    username: Mapped[str] = mapped_column(String(255))
    host: Mapped[str] = mapped_column(String(255), server_default="")
    change_type: Mapped[AccountChangeType] = mapped_column(enum_column(AccountChangeType))
    changes: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="given, taken and changed, by object")
    diff: Mapped[str] = mapped_column(Text, doc="The same for a reader: one line for each right given or taken")
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, doc="When the sync saw it")


class InstanceDatabase(Timestamped, Base):
    """A database (or schema, or Redis keyspace) found on the server."""

    __tablename__ = "instance_databases"
    __table_args__ = (UniqueConstraint("instance_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    name: Mapped[str] = mapped_column(String(255))
    owner: Mapped[str | None] = mapped_column(String(255))
    character_set_name: Mapped[str | None] = mapped_column(String(64))
    collation_name: Mapped[str | None] = mapped_column(String(128))
    is_system: Mapped[bool] = mapped_column(default=False, server_default=false())
    is_present: Mapped[bool] = mapped_column(default=True, server_default=true(), doc="Whether the last sync saw it")
    first_seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class InstanceConfigSnapshot(Base):
    """The server's settings that matter, as they were from `captured_at` until the next snapshot."""

    __tablename__ = "instance_config_snapshots"
    __table_args__ = (
        Index("ix_instance_config_snapshots_instance_id_captured_at", "instance_id", "captured_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    settings: Mapped[dict[str, Any]] = mapped_column(Json, doc="Value as text by the server's own setting name")
    digest: Mapped[str] = mapped_column(String(64), doc="SHA-256, in hex, of the settings in canonical JSON")
    captured_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class MysqlClusterInstance(Base):
    """A MySQL or MariaDB server's place in its replication topology."""

    __tablename__ = "mysql_cluster_instances"
    __table_args__ = (UniqueConstraint("instance_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    server_uuid: Mapped[str | None] = mapped_column(String(36), doc="@@server_uuid")
    server_id: Mapped[int | None] = mapped_column(BigInteger, doc="@@server_id")
    role: Mapped[str] = mapped_column(String(32), doc="source, replica, group_member or standalone")
    group_name: Mapped[str | None] = mapped_column(String(64), doc="@@group_replication_group_name")
    source_host: Mapped[str | None] = mapped_column(String(255))
    source_port: Mapped[int | None] = mapped_column(Integer)
    is_read_only: Mapped[bool] = mapped_column(default=False, server_default=false())
    replication_state: Mapped[str | None] = mapped_column(String(64))
    lag_seconds: Mapped[int | None] = mapped_column(BigInteger, doc="Seconds_Behind_Source; null when not replicating")
    gtid_executed: Mapped[str | None] = mapped_column(Text)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class SqlserverClusterInstance(Base):
    """A SQL Server's place in an availability group; it can be in several."""

    __tablename__ = "sqlserver_cluster_instances"
    __table_args__ = (UniqueConstraint("instance_id", "group_name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    group_name: Mapped[str] = mapped_column(String(128), doc="sys.availability_groups.name")
    replica_server_name: Mapped[str | None] = mapped_column(String(256))
    role: Mapped[str] = mapped_column(String(32), doc="primary, secondary or resolving")
    availability_mode: Mapped[str | None] = mapped_column(String(32), doc="synchronous_commit or asynchronous_commit")
    failover_mode: Mapped[str | None] = mapped_column(String(32), doc="automatic or manual")
    synchronization_health: Mapped[str | None] = mapped_column(String(32))
    listener: Mapped[str | None] = mapped_column(String(255), doc="DNS name of the group's listener")
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class PostgresqlClusterInstance(Base):
    """A PostgreSQL server's place in streaming replication."""

    __tablename__ = "postgresql_cluster_instances"
    __table_args__ = (UniqueConstraint("instance_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    system_identifier: Mapped[str | None] = mapped_column(String(32), doc="pg_control_system(); one for a cluster")
    role: Mapped[str] = mapped_column(String(32), doc="primary or standby")
    timeline: Mapped[int | None] = mapped_column(Integer)
    source_host: Mapped[str | None] = mapped_column(String(255), doc="pg_stat_wal_receiver.sender_host")
    source_port: Mapped[int | None] = mapped_column(Integer)
    replication_state: Mapped[str | None] = mapped_column(String(64), doc="pg_stat_wal_receiver.status")
    lag_seconds: Mapped[int | None] = mapped_column(BigInteger, doc="Since the last replayed transaction; of a standby")
    replica_count: Mapped[int | None] = mapped_column(Integer, doc="Rows of pg_stat_replication, where it may be read")
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class RedisClusterInstance(Base):
    """A Redis server's place in replication, or in a Redis Cluster."""

    __tablename__ = "redis_cluster_instances"
    __table_args__ = (UniqueConstraint("instance_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    mode: Mapped[str] = mapped_column(String(32), doc="INFO redis_mode: standalone, sentinel or cluster")
    role: Mapped[str] = mapped_column(String(32), doc="primary or replica")
    node_id: Mapped[str | None] = mapped_column(String(40), doc="CLUSTER MYID")
    replication_id: Mapped[str | None] = mapped_column(String(40), doc="INFO master_replid; shared by replicas")
    source_host: Mapped[str | None] = mapped_column(String(255))
    source_port: Mapped[int | None] = mapped_column(Integer)
    replication_state: Mapped[str | None] = mapped_column(String(64), doc="INFO master_link_status")
    lag_seconds: Mapped[int | None] = mapped_column(BigInteger, doc="INFO master_last_io_seconds_ago")
    replica_count: Mapped[int | None] = mapped_column(Integer, doc="INFO connected_slaves")
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class MongodbClusterInstance(Base):
    """A MongoDB server's place in a replica set or a sharded cluster."""

    __tablename__ = "mongodb_cluster_instances"
    __table_args__ = (UniqueConstraint("instance_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    replica_set_name: Mapped[str | None] = mapped_column(String(128), doc="hello.setName")
    role: Mapped[str] = mapped_column(String(32), doc="primary, secondary, arbiter, mongos or standalone")
    member_name: Mapped[str | None] = mapped_column(String(255), doc="hello.me")
    source_host: Mapped[str | None] = mapped_column(String(255), doc="hello.primary, without its port")
    source_port: Mapped[int | None] = mapped_column(Integer)
    replication_state: Mapped[str | None] = mapped_column(String(64), doc="replSetGetStatus stateStr")
    lag_seconds: Mapped[int | None] = mapped_column(BigInteger, doc="Behind the primary's optime")
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class OracleClusterInstance(Base):
    """An Oracle database's place in Data Guard, and which instance of a RAC answered."""

    __tablename__ = "oracle_cluster_instances"
    __table_args__ = (UniqueConstraint("instance_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = _instance_id()
    database_unique_name: Mapped[str | None] = mapped_column(String(128), doc="v$database.db_unique_name")
    role: Mapped[str] = mapped_column(String(32), doc="v$database.database_role in lower case: primary, …")
    open_mode: Mapped[str | None] = mapped_column(String(32), doc="v$database.open_mode")
    protection_mode: Mapped[str | None] = mapped_column(String(32), doc="v$database.protection_mode")
    instance_name: Mapped[str | None] = mapped_column(String(128), doc="v$instance.instance_name")
    instance_number: Mapped[int | None] = mapped_column(Integer, doc="v$instance.instance_number; above 1 in a RAC")
    lag_seconds: Mapped[int | None] = mapped_column(BigInteger, doc="v$dataguard_stats apply lag")
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
