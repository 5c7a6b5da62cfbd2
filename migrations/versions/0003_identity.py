"""Identity: users, sessions, keys, roles, grants; who did what in the audit trail; quotas and archives of spaces."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

# As app.access.permissions declares them; a test compares the two.
PERMISSIONS = {
    "instance:read": "See instances, lists of them and statistics",
    "instance:create": "Register instances, one by one or by import",
    "instance:update": "Change, tag and restore instances",
    "instance:delete": "Delete instances softly, which can be undone",
    "instance:purge": "Delete instances for good, with every row that refers to them",
    "instance:export": "Download instances as a file",
    "tag:read": "See tags",
    "tag:create": "Make tags",
    "tag:update": "Change tags",
    "tag:delete": "Delete tags",
    "credential:read": "See credentials, though never their passwords",
    "credential:create": "Make credentials",
    "credential:update": "Change credentials and their passwords",
    "credential:delete": "Delete credentials",
    "space:read": "See spaces",
    "space:create": "Make spaces",
    "space:update": "Change spaces, their quotas, and archive them",
    "space:delete": "Delete spaces with everything in them",
    "member:read": "See who holds which role in a space",
    "member:update": "Give and take roles in a space",
    "user:read": "See users",
    "user:create": "Make users",
    "user:update": "Change users, disable them, and give them roles",
    "user:delete": "Delete users with everything they own",
    "role:read": "See roles and permissions",
    "role:create": "Make roles",
    "role:update": "Change roles",
    "role:delete": "Delete roles",
    "audit:read": "Read the audit trail",
    "operation:read": "See one's own operations",
    "operation:read_all": "See everybody's operations",
    "operation:cancel": "Cancel, resume and retry operations",
    "operation:delete": "Delete operations with their results",
    "backtest:delete": "Delete backtest tasks with their results",
    "maintenance:read": "See rows that were left behind",
    "maintenance:clean": "Remove rows that were left behind",
}
BUILT_IN_ROLES = {
    "admin": ("Everything, everywhere", tuple(PERMISSIONS)),
    "operator": (
        "The daily work: registers, changes and softly deletes instances",
        (
            "instance:read",
            "instance:create",
            "instance:update",
            "instance:delete",
            "instance:export",
            "tag:read",
            "tag:create",
            "tag:update",
            "tag:delete",
            "credential:read",
            "credential:create",
            "credential:update",
            "credential:delete",
            "space:read",
            "member:read",
            "operation:read",
            "operation:cancel",
            "operation:delete",
        ),
    ),
    "viewer": (
        "Sees, and changes nothing",
        (
            "instance:read",
            "instance:export",
            "tag:read",
            "space:read",
            "operation:read",
        ),
    ),
}

# Where a user's id stands without a foreign key (see app.models.base.Traced).
TRACED_TABLES = ("credentials", "instances", "roles", "spaces", "tags", "users")
FORGET_USER = "\n".join(
    f"    UPDATE {table} SET {column} = NULL WHERE {column} = OLD.id;"
    for table in TRACED_TABLES
    for column in ("created_by", "updated_by")
)

# As `python -m app.instances.cascade_postgresql` printed it; a test compares it with the plan.
DELETE_INSTANCE = """\
CREATE OR REPLACE FUNCTION muster_delete_instance(
    p_instance_id bigint,
    p_mode text,
    p_force boolean,
    p_revision integer,
    p_expected_blockers text[],
    p_durable boolean,
    p_batch_id uuid,
    p_context jsonb
) RETURNS jsonb LANGUAGE plpgsql AS $function$
DECLARE
    v_instance record;
    v_blockers jsonb;
    v_rows jsonb := '{}';
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
BEGIN
    -- The caller makes the whole batch durable with its last commit; a single deletion is its own last one.
    IF NOT p_durable THEN PERFORM set_config('synchronous_commit', 'off', true); END IF;
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
    IF p_mode = 'soft' THEN
        UPDATE instances
        SET deleted_at = clock_timestamp(), updated_at = clock_timestamp(), revision = revision + 1,
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
        DELETE FROM instance_config_snapshots WHERE instance_config_snapshots.instance_id = p_instance_id;
        GET DIAGNOSTICS n_11 = ROW_COUNT;
        DELETE FROM instance_tags WHERE instance_tags.instance_id = p_instance_id;
        GET DIAGNOSTICS n_12 = ROW_COUNT;
        DELETE FROM mysql_cluster_instances WHERE mysql_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_13 = ROW_COUNT;
        DELETE FROM sqlserver_cluster_instances WHERE sqlserver_cluster_instances.instance_id = p_instance_id;
        GET DIAGNOSTICS n_14 = ROW_COUNT;
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
            'instance_config_snapshots', NULLIF(n_11, 0),
            'instance_tags', NULLIF(n_12, 0),
            'mysql_cluster_instances', NULLIF(n_13, 0),
            'sqlserver_cluster_instances', NULLIF(n_14, 0)
        ));
    END IF;
    INSERT INTO audit_events (
        occurred_at, space_id, action, resource_type, resource_id, resource_name, outcome, batch_id, changes,
        actor_id, actor_name, api_key_prefix, client_address, method, path, status, duration_ms, request_id
    ) SELECT
        clock_timestamp(), v_instance.space_id, 'instance:delete', 'instance', p_instance_id, v_instance.name,
        'succeeded', p_batch_id, jsonb_build_object('mode', p_mode, 'rows', v_rows),
        actor_id, actor_name, api_key_prefix, client_address, method, path, status, duration_ms, request_id
    FROM jsonb_populate_record(NULL::audit_events, p_context);
    RETURN jsonb_build_object('status', 'deleted', 'name', v_instance.name, 'rows', v_rows);
