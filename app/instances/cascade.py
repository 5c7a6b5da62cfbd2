"""What happens to every row that refers to an instance when the instance is deleted: declared here, checked elsewhere.

The plan is a tuple of steps in dependency order, children before parents. Every table below an instance carries
`instance_id` itself, so one predicate clears each, counts each (that is the dry run), and no row can be added while
the instance's row is locked. Tables of one database type come as a group; every group always runs, because a type can
be corrected later.

From the plan come: the statements that count, the program that deletes one instance (a function on PostgreSQL, see
cascade_postgresql; a trigger on SQLite, see cascade_sqlite), and the checks that nothing is missing or out of order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Delete,
    MetaData,
    Select,
    Table,
    Update,
    delete,
    func,
    literal,
    select,
    true,
    union_all,
    update,
)

from app.models.base import Base
from app.models.instance import DatabaseType
from app.models.sync import SyncState

_tables = Base.metadata.tables
_root = _tables["instances"]


# Makes of an id column the condition that it is one of those asked for.
Among = Callable[[ColumnElement[int]], ColumnElement[bool]]


class Treatment(StrEnum):
    DELETE = "delete"
    CLEAR = "clear"


class DeletionMode(StrEnum):
    """Soft hides the instance and keeps what is below it; hard leaves no row."""

    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one table's rows of an instance: they are deleted, or their `instance_id` is cleared."""

    table: Table
    treatment: Treatment = Treatment.DELETE

    def of_instance(self, instance_id: ColumnElement[int]) -> ColumnElement[bool]:
        """The one predicate that counting and deleting share."""
        return self.table.c.instance_id == instance_id

    def statement(self, instance_id: ColumnElement[int]) -> Delete | Update:
        """What the program runs for the instance."""
        if self.treatment is Treatment.DELETE:
            return delete(self.table).where(self.of_instance(instance_id))
        values: dict[str, Any] = {"instance_id": None}
        if "updated_at" in self.table.c:
            # The program is text: a moment taken in Python would be that of its making.
            values["updated_at"] = func.now()
        return update(self.table).where(self.of_instance(instance_id)).values(values)


@dataclass(frozen=True, slots=True)
class StepGroup:
    """Tables that exist for one database type."""

    db_type: DatabaseType
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Blocker:
    """A reason not to delete, as a condition on rows of a table that name the instance in `column`."""

    code: str
    message: str
    table: Table
    column: ColumnElement[int]
    condition: ColumnElement[bool]
    can_be_forced: bool
    modes: frozenset[DeletionMode] = frozenset(DeletionMode)

    def count_for(self, instance_id: ColumnElement[int]) -> Select[int]:
        return select(func.count()).select_from(self.table).where(self.column == instance_id, self.condition)


UNPLANNED_TABLE = "unplanned_table"


