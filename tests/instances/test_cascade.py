"""The cascade plan against the tables, the database's own catalogue, and the function that migrations install."""

import importlib
from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Connection, ForeignKey, Integer, MetaData, Table, inspect
from sqlalchemy.engine.reflection import Inspector

from app.config import Settings
from app.database import Database
from app.instances.cascade import InstanceCascadeDeletionPlan, Step, Treatment, plan
from app.instances.cascade_postgresql import delete_function
from app.instances.cascade_sqlite import delete_script
from app.main import create_app
from app.models import Base
from app.models.instance import DatabaseType
from tests.conftest import ROOT
from tests.instances.fleet import execute

only_postgresql = pytest.mark.parametrize("database_kind", ["postgresql"])


def copied() -> MetaData:
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.tables.values():
        table.to_metadata(metadata)
    return metadata


def with_steps(*names: str) -> InstanceCascadeDeletionPlan:
    steps = [Step(Base.metadata.tables[name]) for name in names]
    return InstanceCascadeDeletionPlan(root=plan.root, steps=steps, groups=(), blockers=(), kept=plan.kept)


class TestCompleteness:
    def test_the_plan_has_no_problems(self) -> None:
        assert plan.problems(Base.metadata) == []

    @pytest.mark.parametrize("references", [True, False])
    def test_a_table_with_an_instance_id_must_be_planned(self, references: bool) -> None:
        metadata = copied()
        key = ForeignKey("instances.id") if references else None
        Table("added", metadata, Column("id", Integer, primary_key=True), Column("instance_id", Integer, key))
        assert plan.problems(metadata) == ["added refers to an instance and is neither planned nor kept"]

    @pytest.mark.parametrize("target", ["instances.id", "instance_accounts.id", "account_permissions.id"])
    def test_a_table_that_refers_only_by_foreign_key_must_be_planned(self, target: str) -> None:
        metadata = copied()
        Table("added", metadata, Column("id", Integer, primary_key=True), Column("owner", Integer, ForeignKey(target)))
        assert plan.problems(metadata) == ["added refers to an instance and is neither planned nor kept"]

    def test_a_kept_table_need_not_be_planned(self) -> None:
        metadata = copied()
        Table("memories", metadata, Column("id", Integer, primary_key=True), Column("instance_id", Integer))
        keeping = InstanceCascadeDeletionPlan(
            root=plan.root, steps=plan.steps, groups=(), blockers=(), kept=plan.kept | {"memories": "they outlive it"}
        )
        assert keeping.problems(metadata) == []

    def test_every_kept_table_says_why(self) -> None:
        assert all(len(reason) > 20 for reason in plan.kept.values())

    def test_kept_tables_refer_to_no_planned_one(self) -> None:
        planned = {plan.root.name, *(table.name for table in plan.tables())}
        referred = {key.column.table.name for name in plan.kept for key in Base.metadata.tables[name].foreign_keys}
        assert referred & planned == set()


class TestOrder:
    def test_a_parent_before_its_child_is_reported(self) -> None:
        problems = with_steps("instance_accounts", "account_permissions").problems(MetaData())
        assert problems == ["account_permissions refers to instance_accounts, which is cleared before it"]

    def test_children_first_is_right(self) -> None:
        order = ("account_classification_assignments", "account_permissions", "instance_accounts")
        assert with_steps(*order).problems(MetaData()) == []

    def test_a_step_needs_an_instance_id(self) -> None:
        assert with_steps("tags").problems(MetaData()) == ["tags has no instance_id of its own"]

    def test_no_table_has_two_steps(self) -> None:
        names = [table.name for table in plan.tables()]
        assert len(names) == len(set(names))


class TestGroups:
    @pytest.mark.parametrize("text", [delete_function(plan), delete_script(plan)], ids=["postgresql", "sqlite"])
    def test_every_group_always_runs(self, text: str) -> None:
        for table in ("mysql_cluster_instances", "sqlserver_cluster_instances"):
            assert f"DELETE FROM {table} WHERE" in text
        assert not [kind for kind in DatabaseType if f"'{kind}'" in text]


