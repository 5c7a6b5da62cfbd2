"""The function that deletes one instance, on PostgreSQL; SQLite's triggers are temporary and need no migration."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

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
    p_request_id text
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
        SET deleted_at = clock_timestamp(), updated_at = clock_timestamp(), revision = revision + 1
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
        occurred_at, space_id, action, resource_type, resource_id, resource_name, outcome, batch_id, request_id, changes
    ) VALUES (
        clock_timestamp(), v_instance.space_id, 'instance:delete', 'instance', p_instance_id, v_instance.name,
        'succeeded', p_batch_id, p_request_id, jsonb_build_object('mode', p_mode, 'rows', v_rows)
    );
    RETURN jsonb_build_object('status', 'deleted', 'name', v_instance.name, 'rows', v_rows);
END
$function$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(DELETE_INSTANCE)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION muster_delete_instance")
