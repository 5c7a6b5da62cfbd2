"""Syncs: schedules, when policies are due, endpoints that cannot be reached, places in clusters of more types."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
MOMENT = sa.DateTime(timezone=True)
WAITING = sa.text("NOT paused")
SYNCED = sa.text("sync_policy <> 'off' AND is_active AND credential_id IS NOT NULL AND deleted_at IS NULL")
UNFINISHED = sa.text("state IN ('queued', 'running')")
# As app.access.permissions declares them; a test compares the two.
PERMISSIONS = {
    "sync:run": "Connect to servers: test connections, and sync what is known of them",
    "schedule:read": "See schedules of syncs",
    "schedule:create": "Make schedules of syncs",
    "schedule:update": "Change, pause and run schedules of syncs",
    "schedule:delete": "Delete schedules of syncs",
    "classification:read": "See the rules by which accounts are classified, and preview them",
    "classification:create": "Make rules by which accounts are classified",
    "classification:update": "Change rules by which accounts are classified",
    "classification:delete": "Delete rules by which accounts are classified",
}
BUILT_IN_ROLES = {
    "admin": (
        "sync:run",
        "schedule:read",
        "schedule:create",
        "schedule:update",
        "schedule:delete",
        "classification:read",
        "classification:create",
        "classification:update",
        "classification:delete",
    ),
    "operator": (
        "sync:run",
        "schedule:read",
        "schedule:create",
        "schedule:update",
        "schedule:delete",
        "classification:read",
        "classification:create",
        "classification:update",
        "classification:delete",
    ),
    "viewer": (
        "schedule:read",
        "classification:read",
    ),
}
# As app.instances.cascade_postgresql makes it; a test compares the two.
DELETE_INSTANCE = """\
CREATE OR REPLACE FUNCTION muster_delete_instance(
    p_instance_id bigint,
    p_mode text,
    p_force boolean,
    p_revision integer,
    p_expected_blockers text[],
    p_durable boolean,
    p_batch_id uuid,
    p_context jsonb,
    p_operation_id bigint DEFAULT NULL,
    p_attempt integer DEFAULT NULL,
    p_position integer DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $function$
DECLARE
    v_instance record;
    v_blockers jsonb;
    v_rows jsonb := '{}';
    v_moment timestamptz;
    n_0 integer := 0;
    n_1 integer := 0;
    n_2 integer := 0;
    n_3 integer := 0;
    n_4 integer := 0;
    n_5 integer := 0;
    n_6 integer := 0;
    n_7 integer := 0;
    n_8 integer := 0;
    n_9 integer := 0;
    n_10 integer := 0;
    n_11 integer := 0;
    n_12 integer := 0;
    n_13 integer := 0;
    n_14 integer := 0;
    n_15 integer := 0;
    n_16 integer := 0;
    n_17 integer := 0;
    n_18 integer := 0;
    n_19 integer := 0;
BEGIN
    -- The caller makes the whole batch durable with its last commit; a single deletion is its own last one.
    IF NOT p_durable THEN PERFORM set_config('synchronous_commit', 'off', true); END IF;
    IF p_operation_id IS NOT NULL THEN
        -- Shared by the operation's other connections; whoever takes it over waits for all of them.
        PERFORM 1 FROM operations WHERE id = p_operation_id AND attempt = p_attempt AND state = 'running' FOR KEY SHARE;
        IF NOT FOUND THEN RETURN jsonb_build_object('status', 'fenced'); END IF;
    END IF;
    SELECT id, space_id, name, revision INTO v_instance FROM instances WHERE id = p_instance_id FOR UPDATE;
    IF NOT FOUND THEN RETURN jsonb_build_object('status', 'missing'); END IF;
    -- Only now, with the instance locked: a statement sees what was committed before it began.
    v_blockers := jsonb_strip_nulls(jsonb_build_object(
        'deletion_protected', NULLIF((SELECT count(*) AS count_1 FROM instances WHERE instances.id = p_instance_id AND instances.deletion_protection IS true), 0),
        'sync_running', NULLIF((SELECT count(*) AS count_1 FROM sync_instance_records WHERE sync_instance_records.instance_id = p_instance_id AND sync_instance_records.state = 'running'), 0),
        'already_deleted', CASE WHEN p_mode IN ('soft') THEN NULLIF((SELECT count(*) AS count_1 FROM instances WHERE instances.id = p_instance_id AND instances.deleted_at IS NOT NULL), 0) END
    ));
    IF p_revision <> v_instance.revision
        OR p_expected_blockers <> ARRAY(SELECT jsonb_object_keys(v_blockers) COLLATE "C" ORDER BY 1) THEN
        RETURN jsonb_build_object(
            'status', 'changed', 'name', v_instance.name, 'revision', v_instance.revision, 'blockers', v_blockers
        );
    END IF;
    IF v_blockers <> '{}' AND NOT (p_force AND v_blockers - ARRAY['sync_running', 'already_deleted']::text[] = '{}') THEN
        RETURN jsonb_build_object('status', 'blocked', 'name', v_instance.name, 'blockers', v_blockers);
    END IF;
    v_moment := clock_timestamp();
    IF p_mode = 'soft' THEN
        UPDATE instances
        SET deleted_at = v_moment, updated_at = v_moment, revision = revision + 1,
            updated_by = (p_context->>'actor_id')::bigint
        WHERE id = p_instance_id;
    ELSE
        DELETE FROM account_classification_assignments WHERE account_classification_assignments.instance_id = p_instance_id;
        GET DIAGNOSTICS n_0 = ROW_COUNT;
        DELETE FROM account_permissions WHERE account_permissions.instance_id = p_instance_id;
        GET DIAGNOSTICS n_1 = ROW_COUNT;
        DELETE FROM instance_accounts WHERE instance_accounts.instance_id = p_instance_id;
        GET DIAGNOSTICS n_2 = ROW_COUNT;
        DELETE FROM account_change_logs WHERE account_change_logs.instance_id = p_instance_id;
        GET DIAGNOSTICS n_3 = ROW_COUNT;
        DELETE FROM instance_databases WHERE instance_databases.instance_id = p_instance_id;
        GET DIAGNOSTICS n_4 = ROW_COUNT;
        DELETE FROM database_table_size_stats WHERE database_table_size_stats.instance_id = p_instance_id;
        GET DIAGNOSTICS n_5 = ROW_COUNT;
        DELETE FROM database_size_stats WHERE database_size_stats.instance_id = p_instance_id;
        GET DIAGNOSTICS n_6 = ROW_COUNT;
        DELETE FROM database_size_aggregations WHERE database_size_aggregations.instance_id = p_instance_id;
        GET DIAGNOSTICS n_7 = ROW_COUNT;
        DELETE FROM instance_size_stats WHERE instance_size_stats.instance_id = p_instance_id;
        GET DIAGNOSTICS n_8 = ROW_COUNT;
        DELETE FROM instance_size_aggregations WHERE instance_size_aggregations.instance_id = p_instance_id;
        GET DIAGNOSTICS n_9 = ROW_COUNT;
        DELETE FROM sync_instance_records WHERE sync_instance_records.instance_id = p_instance_id;
        GET DIAGNOSTICS n_10 = ROW_COUNT;
        DELETE FROM instance_sync_plans WHERE instance_sync_plans.instance_id = p_instance_id;
        GET DIAGNOSTICS n_11 = ROW_COUNT;
        DELETE FROM instance_config_snapshots WHERE instance_config_snapshots.instance_id = p_instance_id;
        GET DIAGNOSTICS n_12 = ROW_COUNT;
        DELETE FROM instance_tags WHERE instance_tags.instance_id = p_instance_id;
        GET DIAGNOSTICS n_13 = ROW_COUNT;
        DELETE FROM mysql_cluster_instances WHERE mysql_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_14 = ROW_COUNT;
        DELETE FROM postgresql_cluster_instances WHERE postgresql_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_15 = ROW_COUNT;
        DELETE FROM sqlserver_cluster_instances WHERE sqlserver_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_16 = ROW_COUNT;
        DELETE FROM oracle_cluster_instances WHERE oracle_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_17 = ROW_COUNT;
        DELETE FROM redis_cluster_instances WHERE redis_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_18 = ROW_COUNT;
        DELETE FROM mongodb_cluster_instances WHERE mongodb_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_19 = ROW_COUNT;
        DELETE FROM instances WHERE id = p_instance_id;
        v_rows := jsonb_strip_nulls(jsonb_build_object(
            'account_classification_assignments', NULLIF(n_0, 0),
            'account_permissions', NULLIF(n_1, 0),
            'instance_accounts', NULLIF(n_2, 0),
            'account_change_logs', NULLIF(n_3, 0),
            'instance_databases', NULLIF(n_4, 0),
            'database_table_size_stats', NULLIF(n_5, 0),
            'database_size_stats', NULLIF(n_6, 0),
            'database_size_aggregations', NULLIF(n_7, 0),
            'instance_size_stats', NULLIF(n_8, 0),
            'instance_size_aggregations', NULLIF(n_9, 0),
            'sync_instance_records', NULLIF(n_10, 0),
            'instance_sync_plans', NULLIF(n_11, 0),
            'instance_config_snapshots', NULLIF(n_12, 0),
            'instance_tags', NULLIF(n_13, 0),
            'mysql_cluster_instances', NULLIF(n_14, 0),
            'postgresql_cluster_instances', NULLIF(n_15, 0),
            'sqlserver_cluster_instances', NULLIF(n_16, 0),
            'oracle_cluster_instances', NULLIF(n_17, 0),
            'redis_cluster_instances', NULLIF(n_18, 0),
            'mongodb_cluster_instances', NULLIF(n_19, 0)
        ));
    END IF;
    INSERT INTO audit_events (
        occurred_at, space_id, action, resource_type, resource_id, resource_name, outcome, batch_id, changes,
        actor_id, actor_name, api_key_prefix, client_address, method, path, status, duration_ms, request_id
    ) SELECT
        v_moment, v_instance.space_id, 'instance:delete', 'instance', p_instance_id, v_instance.name,
        'succeeded', p_batch_id, jsonb_build_object('mode', p_mode, 'rows', v_rows),
        actor_id, actor_name, api_key_prefix, client_address, method, path, status, duration_ms, request_id
    FROM jsonb_populate_record(NULL::audit_events, p_context);
    IF p_operation_id IS NOT NULL THEN
        INSERT INTO operation_items (operation_id, position, status, instance_id, name, detail) VALUES (
            p_operation_id, p_position, 'deleted', p_instance_id, v_instance.name,
            jsonb_build_object('rows_deleted', v_rows)
        );
    END IF;
    RETURN jsonb_build_object('status', 'deleted', 'name', v_instance.name, 'rows', v_rows);
END
$function$
"""


def upgrade() -> None:
    _create_tables()
    _create_cluster_tables()
    op.add_column("instances", sa.Column("tls_mode", sa.String(32)))
    op.add_column("instances", sa.Column("tls_ca_file", sa.String(255)))
    op.create_index("ix_instances_id_synced", "instances", ["id"], postgresql_where=SYNCED, sqlite_where=SYNCED)
    op.add_column("account_classifications", sa.Column("revision", sa.Integer(), server_default="1", nullable=False))
    op.add_column("sync_instance_records", sa.Column("unreachable_since", MOMENT))
    op.add_column("sync_sessions", sa.Column("operation_id", ID))
    op.create_index(op.f("ix_sync_sessions_operation_id"), "sync_sessions", ["operation_id"])
    _let_operations_be_the_services(True)
    _add_permissions()
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(DELETE_INSTANCE)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(op.get_context().script.get_revision("0004").module.DELETE_INSTANCE)
    _remove_permissions()
    # SQLite's foreign keys are off while a table is copied.
    op.execute("DELETE FROM operation_items WHERE operation_id IN (SELECT id FROM operations WHERE user_id IS NULL)")
    op.execute("DELETE FROM operations WHERE user_id IS NULL")
    # What this version knows no kind of.
    op.execute(
        "DELETE FROM operation_items WHERE operation_id IN"
        " (SELECT id FROM operations WHERE kind IN ('instance_sync', 'connection_test'))"
    )
    op.execute("DELETE FROM operations WHERE kind IN ('instance_sync', 'connection_test')")
    _let_operations_be_the_services(False)
    op.drop_index(op.f("ix_sync_sessions_operation_id"), "sync_sessions")
    op.drop_index("ix_instances_id_synced", "instances")
    for table, column in (
        ("sync_sessions", "operation_id"),
        ("sync_instance_records", "unreachable_since"),
        ("account_classifications", "revision"),
        ("instances", "tls_ca_file"),
        ("instances", "tls_mode"),
    ):
        op.drop_column(table, column)
    for table in (
        "mongodb_cluster_instances",
        "oracle_cluster_instances",
        "postgresql_cluster_instances",
        "redis_cluster_instances",
        "sync_endpoints",
        "schedules",
        "account_classification_versions",
        "instance_sync_plans",
    ):
        op.drop_table(table)


def _let_operations_be_the_services(are: bool) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("operations", "user_id", nullable=are)
        return
    # Copied by hand: Alembic's own copy has the constraints in another order each time. Foreign keys are off meanwhile.
    columns = (
        op.get_bind().exec_driver_sql("SELECT group_concat(name, ', ') FROM pragma_table_info('operations')").scalar()
    )
    _create_operations_as("new_operations", owner_is_optional=are)
    op.execute(f"INSERT INTO new_operations ({columns}) SELECT {columns} FROM operations")
    # No id is given out twice, not even of operations that are gone.
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'new_operations'")
    op.execute("UPDATE sqlite_sequence SET name = 'new_operations' WHERE name = 'operations'")
    op.drop_table("operations")
    op.rename_table("new_operations", "operations")
    _index_operations()


def _create_operations_as(name: str, *, owner_is_optional: bool) -> None:
    op.create_table(
        name,
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("user_id", ID, nullable=owner_is_optional),
        sa.Column("space_id", ID),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("origin", JSON, nullable=False),
        sa.Column("upload_id", sa.String(32)),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("counts", JSON, nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deaths", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("error", JSON),
        sa.Column("started_at", MOMENT),
        sa.Column("attempt_started_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_operations_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_operations_upload_id_uploads"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        sqlite_autoincrement=True,
    )


def _index_operations() -> None:
    op.create_index("ix_operations_user_id_id", "operations", ["user_id", "id"])
    op.create_index(op.f("ix_operations_upload_id"), "operations", ["upload_id"])
    op.create_index(op.f("ix_operations_finished_at"), "operations", ["finished_at"])
    op.create_index(
        "ix_operations_id_unfinished", "operations", ["id"], postgresql_where=UNFINISHED, sqlite_where=UNFINISHED
    )


def _add_permissions() -> None:
    permissions = sa.table("permissions", sa.column("name"), sa.column("description"))
    op.bulk_insert(permissions, [{"name": name, "description": text} for name, text in PERMISSIONS.items()])
    roles = sa.table("roles", sa.column("id"), sa.column("name"))
    held = sa.table("role_permissions", sa.column("role_id"), sa.column("permission"))
    connection = op.get_bind()
    for role, names in BUILT_IN_ROLES.items():
        role_id = connection.scalar(sa.select(roles.c.id).where(roles.c.name == role))
        op.bulk_insert(held, [{"role_id": role_id, "permission": each} for each in names])


def _remove_permissions() -> None:
    for table, column in (("role_permissions", "permission"), ("permissions", "name")):
        named = sa.column(column)
        op.execute(sa.delete(sa.table(table, named)).where(named.in_(list(PERMISSIONS))))


def _create_tables() -> None:
    op.create_table(
        "sync_endpoints",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("port", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("unreachable_since", MOMENT, nullable=False),
        sa.Column("retry_at", MOMENT),
        sa.Column("error_kind", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("host", "port", name=op.f("pk_sync_endpoints")),
    )
    op.create_table(
        "schedules",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("cron", sa.String(100), nullable=False),
        sa.Column("timezone", sa.String(64), nullable=False),
        sa.Column("kinds", JSON, nullable=False),
        sa.Column("filter", JSON, nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("next_run_at", MOMENT),
        sa.Column("last_run_at", MOMENT),
        sa.Column("last_operation_id", ID),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("space_id", ID, nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", MOMENT, server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name=op.f("fk_schedules_space_id_spaces"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("space_id", "name", name=op.f("uq_schedules_space_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_schedules_next_run_at", "schedules", ["next_run_at"], postgresql_where=WAITING, sqlite_where=WAITING
    )

    op.create_table(
        "account_classification_versions",
        sa.Column("classification_id", ID, nullable=False),
        sa.Column("rule_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rule", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("space_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["classification_id"],
            ["account_classifications.id"],
            name=op.f("fk_account_classification_versions_classification_id_account_classifications"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["space_id"],
            ["spaces.id"],
            name=op.f("fk_account_classification_versions_space_id_spaces"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("classification_id", "rule_version", name=op.f("pk_account_classification_versions")),
    )
    op.create_index("ix_account_classification_versions_space_id", "account_classification_versions", ["space_id"])
    op.create_table(
        "instance_sync_plans",
        sa.Column("instance_id", ID, autoincrement=False, nullable=False),
        sa.Column("policy", sa.String(32), nullable=False),
        sa.Column("next_sync_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_instance_sync_plans_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instance_sync_plans")),
    )


def _create_cluster_tables() -> None:
    op.create_table(
        "mongodb_cluster_instances",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("replica_set_name", sa.String(128)),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("member_name", sa.String(255)),
        sa.Column("source_host", sa.String(255)),
        sa.Column("source_port", sa.Integer()),
        sa.Column("replication_state", sa.String(64)),
        sa.Column("lag_seconds", sa.BigInteger()),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_mongodb_cluster_instances_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mongodb_cluster_instances")),
        sa.UniqueConstraint("instance_id", name=op.f("uq_mongodb_cluster_instances_instance_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "oracle_cluster_instances",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("database_unique_name", sa.String(128)),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("open_mode", sa.String(32)),
        sa.Column("protection_mode", sa.String(32)),
        sa.Column("instance_name", sa.String(128)),
        sa.Column("instance_number", sa.Integer()),
        sa.Column("lag_seconds", sa.BigInteger()),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_oracle_cluster_instances_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oracle_cluster_instances")),
        sa.UniqueConstraint("instance_id", name=op.f("uq_oracle_cluster_instances_instance_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "postgresql_cluster_instances",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("system_identifier", sa.String(32)),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("timeline", sa.Integer()),
        sa.Column("source_host", sa.String(255)),
        sa.Column("source_port", sa.Integer()),
        sa.Column("replication_state", sa.String(64)),
        sa.Column("lag_seconds", sa.BigInteger()),
        sa.Column("replica_count", sa.Integer()),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_postgresql_cluster_instances_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_postgresql_cluster_instances")),
        sa.UniqueConstraint("instance_id", name=op.f("uq_postgresql_cluster_instances_instance_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "redis_cluster_instances",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("mode", sa.String(32), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("node_id", sa.String(40)),
        sa.Column("replication_id", sa.String(40)),
        sa.Column("source_host", sa.String(255)),
        sa.Column("source_port", sa.Integer()),
        sa.Column("replication_state", sa.String(64)),
        sa.Column("lag_seconds", sa.BigInteger()),
        sa.Column("replica_count", sa.Integer()),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["instances.id"],
            name=op.f("fk_redis_cluster_instances_instance_id_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redis_cluster_instances")),
        sa.UniqueConstraint("instance_id", name=op.f("uq_redis_cluster_instances_instance_id")),
        sqlite_autoincrement=True,
    )