class TestClearing:
    @pytest.mark.parametrize("program", [delete_function, delete_script], ids=["postgresql", "sqlite"])
    def test_a_cleared_table_keeps_its_rows(self, program: object) -> None:
        step = Step(Base.metadata.tables["instance_databases"], Treatment.CLEAR)
        clearing = InstanceCascadeDeletionPlan(root=plan.root, steps=[step], groups=(), blockers=(), kept={})
        text = program(clearing)  # type: ignore[operator]
        assert "UPDATE instance_databases SET instance_id=NULL, updated_at=" in text
        assert "updated_at=NULL" not in text
        assert "DELETE FROM instance_databases" not in text


class TestForeignKeys:
    """Of the database as it was migrated, by its own catalogue."""

    async def test_every_one_has_an_index_that_begins_with_it(self, database: Database) -> None:
        async with database.read_engine.connect() as connection:
            assert await connection.run_sync(_unindexed) == []

    async def test_towards_an_instance_they_cascade(self, database: Database) -> None:
        async with database.read_engine.connect() as connection:
            keys = await connection.run_sync(_keys)
        towards = {table: on_delete for table, column, target, on_delete in keys if target == "instances"}
        assert towards == {table.name: "CASCADE" for table in plan.tables()}

    async def test_an_instance_restricts_its_space_and_its_credential(self, database: Database) -> None:
        async with database.read_engine.connect() as connection:
            keys = await connection.run_sync(_keys)
        own = {column: on_delete for table, column, _, on_delete in keys if table == "instances"}
        assert own == {"space_id": "RESTRICT", "credential_id": "RESTRICT"}

    async def test_whatever_belongs_to_a_space_restricts_it(self, database: Database) -> None:
        async with database.read_engine.connect() as connection:
            keys = await connection.run_sync(_keys)
        rules = {table: on_delete for table, _, target, on_delete in keys if target == "spaces"}
        # A grant speaks of the space, and is nothing without it.
        assert rules.pop("role_grants") == "CASCADE"
        assert set(rules.values()) == {"RESTRICT"}


def _keys(connection: Connection) -> list[tuple[str, str, str, str]]:
    """(table, column, referred table, ON DELETE) of every foreign key."""
    return [
        (table, key["constrained_columns"][0], key["referred_table"], key["options"].get("ondelete", "NO ACTION"))
        for (_, table), found in inspect(connection).get_multi_foreign_keys().items()
        for key in found
    ]


def _unindexed(connection: Connection) -> list[tuple[str, str]]:
    inspector = inspect(connection)
    return [
        (table, column)
        for table, column, _, _ in _keys(connection)
        if column not in set(_first_columns(inspector, table))
    ]


def _first_columns(inspector: Inspector, table: str) -> Iterator[str | None]:
    yield from inspector.get_pk_constraint(table)["constrained_columns"][:1]
    for index in inspector.get_indexes(table):
        # A partial index does not serve the rows that it leaves out.
        if not any(name.endswith("_where") for name in index.get("dialect_options", {})):
            yield index["column_names"][0]
    yield from (unique["column_names"][0] for unique in inspector.get_unique_constraints(table))


class TestInstalledFunction:
    def test_the_last_migration_of_it_has_the_plans_text(self) -> None:
        names = sorted(path.stem for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))
        migrations = [importlib.import_module(f"migrations.versions.{name}") for name in names]
        texts = [module.DELETE_INSTANCE for module in migrations if hasattr(module, "DELETE_INSTANCE")]
        assert delete_function(plan) == texts[-1]

    @only_postgresql
    async def test_a_database_with_another_function_is_refused(self, settings: Settings) -> None:
        database = Database(settings)
        await execute(database, delete_function(with_steps("instance_tags")).replace(":", "\\:"))
        await database.dispose()
        application = create_app(settings)
        with pytest.raises(RuntimeError, match="deletion function is not this version's; run `muster migrate`"):
            async with application.router.lifespan_context(application):
                pass

    @only_postgresql
    async def test_a_database_without_the_function_is_refused(self, settings: Settings) -> None:
        database = Database(settings)
        await execute(database, "DROP FUNCTION muster_delete_instance")
        await database.dispose()
        application = create_app(settings)
        with pytest.raises(RuntimeError, match="deletion function"):
            async with application.router.lifespan_context(application):
                pass
