"""Instances: one row for each registered database server."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, Integer, String, false, text, true
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Name, OwnedBySpace, Timestamped, Traced, UtcDateTime, enum_column


class DatabaseType(StrEnum):
    MYSQL = "mysql"
    MARIADB = "mariadb"
    POSTGRESQL = "postgresql"
    SQLSERVER = "sqlserver"
    ORACLE = "oracle"
    REDIS = "redis"
    MONGODB = "mongodb"


class Environment(StrEnum):
    PRODUCTION = "production"
    STAGING = "staging"
    TESTING = "testing"
    DEVELOPMENT = "development"


class SyncPolicy(StrEnum):
    OFF = "off"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"


_not_deleted = text("deleted_at IS NULL")
# In the names of columns that no other table has which is read beside this one.
is_synced = text("sync_policy <> 'off' AND is_active AND credential_id IS NOT NULL AND deleted_at IS NULL")


class TlsMode(StrEnum):
    """As libpq's sslmode names them. `prefer` takes TLS where the server has it, `require` checks the certificate's
    chain where a CA file is given and else nothing, `verify-full` the chain and that the certificate is the host's."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_FULL = "verify-full"


class Instance(OwnedBySpace, Traced, Timestamped, Base):
    """A registered server.

    Name and endpoint are unique in the space among instances that are not deleted. `endpoint_key` is the normalised
    endpoint (`db_type:host:port`, for Oracle with the service name). `revision` rises with every update and makes the
    ETag.
    """

    __tablename__ = "instances"
    __table_args__ = (
        # The values come first: a look-up by name or endpoint is then one descent, however many rows the space has.
        Index(
            "uq_instances_name_space_id",
            "name",
            "space_id",
            unique=True,
            postgresql_where=_not_deleted,
            sqlite_where=_not_deleted,
        ),
        Index(
            "uq_instances_endpoint_key_space_id",
            "endpoint_key",
            "space_id",
            unique=True,
            postgresql_where=_not_deleted,
            sqlite_where=_not_deleted,
        ),
        # The unique indexes are partial; the foreign key's own look-ups and the walk by id in a space need all rows.
        Index("ix_instances_space_id_id", "space_id", "id"),
        # Of those that are synced by themselves, which may be none.
        Index("ix_instances_id_synced", "id", postgresql_where=is_synced, sqlite_where=is_synced),
        # One index for each sort that the list offers; the id breaks ties.
        Index("ix_instances_name_id", "name", "id"),
        Index("ix_instances_created_at_id", "created_at", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    db_type: Mapped[DatabaseType] = mapped_column(enum_column(DatabaseType))
    host: Mapped[str] = mapped_column(String(255))
    port: Mapped[int] = mapped_column(Integer)
    endpoint_key: Mapped[str] = mapped_column(String(400))
    database_name: Mapped[str | None] = mapped_column(String(64))
    description: Mapped[str | None] = mapped_column(String(500))
    environment: Mapped[Environment] = mapped_column(enum_column(Environment), server_default=Environment.PRODUCTION)
    credential_id: Mapped[int | None] = mapped_column(ForeignKey("credentials.id", ondelete="RESTRICT"), index=True)
    sync_policy: Mapped[SyncPolicy] = mapped_column(enum_column(SyncPolicy), server_default=SyncPolicy.OFF)
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    deletion_protection: Mapped[bool] = mapped_column(default=False, server_default=false())
    tls_mode: Mapped[TlsMode | None] = mapped_column(enum_column(TlsMode), doc="Null: MUSTER_SYNC_TLS_MODE")
    tls_ca_file: Mapped[str | None] = mapped_column(String(255), doc="A file's name in MUSTER_TLS_CA_DIR")
    version: Mapped[str | None] = mapped_column(String(100), doc="The server's own version, as last seen")
    last_connected_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    classes_digest: Mapped[str | None] = mapped_column(
        String(64), doc="Of what its accounts' classes follow from, when they were last judged; null: judge them"
    )
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
