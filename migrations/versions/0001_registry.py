"""The registry: spaces, instances, credentials, tags, inventory, capacity, syncs and audit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("space_id", ID, nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("resource_type", sa.String(length=32), nullable=False),
        sa.Column("resource_id", ID, nullable=True),
        sa.Column("resource_name", sa.String(length=255), nullable=True),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("changes", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_audit_events_resource_type_resource_id", "audit_events", ["resource_type", "resource_id"], unique=False
    )

    op.create_table(
        "spaces",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spaces")),
        sa.UniqueConstraint("name", name=op.f("uq_spaces_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "account_classifications",
        sa.Column("id", ID, nullable=False),
        sa.Column("space_id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("rule", JSON, nullable=False),
        sa.Column("rule_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="100", nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name=op.f("fk_account_classifications_space_id_spaces"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_classifications")),
        sa.UniqueConstraint("space_id", "name", name=op.f("uq_account_classifications_space_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "credentials",
        sa.Column("id", ID, nullable=False),
        sa.Column("space_id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=True),
        sa.Column("encrypted_password", sa.Text(), nullable=True),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name=op.f("fk_credentials_space_id_spaces"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_credentials_space_id_name", "credentials", ["space_id", "name"], unique=True)

    op.create_table(
        "sync_sessions",
        sa.Column("id", ID, nullable=False),
        sa.Column("space_id", ID, nullable=False),
        sa.Column("kinds", JSON, nullable=False),
        sa.Column("trigger", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name=op.f("fk_sync_sessions_space_id_spaces"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_sessions")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sync_sessions_space_id", "sync_sessions", ["space_id"], unique=False)

    op.create_table(
        "tags",
        sa.Column("id", ID, nullable=False),
        sa.Column("space_id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("color", sa.String(length=7), nullable=True),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name=op.f("fk_tags_space_id_spaces"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_tags_space_id_name", "tags", ["space_id", "name"], unique=True)

    op.create_table(
        "instances",
        sa.Column("id", ID, nullable=False),
        sa.Column("space_id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("db_type", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("endpoint_key", sa.String(length=400), nullable=False),
        sa.Column("database_name", sa.String(length=64), nullable=True),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("environment", sa.String(length=32), server_default="production", nullable=False),
        sa.Column("credential_id", ID, nullable=True),
        sa.Column("sync_policy", sa.String(length=32), server_default="off", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("deletion_protection", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=True),
        sa.Column("last_connected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_by", ID, nullable=True),
        sa.Column("updated_by", ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credentials.id"],
            name=op.f("fk_instances_credential_id_credentials"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name=op.f("fk_instances_space_id_spaces"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_instances_created_at_id", "instances", ["created_at", "id"], unique=False)
    op.create_index("ix_instances_credential_id", "instances", ["credential_id"], unique=False)
    op.create_index("ix_instances_name_id", "instances", ["name", "id"], unique=False)
    op.create_index("ix_instances_space_id_id", "instances", ["space_id", "id"], unique=False)
    op.create_index(
        "uq_instances_endpoint_key_space_id",
        "instances",
        ["endpoint_key", "space_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_instances_name_space_id",
        "instances",
        ["name", "space_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )

    op.create_table(
        "account_change_logs",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), server_default="", nullable=False),
        sa.Column("change_type", sa.String(length=32), nullable=False),
        sa.Column("changes", JSON, nullable=True),
        sa.Column("diff", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_account_change_logs_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_change_logs")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_account_change_logs_instance_id_changed_at",
        "account_change_logs",
        ["instance_id", "changed_at"],
        unique=False,
    )

    op.create_table(
        "database_size_aggregations",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("database_name", sa.String(length=255), nullable=False),
        sa.Column("period", sa.String(length=32), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("average_bytes", sa.BigInteger(), nullable=False),
        sa.Column("maximum_bytes", sa.BigInteger(), nullable=False),
        sa.Column("minimum_bytes", sa.BigInteger(), nullable=False),
        sa.Column("growth_bytes", sa.BigInteger(), nullable=True),
        sa.Column("growth_percent", sa.Float(), nullable=True),
        sa.Column("trend", sa.String(length=32), nullable=False),
        sa.Column("sample_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_database_size_aggregations_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "instance_id", "database_name", "period", "period_start", name=op.f("pk_database_size_aggregations")
        ),
    )
    op.create_index(
        "ix_database_size_aggregations_period_start", "database_size_aggregations", ["period_start"], unique=False
    )

    op.create_table(
        "database_size_stats",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("database_name", sa.String(length=255), nullable=False),
        sa.Column("collected_on", sa.Date(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("data_bytes", sa.BigInteger(), nullable=True),
        sa.Column("index_bytes", sa.BigInteger(), nullable=True),
        sa.Column("collected_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_database_size_stats_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("instance_id", "database_name", "collected_on", name=op.f("pk_database_size_stats")),
    )
    op.create_index("ix_database_size_stats_collected_on", "database_size_stats", ["collected_on"], unique=False)

    op.create_table(
        "database_table_size_stats",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("database_name", sa.String(length=255), nullable=False),
        sa.Column("schema_name", sa.String(length=255), nullable=False),
        sa.Column("table_name", sa.String(length=255), nullable=False),
        sa.Column("collected_on", sa.Date(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("data_bytes", sa.BigInteger(), nullable=True),
        sa.Column("index_bytes", sa.BigInteger(), nullable=True),
        sa.Column("row_estimate", sa.BigInteger(), nullable=True),
        sa.Column("collected_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_database_table_size_stats_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "instance_id",
            "database_name",
            "schema_name",
            "table_name",
            "collected_on",
            name=op.f("pk_database_table_size_stats"),
        ),
    )
    op.create_index(
        "ix_database_table_size_stats_collected_on", "database_table_size_stats", ["collected_on"], unique=False
    )

    op.create_table(
        "instance_accounts",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), server_default="", nullable=False),
        sa.Column("is_superuser", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("can_login", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("is_locked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("authentication_method", sa.String(length=64), nullable=True),
        sa.Column("password_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("connection_limit", sa.Integer(), nullable=True),
        sa.Column("attributes", JSON, nullable=True),
        sa.Column("is_present", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_instance_accounts_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_accounts")),
        sa.UniqueConstraint(
            "instance_id", "username", "host", name=op.f("uq_instance_accounts_instance_id_username_host")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "instance_config_snapshots",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_instance_config_snapshots_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_config_snapshots")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_instance_config_snapshots_instance_id_captured_at",
        "instance_config_snapshots",
        ["instance_id", "captured_at"],
        unique=False,
    )

    op.create_table(
        "instance_databases",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("character_set_name", sa.String(length=64), nullable=True),
        sa.Column("collation_name", sa.String(length=128), nullable=True),
        sa.Column("is_system", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_present", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_instance_databases_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_databases")),
        sa.UniqueConstraint("instance_id", "name", name=op.f("uq_instance_databases_instance_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "instance_size_aggregations",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("period", sa.String(length=32), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("average_bytes", sa.BigInteger(), nullable=False),
        sa.Column("maximum_bytes", sa.BigInteger(), nullable=False),
        sa.Column("minimum_bytes", sa.BigInteger(), nullable=False),
        sa.Column("growth_bytes", sa.BigInteger(), nullable=True),
        sa.Column("growth_percent", sa.Float(), nullable=True),
        sa.Column("trend", sa.String(length=32), nullable=False),
        sa.Column("sample_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_instance_size_aggregations_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("instance_id", "period", "period_start", name=op.f("pk_instance_size_aggregations")),
    )
    op.create_index(
        "ix_instance_size_aggregations_period_start", "instance_size_aggregations", ["period_start"], unique=False
    )

    op.create_table(
        "instance_size_stats",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("collected_on", sa.Date(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("database_count", sa.Integer(), nullable=False),
        sa.Column("collected_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_instance_size_stats_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("instance_id", "collected_on", name=op.f("pk_instance_size_stats")),
    )
    op.create_index("ix_instance_size_stats_collected_on", "instance_size_stats", ["collected_on"], unique=False)

    op.create_table(
        "instance_tags",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("tag_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name=op.f("fk_instance_tags_instance_id_instances"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tag_id"], ["tags.id"], name=op.f("fk_instance_tags_tag_id_tags"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("instance_id", "tag_id", name=op.f("pk_instance_tags")),
    )
    op.create_index("ix_instance_tags_tag_id", "instance_tags", ["tag_id"], unique=False)

    op.create_table(
        "mysql_cluster_instances",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("server_uuid", sa.String(length=36), nullable=True),
        sa.Column("server_id", sa.BigInteger(), nullable=True),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("group_name", sa.String(length=64), nullable=True),
        sa.Column("source_host", sa.String(length=255), nullable=True),
        sa.Column("source_port", sa.Integer(), nullable=True),
        sa.Column("is_read_only", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("replication_state", sa.String(length=64), nullable=True),
        sa.Column("lag_seconds", sa.BigInteger(), nullable=True),
        sa.Column("gtid_executed", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_mysql_cluster_instances_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mysql_cluster_instances")),
        sa.UniqueConstraint("instance_id", name=op.f("uq_mysql_cluster_instances_instance_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sqlserver_cluster_instances",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("group_name", sa.String(length=128), nullable=False),
        sa.Column("replica_server_name", sa.String(length=256), nullable=True),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("availability_mode", sa.String(length=32), nullable=True),
        sa.Column("failover_mode", sa.String(length=32), nullable=True),
        sa.Column("synchronization_health", sa.String(length=32), nullable=True),
        sa.Column("listener", sa.String(length=255), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_sqlserver_cluster_instances_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sqlserver_cluster_instances")),
        sa.UniqueConstraint(
            "instance_id", "group_name", name=op.f("uq_sqlserver_cluster_instances_instance_id_group_name")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sync_instance_records",
        sa.Column("id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("found", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created", sa.Integer(), server_default="0", nullable=False),
        sa.Column("updated", sa.Integer(), server_default="0", nullable=False),
        sa.Column("removed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unchanged", sa.Integer(), server_default="0", nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=True),
        sa.Column("error_kind", sa.String(length=32), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("server_code", sa.String(length=32), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_sync_instance_records_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sync_sessions.id"],
            name=op.f("fk_sync_instance_records_session_id_sync_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_instance_records")),
        sa.UniqueConstraint(
            "session_id", "instance_id", "kind", name=op.f("uq_sync_instance_records_session_id_instance_id_kind")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_sync_instance_records_instance_id_state", "sync_instance_records", ["instance_id", "state"], unique=False
    )

    op.create_table(
        "account_permissions",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("roles", JSON, nullable=True),
        sa.Column("global_privileges", JSON, nullable=True),
        sa.Column("database_privileges", JSON, nullable=True),
        sa.Column("object_privileges", JSON, nullable=True),
        sa.Column("grantable_privileges", JSON, nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["instance_accounts.id"],
            name=op.f("fk_account_permissions_account_id_instance_accounts"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_account_permissions_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_permissions")),
        sa.UniqueConstraint("account_id", name=op.f("uq_account_permissions_account_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_account_permissions_instance_id", "account_permissions", ["instance_id"], unique=False)

    op.create_table(
        "account_classification_assignments",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("permission_id", ID, nullable=False),
        sa.Column("classification_id", ID, nullable=False),
        sa.Column("rule_version", sa.Integer(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["classification_id"],
            ["account_classifications.id"],
            name=op.f("fk_account_classification_assignments_classification_id_account_classifications"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_account_classification_assignments_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["permission_id"],
            ["account_permissions.id"],
            name=op.f("fk_account_classification_assignments_permission_id_account_permissions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_classification_assignments")),
        sa.UniqueConstraint(
            "permission_id",
            "classification_id",
            name=op.f("uq_account_classification_assignments_permission_id_classification_id"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_account_classification_assignments_classification_id",
        "account_classification_assignments",
        ["classification_id"],
        unique=False,
    )
    op.create_index(
        "ix_account_classification_assignments_instance_id",
        "account_classification_assignments",
        ["instance_id"],
        unique=False,
    )

    op.execute("INSERT INTO spaces (name, description) VALUES ('default', 'Where everything goes that names no space')")


def downgrade() -> None:
    op.drop_table("account_classification_assignments")
    op.drop_table("account_permissions")
    op.drop_table("sync_instance_records")
    op.drop_table("sqlserver_cluster_instances")
    op.drop_table("mysql_cluster_instances")
    op.drop_table("instance_tags")
    op.drop_table("instance_size_stats")
    op.drop_table("instance_size_aggregations")
    op.drop_table("instance_databases")
    op.drop_table("instance_config_snapshots")
    op.drop_table("instance_accounts")
    op.drop_table("database_table_size_stats")
    op.drop_table("database_size_stats")
    op.drop_table("database_size_aggregations")
    op.drop_table("account_change_logs")
    op.drop_table("instances")
    op.drop_table("tags")
    op.drop_table("sync_sessions")
    op.drop_table("credentials")
    op.drop_table("account_classifications")
    op.drop_table("spaces")
    op.drop_table("audit_events")
