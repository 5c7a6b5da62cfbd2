"""The instances of a sync, some hundred to a row, instead of one list of all in its operation."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
# Ids of a row; in the statements below.
SLICE_IDS = 500
SPLIT = {
    "postgresql": f"""
        INSERT INTO sync_slices (session_id, first_position, instance_ids)
        SELECT sync_sessions.id, min(each.place), jsonb_agg(each.value ORDER BY each.place)
        FROM operations
        JOIN sync_sessions ON sync_sessions.id = (operations.request ->> 'sync_session_id')::bigint
        CROSS JOIN LATERAL jsonb_array_elements(operations.request -> 'instance_ids')
            WITH ORDINALITY AS each (value, place)
        WHERE operations.kind = 'instance_sync'
        GROUP BY sync_sessions.id, (each.place - 1) / {SLICE_IDS}
    """,
    # SQLite makes an array in the order of the subquery.
    "sqlite": f"""
        INSERT INTO sync_slices (session_id, first_position, instance_ids)
        SELECT session_id, min(place), json_group_array(value)
        FROM (
            SELECT sync_sessions.id AS session_id, each.key + 1 AS place, each.value AS value
            FROM operations
            JOIN sync_sessions ON sync_sessions.id = json_extract(operations.request, '$.sync_session_id')
            JOIN json_each(operations.request, '$.instance_ids') AS each
            WHERE operations.kind = 'instance_sync'
            ORDER BY 1, 2
        )
        GROUP BY session_id, (place - 1) / {SLICE_IDS}
    """,
}
FORGET = {
    "postgresql": "UPDATE operations SET request = request - 'instance_ids' WHERE kind = 'instance_sync'",
    "sqlite": "UPDATE operations SET request = json_remove(request, '$.instance_ids') WHERE kind = 'instance_sync'",
}
JOIN = {
    "postgresql": """
        UPDATE operations SET request = request || jsonb_build_object('instance_ids', coalesce(
            (
                SELECT jsonb_agg(each.value ORDER BY sync_slices.first_position, each.place)
                FROM sync_slices
                CROSS JOIN LATERAL jsonb_array_elements(sync_slices.instance_ids) WITH ORDINALITY AS each (value, place)
                WHERE sync_slices.session_id = (operations.request ->> 'sync_session_id')::bigint
            ),
            '[]'
        ))
        WHERE kind = 'instance_sync'
    """,
    "sqlite": """
        UPDATE operations SET request = json_set(request, '$.instance_ids', json((
            SELECT json_group_array(value)
            FROM (
                SELECT each.value AS value
                FROM sync_slices
                JOIN json_each(sync_slices.instance_ids) AS each
                WHERE sync_slices.session_id = json_extract(operations.request, '$.sync_session_id')
                ORDER BY sync_slices.first_position, each.key
            )
        )))
        WHERE kind = 'instance_sync'
    """,
}


def upgrade() -> None:
    op.create_table(
        "sync_slices",
        sa.Column("session_id", ID, nullable=False),
        sa.Column("first_position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("instance_ids", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sync_sessions.id"],
            name=op.f("fk_sync_slices_session_id_sync_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", "first_position", name=op.f("pk_sync_slices")),
    )
    dialect = op.get_bind().dialect.name
    for statement in (SPLIT[dialect], FORGET[dialect]):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(JOIN[op.get_bind().dialect.name])
    op.drop_table("sync_slices")