END
$function$
"""
DROP_DELETE_INSTANCE = "DROP FUNCTION muster_delete_instance"


def upgrade() -> None:
    _make_tables()
    _add_columns()
    _seed()
    _make_programs()


def _make_tables() -> None:
    op.create_table(
        "audit_anchors",
        sa.Column("id", ID, nullable=False),
        sa.Column("sequence", ID, nullable=False),
        sa.Column("seal", sa.String(length=64), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("anchor_seal", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_anchors")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "permissions",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_permissions")),
    )
    op.create_table(
        "roles",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=True),
        sa.Column("is_builtin", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_by", ID, nullable=True),
        sa.Column("updated_by", ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
        sa.UniqueConstraint("name", name=op.f("uq_roles_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("username", sa.String(length=100), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("username", "address", name=op.f("pk_sign_in_failures")),
    )
    op.create_index(op.f("ix_sign_in_failures_first_failed_at"), "sign_in_failures", ["first_failed_at"], unique=False)

    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("username", sa.String(length=100), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("display_name", sa.String(length=100), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("password_changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_by", ID, nullable=True),
        sa.Column("updated_by", ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_api_keys_user_id_name", "api_keys", ["user_id", "name"], unique=True)

    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.String(length=32), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", JSON, nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)

    op.create_table(
        "notifications",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("body", sa.String(length=2000), nullable=True),
        sa.Column("resource_type", sa.String(length=32), nullable=True),
        sa.Column("resource_id", ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_notifications_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notifications_user_id_id", "notifications", ["user_id", "id"], unique=False)

    op.create_table(
        "role_grants",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("role_id", ID, nullable=False),
        sa.Column("space_id", ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], name=op.f("fk_role_grants_role_id_roles"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name=op.f("fk_role_grants_space_id_spaces"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_role_grants_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_grants")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_role_grants_role_id"), "role_grants", ["role_id"], unique=False)
    op.create_index(op.f("ix_role_grants_space_id"), "role_grants", ["space_id"], unique=False)
    op.create_index(
        "uq_role_grants_user_id_role_id_everywhere",
        "role_grants",
        ["user_id", "role_id"],
        unique=True,
        postgresql_where=sa.text("space_id IS NULL"),
        sqlite_where=sa.text("space_id IS NULL"),
    )
    op.create_index(
        "uq_role_grants_user_id_space_id_role_id", "role_grants", ["user_id", "space_id", "role_id"], unique=True
    )

    op.create_table(
        "role_permissions",
        sa.Column("role_id", ID, nullable=False),
        sa.Column("permission", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["permission"],
            ["permissions.name"],
            name=op.f("fk_role_permissions_permission_permissions"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], name=op.f("fk_role_permissions_role_id_roles"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("role_id", "permission", name=op.f("pk_role_permissions")),
    )
    op.create_index(op.f("ix_role_permissions_permission"), "role_permissions", ["permission"], unique=False)

    op.create_table(
        "user_sessions",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_sessions_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_sessions")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_user_sessions_expires_at"), "user_sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_user_sessions_user_id"), "user_sessions", ["user_id"], unique=False)

    op.create_table(
        "refresh_tokens",
        sa.Column("id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["user_sessions.id"],
            name=op.f("fk_refresh_tokens_session_id_user_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refresh_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_refresh_tokens_token_hash")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_refresh_tokens_session_id"), "refresh_tokens", ["session_id"], unique=False)


def _add_columns() -> None:
    op.add_column("audit_events", sa.Column("actor_id", ID, nullable=True))
    op.add_column("audit_events", sa.Column("actor_name", sa.String(length=100), nullable=True))
    op.add_column("audit_events", sa.Column("api_key_prefix", sa.String(length=16), nullable=True))
    op.add_column("audit_events", sa.Column("client_address", sa.String(length=64), nullable=True))
    op.add_column("audit_events", sa.Column("method", sa.String(length=16), nullable=True))
    op.add_column("audit_events", sa.Column("path", sa.String(length=500), nullable=True))
    op.add_column("audit_events", sa.Column("status", sa.Integer(), nullable=True))
    op.add_column("audit_events", sa.Column("duration_ms", sa.Integer(), nullable=True))
    op.add_column("audit_events", sa.Column("sequence", ID, nullable=True))
    op.add_column("audit_events", sa.Column("seal", sa.String(length=64), nullable=True))
    op.create_index(
        "ix_audit_events_id_unsealed",
        "audit_events",
        ["id"],
        unique=False,
        postgresql_where=sa.text("sequence IS NULL"),
        sqlite_where=sa.text("sequence IS NULL"),
    )
    op.create_index(
        "uq_audit_events_sequence",
        "audit_events",
        ["sequence"],
        unique=True,
        postgresql_where=sa.text("sequence IS NOT NULL"),
        sqlite_where=sa.text("sequence IS NOT NULL"),
    )

    op.add_column("credentials", sa.Column("created_by", ID, nullable=True))
    op.add_column("credentials", sa.Column("updated_by", ID, nullable=True))

    op.add_column("spaces", sa.Column("quota_instances", sa.Integer(), nullable=True))
    op.add_column("spaces", sa.Column("quota_rows", sa.Integer(), nullable=True))
    op.add_column("spaces", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("spaces", sa.Column("revision", sa.Integer(), server_default="1", nullable=False))
    op.add_column("spaces", sa.Column("created_by", ID, nullable=True))
    op.add_column("spaces", sa.Column("updated_by", ID, nullable=True))

    op.add_column("tags", sa.Column("created_by", ID, nullable=True))
    op.add_column("tags", sa.Column("updated_by", ID, nullable=True))


def _seed() -> None:
    connection = op.get_bind()
    permissions = sa.table("permissions", sa.column("name"), sa.column("description"))
    roles = sa.table("roles", sa.column("id", ID), sa.column("name"), sa.column("description"), sa.column("is_builtin"))
    held = sa.table("role_permissions", sa.column("role_id"), sa.column("permission"))
    op.bulk_insert(permissions, [{"name": name, "description": text} for name, text in PERMISSIONS.items()])
    for name, (description, names) in BUILT_IN_ROLES.items():
        row = {"name": name, "description": description, "is_builtin": True}
        role_id = connection.execute(sa.insert(roles).values(row).returning(roles.c.id)).scalar_one()
        op.bulk_insert(held, [{"role_id": role_id, "permission": each} for each in names])


def _make_programs() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        trigger = f"CREATE TRIGGER muster_forget_user AFTER DELETE ON users BEGIN\n{FORGET_USER}\nEND"
        connection.exec_driver_sql(trigger)
        return
    connection.exec_driver_sql(
        "CREATE FUNCTION muster_forget_user() RETURNS trigger LANGUAGE plpgsql AS $function$\n"
        f"BEGIN\n{FORGET_USER}\n    RETURN NULL;\nEND\n$function$"
    )
    connection.exec_driver_sql(
        "CREATE TRIGGER muster_forget_user AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION muster_forget_user()"
    )
    # Its parameters differ, so it is not replaced by being created.
    connection.exec_driver_sql(DROP_DELETE_INSTANCE)
    connection.exec_driver_sql(DELETE_INSTANCE)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(DROP_DELETE_INSTANCE)
        connection.exec_driver_sql(op.get_context().script.get_revision("0002").module.DELETE_INSTANCE)
    connection.exec_driver_sql(
        "DROP TRIGGER muster_forget_user" + (" ON users" if connection.dialect.name == "postgresql" else "")
    )
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP FUNCTION muster_forget_user")
    op.drop_column("tags", "updated_by")
    op.drop_column("tags", "created_by")

    op.drop_column("spaces", "updated_by")
    op.drop_column("spaces", "created_by")
    op.drop_column("spaces", "revision")
    op.drop_column("spaces", "archived_at")
    op.drop_column("spaces", "quota_rows")
    op.drop_column("spaces", "quota_instances")

    op.drop_column("credentials", "updated_by")
    op.drop_column("credentials", "created_by")

    op.drop_index("uq_audit_events_sequence", "audit_events")
    op.drop_index("ix_audit_events_id_unsealed", "audit_events")
    op.drop_column("audit_events", "seal")
    op.drop_column("audit_events", "sequence")
    op.drop_column("audit_events", "duration_ms")
    op.drop_column("audit_events", "status")
    op.drop_column("audit_events", "path")
    op.drop_column("audit_events", "method")
    op.drop_column("audit_events", "client_address")
    op.drop_column("audit_events", "api_key_prefix")
    op.drop_column("audit_events", "actor_name")
    op.drop_column("audit_events", "actor_id")

    op.drop_table("refresh_tokens")

    op.drop_table("user_sessions")

    op.drop_table("role_permissions")

    op.drop_table("role_grants")

    op.drop_table("notifications")

    op.drop_table("idempotency_keys")

    op.drop_table("api_keys")
    op.drop_table("users")

    op.drop_table("sign_in_failures")
    op.drop_table("roles")
    op.drop_table("permissions")
    op.drop_table("audit_anchors")
