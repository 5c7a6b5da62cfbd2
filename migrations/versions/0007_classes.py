"""Classes of accounts: what they were told from last, and fewer indexes and foreign keys to write with each."""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLE = "account_classification_assignments"
COLUMNS = "instance_id, permission_id, classification_id, rule_version, assigned_at"


def upgrade() -> None:
    op.add_column("instances", sa.Column("classes_digest", sa.String(64)))
    _make_anew(_create)


def downgrade() -> None:
    _make_anew(_create_as_before)
    op.drop_column("instances", "classes_digest")


def _make_anew(create: Callable[[], None]) -> None:
    """Once more with other constraints, and the rows that there are: it is all new, whatever the database can alter."""
    op.execute(f"CREATE TEMPORARY TABLE kept AS SELECT {COLUMNS} FROM {TABLE}")
    op.drop_table(TABLE)
    create()
    op.execute(f"INSERT INTO {TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM kept ORDER BY 1, 2, 3")
    op.execute("DROP TABLE kept")


def _create() -> None:
    op.create_table(
        TABLE,
        sa.Column("instance_id", ID, autoincrement=False, nullable=False),
        sa.Column("permission_id", ID, autoincrement=False, nullable=False),
        sa.Column("classification_id", ID, autoincrement=False, nullable=False),
        sa.Column("rule_version", sa.Integer(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=False),
        *_foreign_keys("classification_id", "instance_id"),
        sa.PrimaryKeyConstraint("instance_id", "permission_id", "classification_id", name=op.f(f"pk_{TABLE}")),
        sqlite_with_rowid=False,
    )
    op.create_index(f"uq_{TABLE}_classification_permission", TABLE, ["classification_id", "permission_id"], unique=True)


def _create_as_before() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("permission_id", ID, nullable=False),
        sa.Column("classification_id", ID, nullable=False),
        sa.Column("rule_version", sa.Integer(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=False),
        *_foreign_keys("classification_id", "instance_id", "permission_id"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
        sa.UniqueConstraint(
            "permission_id", "classification_id", name=op.f(f"uq_{TABLE}_permission_id_classification_id")
        ),
        sqlite_autoincrement=True,
    )
    for column in ("classification_id", "instance_id"):
        op.create_index(f"ix_{TABLE}_{column}", TABLE, [column])


def _foreign_keys(*columns: str) -> list[sa.ForeignKeyConstraint]:
    tables = {
        "classification_id": "account_classifications",
        "instance_id": "instances",
        "permission_id": "account_permissions",
    }
    return [
        sa.ForeignKeyConstraint(
            [column], [f"{tables[column]}.id"], name=op.f(f"fk_{TABLE}_{column}_{tables[column]}"), ondelete="CASCADE"
        )
        for column in columns
    ]