class InstanceCascadeDeletionPlan:
    """The declared steps and blockers; `kept` names the tables that keep their rows, with the reason."""

    def __init__(
        self,
        *,
        root: Table,
        steps: Sequence[Step],
        groups: Sequence[StepGroup],
        blockers: Sequence[Blocker],
        kept: Mapping[str, str],
    ) -> None:
        self.root = root
        self.steps = (*steps, *(step for group in groups for step in group.steps))
        self.blockers = tuple(blockers)
        self.kept = dict(kept)

    def tables(self) -> tuple[Table, ...]:
        return tuple(step.table for step in self.steps)

    def counts(self, among: Among) -> CompoundSelect[str, int, int]:
        """One statement for the dry run: (table name, instance id, rows), without the zeros."""
        return union_all(
            *(
                select(literal(step.table.name), step.table.c.instance_id, func.count())
                .where(among(step.table.c.instance_id))
                .group_by(step.table.c.instance_id)
                for step in self.steps
            )
        )

    def blocking(self, among: Among, mode: DeletionMode) -> CompoundSelect[str, int, int]:
        """One statement for all blockers: (code, instance id, how many rows block)."""
        return union_all(
            *(
                select(literal(blocker.code), blocker.column, func.count())
                .where(among(blocker.column), blocker.condition)
                .group_by(blocker.column)
                for blocker in self.blockers
                if mode in blocker.modes
            )
        )

    def blocker(self, code: str) -> Blocker:
        return next(blocker for blocker in self.blockers if blocker.code == code)

    def problems(self, metadata: MetaData) -> list[str]:
        """What is wrong with the plan as seen from the tables: missing ones, and steps out of order."""
        return [*self._missing(metadata), *self._out_of_order()]

    def _missing(self, metadata: MetaData) -> Iterator[str]:
        planned = {table.name for table in self.tables()} | set(self.kept) | {self.root.name}
        for table in metadata.tables.values():
            if table.name in planned:
                continue
            referred = {key.column.table.name for key in table.foreign_keys}
            below = referred & ({step.table.name for step in self.steps} | {self.root.name})
            if "instance_id" in table.c or below:
                yield f"{table.name} refers to an instance and is neither planned nor kept"

    def _out_of_order(self) -> Iterator[str]:
        position = {table.name: number for number, table in enumerate((*self.tables(), self.root))}
        for table in self.tables():
            if "instance_id" not in table.c:
                yield f"{table.name} has no instance_id of its own"
            for key in table.foreign_keys:
                target = key.column.table.name
                if target in position and position[target] <= position[table.name] and target != table.name:
                    yield f"{table.name} refers to {target}, which is cleared before it"


def _step(name: str) -> Step:
    return Step(_tables[name])


plan = InstanceCascadeDeletionPlan(
    root=_root,
    steps=(
        _step("account_classification_assignments"),
        _step("account_permissions"),
        _step("instance_accounts"),
        _step("account_change_logs"),
        _step("instance_databases"),
        _step("database_table_size_stats"),
        _step("database_size_stats"),
        _step("database_size_aggregations"),
        _step("instance_size_stats"),
        _step("instance_size_aggregations"),
        _step("sync_instance_records"),
        _step("instance_sync_plans"),
        _step("instance_config_snapshots"),
        _step("instance_tags"),
    ),
    groups=(
        StepGroup(DatabaseType.MYSQL, (_step("mysql_cluster_instances"),)),
        StepGroup(DatabaseType.POSTGRESQL, (_step("postgresql_cluster_instances"),)),
        StepGroup(DatabaseType.SQLSERVER, (_step("sqlserver_cluster_instances"),)),
        StepGroup(DatabaseType.ORACLE, (_step("oracle_cluster_instances"),)),
        StepGroup(DatabaseType.REDIS, (_step("redis_cluster_instances"),)),
        StepGroup(DatabaseType.MONGODB, (_step("mongodb_cluster_instances"),)),
    ),
    blockers=(
        Blocker(
            code="deletion_protected",
            message="the instance is protected; set deletion_protection to false first",
            table=_root,
            column=_root.c.id,
            condition=_root.c.deletion_protection.is_(true()),
            can_be_forced=False,
        ),
        Blocker(
            code="sync_running",
            message="a sync of the instance is running",
            table=_tables["sync_instance_records"],
            column=_tables["sync_instance_records"].c.instance_id,
            condition=_tables["sync_instance_records"].c.state == SyncState.RUNNING,
            can_be_forced=True,
        ),
        Blocker(
            code="already_deleted",
            message="the instance is deleted already; hard mode removes it for good",
            table=_root,
            column=_root.c.id,
            condition=_root.c.deleted_at.is_not(None),
            can_be_forced=True,
            modes=frozenset({DeletionMode.SOFT}),
        ),
    ),
    kept={
        "audit_events": "who deleted what must be known after it is gone; entries hold id and name as text",
        "operation_items": "what an operation did must be known after it; items hold id and name as text",
    },
)
