"""The plan as a PL/pgSQL function: one round trip locks an instance, checks, deletes, counts and writes the audit.

Of a deletion that is part of an operation it also writes the item, after it has made sure that the attempt is the
current one, and stays so (app.operations.ledger).

The function is installed by a migration, which carries its text; `installed_function_matches` tells at start whether
that text is still what the plan says. Print it for a new migration with
`python -m app.instances.cascade_postgresql`.
"""

import sys
from functools import cache
from textwrap import indent

from sqlalchemy import ClauseElement, ColumnElement, literal_column, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.context import CONTEXT_COLUMNS
from app.instances.cascade import Blocker, DeletionMode, InstanceCascadeDeletionPlan, Step, plan

FUNCTION_NAME = "muster_delete_instance"
_instance: ColumnElement[int] = literal_column("p_instance_id")


@cache
def delete_function(plan: InstanceCascadeDeletionPlan) -> str:
    """CREATE OR REPLACE FUNCTION … for the plan; the same plan gives the same text."""
    counters = {step.table.name: f"n_{number}" for number, step in enumerate(plan.steps)}
    return _TEMPLATE.format(
        name=FUNCTION_NAME,
        declarations="\n".join(f"    {counter} integer := 0;" for counter in counters.values()),
        blockers=",\n".join(f"        '{each.code}', {_blocker_count(each)}" for each in plan.blockers),
        forced=", ".join(f"'{blocker.code}'" for blocker in plan.blockers if blocker.can_be_forced),
        steps="\n".join(_cleared(step, counters[step.table.name]) for step in plan.steps),
        context_columns=", ".join(CONTEXT_COLUMNS),
        counts=",\n".join(f"            '{table}', NULLIF({counter}, 0)" for table, counter in counters.items()),
    )


def _compiled(statement: ClauseElement) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return " ".join(str(compiled).split())


def _blocker_count(blocker: Blocker) -> str:
    """An expression for how many rows block, NULL for none."""
    count = f"NULLIF(({_compiled(blocker.count_for(_instance))}), 0)"
    if blocker.modes == frozenset(DeletionMode):
        return count
    modes = ", ".join(f"'{mode.value}'" for mode in sorted(blocker.modes))
    return f"CASE WHEN p_mode IN ({modes}) THEN {count} END"


def _cleared(step: Step, counter: str) -> str:
    return indent(f"{_compiled(step.statement(_instance))};\nGET DIAGNOSTICS {counter} = ROW_COUNT;", " " * 8)


_TEMPLATE = """\
CREATE OR REPLACE FUNCTION {name}(
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
    v_rows jsonb := '{{}}';
    v_moment timestamptz;
{declarations}
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
{blockers}
    ));
    IF p_revision <> v_instance.revision
        OR p_expected_blockers <> ARRAY(SELECT jsonb_object_keys(v_blockers) COLLATE "C" ORDER BY 1) THEN
        RETURN jsonb_build_object(
            'status', 'changed', 'name', v_instance.name, 'revision', v_instance.revision, 'blockers', v_blockers
        );
    END IF;
    IF v_blockers <> '{{}}' AND NOT (p_force AND v_blockers - ARRAY[{forced}]::text[] = '{{}}') THEN
        RETURN jsonb_build_object('status', 'blocked', 'name', v_instance.name, 'blockers', v_blockers);
    END IF;
    v_moment := clock_timestamp();
    IF p_mode = 'soft' THEN
        UPDATE instances
        SET deleted_at = v_moment, updated_at = v_moment, revision = revision + 1,
            updated_by = (p_context->>'actor_id')::bigint
        WHERE id = p_instance_id;
    ELSE
{steps}
        DELETE FROM instances WHERE id = p_instance_id;
        v_rows := jsonb_strip_nulls(jsonb_build_object(
{counts}
        ));
    END IF;
    INSERT INTO audit_events (
        occurred_at, space_id, action, resource_type, resource_id, resource_name, outcome, batch_id, changes,
        {context_columns}
    ) SELECT
        v_moment, v_instance.space_id, 'instance:delete', 'instance', p_instance_id, v_instance.name,
        'succeeded', p_batch_id, jsonb_build_object('mode', p_mode, 'rows', v_rows),
        {context_columns}
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


async def installed_function_matches(connection: AsyncConnection) -> bool:
    """Whether the database's function is the one that this version's plan asks for."""
    body = await connection.scalar(
        text("SELECT prosrc FROM pg_proc WHERE oid = to_regproc(:name)"), {"name": FUNCTION_NAME}
    )
    return body is not None and f"$function${body}$function$" in delete_function(plan)


if __name__ == "__main__":
    sys.stdout.write(delete_function(plan))
