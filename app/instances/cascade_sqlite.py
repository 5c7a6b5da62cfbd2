"""The plan as SQLite triggers: one statement locks the file, checks an instance, deletes, counts and writes the audit.

SQLite has no stored procedures, but a trigger is a program. Inserting a request into a temporary table fires the first
trigger, which notes the blockers and decides; noting the decision fires the next, which deletes and counts. All of it
is one INSERT and so one transaction, and runs without a turn of the interpreter in between. The tables and triggers
are temporary: they belong to a connection and never reach the file.

Of a deletion that is part of an operation it also writes the item, after it has made sure that the attempt is the
current one (app.operations.ledger).
"""

from sqlalchemy import ClauseElement, ColumnElement, literal_column
from sqlalchemy.dialects import sqlite

from app.audit.context import CONTEXT_COLUMNS
from app.instances.cascade import Blocker, DeletionMode, InstanceCascadeDeletionPlan, Step

_instance: ColumnElement[int] = literal_column("NEW.instance_id")
_context_columns = ", ".join(CONTEXT_COLUMNS)

REQUEST = f"""
INSERT OR REPLACE INTO deletion_request (
    slot, instance_id, mode, force, revision, expected_blockers, batch_id, moment, operation_id, attempt, position,
    {_context_columns}
) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {", ".join("?" * len(CONTEXT_COLUMNS))})
"""
OUTCOME = """
SELECT
    status, name, revision,
    (SELECT json_group_object(code, row_count) FROM deletion_blockers),
    (SELECT json_group_object(table_name, row_count) FROM deletion_rows WHERE row_count > 0)
FROM deletion_decision
"""


def delete_script(plan: InstanceCascadeDeletionPlan) -> str:
    """What makes the tables and triggers on a connection that lacks them."""
    return _TEMPLATE.format(
        blockers="\n".join(_noted(blocker) for blocker in plan.blockers),
        steps="\n".join(_cleared(step) for step in plan.steps),
    )


def _compiled(statement: ClauseElement) -> str:
    compiled = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    return " ".join(str(compiled).split())


def _noted(blocker: Blocker) -> str:
    modes = ", ".join(f"'{mode.value}'" for mode in sorted(blocker.modes))
    return (
        f"    INSERT INTO deletion_blockers SELECT '{blocker.code}', found, {int(blocker.can_be_forced)} "
        f"FROM (SELECT ({_compiled(blocker.count_for(_instance))}) AS found) "
        f"WHERE found > 0 AND NEW.mode IN ({modes});"
    )


def _cleared(step: Step) -> str:
    statement = _compiled(step.statement(_instance))
    return f"    {statement};\n    INSERT INTO deletion_rows VALUES ('{step.table.name}', changes());"


_TEMPLATE = f"""\
CREATE TEMP TABLE IF NOT EXISTS deletion_request (
    slot INTEGER PRIMARY KEY, instance_id, mode, force, revision, expected_blockers, batch_id, moment,
    operation_id, attempt, position, {_context_columns}
);
CREATE TEMP TABLE IF NOT EXISTS deletion_blockers (code, row_count, can_be_forced);
CREATE TEMP TABLE IF NOT EXISTS deletion_rows (table_name, row_count);
CREATE TEMP TABLE IF NOT EXISTS deletion_decision (instance_id, space_id, name, revision, status);

CREATE TEMP TRIGGER IF NOT EXISTS deletion_requested AFTER INSERT ON deletion_request
BEGIN
    DELETE FROM deletion_blockers;
    DELETE FROM deletion_rows;
    DELETE FROM deletion_decision;
{{blockers}}
    INSERT INTO deletion_decision (status)
    SELECT 'fenced' WHERE NEW.operation_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM operations WHERE id = NEW.operation_id AND attempt = NEW.attempt AND state = 'running'
    );
    INSERT INTO deletion_decision
    SELECT id, space_id, name, revision, CASE
        WHEN NEW.revision <> revision THEN 'changed'
        WHEN NEW.expected_blockers <> (
            SELECT coalesce(group_concat(code), '') FROM (SELECT code FROM deletion_blockers ORDER BY code)
        ) THEN 'changed'
        WHEN EXISTS (SELECT 1 FROM deletion_blockers WHERE NOT (NEW.force AND can_be_forced)) THEN 'blocked'
        ELSE 'deleted'
    END FROM instances WHERE id = NEW.instance_id AND NOT EXISTS (SELECT 1 FROM deletion_decision);
    INSERT INTO audit_events (
        occurred_at, space_id, action, resource_type, resource_id, resource_name, outcome, batch_id,
        {_context_columns}, changes
    ) SELECT
        NEW.moment, space_id, 'instance:delete', 'instance', instance_id, name, 'succeeded', NEW.batch_id,
        {", ".join(f"NEW.{column}" for column in CONTEXT_COLUMNS)}, json_object('mode', NEW.mode, 'rows', json(
            (SELECT json_group_object(table_name, row_count) FROM deletion_rows WHERE row_count > 0)
        ))
    FROM deletion_decision WHERE status = 'deleted';
    INSERT INTO operation_items (operation_id, position, status, instance_id, name, detail)
    SELECT NEW.operation_id, NEW.position, 'deleted', instance_id, name, json_object('rows_deleted', json(
        (SELECT json_group_object(table_name, row_count) FROM deletion_rows WHERE row_count > 0)
    ))
    FROM deletion_decision WHERE status = 'deleted' AND NEW.operation_id IS NOT NULL;
END;

CREATE TEMP TRIGGER IF NOT EXISTS deletion_decided_soft AFTER INSERT ON deletion_decision
WHEN NEW.status = 'deleted' AND (SELECT mode FROM deletion_request) = '{DeletionMode.SOFT.value}'
BEGIN
    UPDATE instances SET
        deleted_at = (SELECT moment FROM deletion_request),
        updated_at = (SELECT moment FROM deletion_request),
        updated_by = (SELECT actor_id FROM deletion_request),
        revision = revision + 1
    WHERE id = NEW.instance_id;
END;

CREATE TEMP TRIGGER IF NOT EXISTS deletion_decided_hard AFTER INSERT ON deletion_decision
WHEN NEW.status = 'deleted' AND (SELECT mode FROM deletion_request) = '{DeletionMode.HARD.value}'
BEGIN
{{steps}}
    DELETE FROM instances WHERE id = NEW.instance_id;
END;
"""
