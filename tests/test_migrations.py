"""Migrations lead to the tables as they are declared, and back to nothing."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.config import Settings
from app.models import Base
from tests.conftest import ROOT

# What version 0005 knows of a sync.
SESSION = """
    INSERT INTO sync_sessions (id, space_id, kinds, trigger, state)
    SELECT :id, id, '["accounts"]', 'manual', 'pending' FROM spaces
"""
OPERATION = """
    INSERT INTO operations (id, kind, state, request, origin, batch_id, counts)
    VALUES (:id, 'instance_sync', 'queued', :request, '{}', '00000000000000000000000000000000', '{}')
"""

Dump = dict[str, list[tuple[Any, ...]]]

# By the database's own catalogue: whatever a migration makes is in one of these.
CATALOGUE = {
    "postgresql": {
        "columns": """
            SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable,
                column_default
            FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
        """,
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2",
        "constraints": """
            SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
        """,
        "functions": """
            SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1
        """,
        "triggers": """
            SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
            ORDER BY 1, 2
        """,
        "sequences": """
            SELECT sequencename, data_type::text, start_value, increment_by FROM pg_sequences
            WHERE schemaname = 'public' ORDER BY 1
        """,
        # A table is a type too; those of ours would be without one.
        "types": """
            SELECT typname FROM pg_type LEFT JOIN pg_class ON pg_class.oid = typrelid
            WHERE typnamespace = 'public'::regnamespace AND typcategory <> 'A' AND pg_class.oid IS NULL ORDER BY 1
        """,
        "extensions": "SELECT extname FROM pg_extension ORDER BY 1",
        "schemas": "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
    },
    "sqlite": {
        "objects": "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2",
    },
}


def dump(connection: Connection) -> Dump:
    statements = CATALOGUE[connection.dialect.name]
    return {
        kind: [
            row
            for row in map(tuple, connection.execute(text(statement)))
            # Alembic's own table stays when everything else is gone.
            if not any("alembic_version" in str(value) for value in row)
        ]
        for kind, statement in statements.items()
    }


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(settings.resolved_database_url, poolclass=NullPool)
    yield engine
    await engine.dispose()


async def run(engine: AsyncEngine, work: Callable[..., Any], *arguments: Any) -> None:
    """An Alembic command over a connection of ours."""

    def handed_in(connection: Connection) -> None:
        config = Config(str(ROOT / "alembic.ini"))
        config.attributes["connection"] = connection
        work(config, *arguments)

    async with engine.begin() as connection:
        await connection.run_sync(handed_in)


async def dumped(engine: AsyncEngine) -> Dump:
    async with engine.connect() as connection:
        return await connection.run_sync(dump)


class TestRoundTrip:
    async def test_down_and_up_again_leads_to_the_same_schema(self, engine: AsyncEngine) -> None:
        before = await dumped(engine)
        await run(engine, command.downgrade, "base")
        await run(engine, command.upgrade, "head")
        assert await dumped(engine) == before

    async def test_down_leaves_nothing_behind(self, engine: AsyncEngine) -> None:
        await run(engine, command.downgrade, "base")
        left = await dumped(engine)
        schemas, extensions = left.pop("schemas", None), left.pop("extensions", None)
        assert left == {kind: [] for kind in left}
        assert schemas in (None, [("information_schema",), ("public",)])
        assert extensions in (None, [("plpgsql",)])

    async def test_the_dump_sees_what_there_is(self, engine: AsyncEngine) -> None:
        found = await dumped(engine)
        text_of_all = str(found)
        for name in ("uq_instances_name_space_id", "fk_instances_space_id_spaces", "pk_instance_tags", "server_uuid"):
            assert name in text_of_all
        assert ("muster_delete_instance" in text_of_all) == (engine.dialect.name == "postgresql")

    async def test_up_at_the_head_changes_nothing(self, engine: AsyncEngine) -> None:
        before = await dumped(engine)
        await run(engine, command.upgrade, "head")
        assert await dumped(engine) == before

    async def test_each_step_can_be_undone(self, engine: AsyncEngine) -> None:
        await run(engine, command.downgrade, "-1")
        before = await dumped(engine)
        await run(engine, command.upgrade, "+1")
        await run(engine, command.downgrade, "-1")
        assert await dumped(engine) == before


class TestSyncSlices:
    """The instances of a sync stood in its operation's request before they had rows of their own."""

    async def test_hold_what_operations_held(self, engine: AsyncEngine) -> None:
        await run(engine, command.downgrade, "0005")
        before = {1: list(range(1_200, 0, -1)), 2: [7], 3: []}
        async with engine.begin() as connection:
            for key, ids in before.items():
                request = {"sync_session_id": key, "kinds": ["accounts"], "instance_ids": ids}
                await connection.execute(text(SESSION), {"id": key})
                await connection.execute(text(OPERATION), {"id": key, "request": orjson.dumps(request).decode()})
        await run(engine, command.upgrade, "0006")
        async with engine.connect() as connection:
            statement = "SELECT session_id, first_position, CAST(instance_ids AS text) FROM sync_slices ORDER BY 1, 2"
            slices = [(*key, orjson.loads(ids)) for *key, ids in await connection.execute(text(statement))]
        in_order = before[1]
        assert slices == [(1, 1, in_order[:500]), (1, 501, in_order[500:1000]), (1, 1001, in_order[1000:]), (2, 1, [7])]
        assert await self._requested(engine) == dict.fromkeys(before)
        await run(engine, command.downgrade, "0005")
        assert await self._requested(engine) == before

    async def _requested(self, engine: AsyncEngine) -> dict[int, list[int] | None]:
        async with engine.connect() as connection:
            rows = await connection.execute(text("SELECT id, CAST(request AS text) FROM operations"))
            return {key: orjson.loads(request).get("instance_ids") for key, request in rows}


class TestClasses:
    """Who is in which class goes through 0007 in both directions."""

    async def test_assignments_stay(self, engine: AsyncEngine) -> None:
        rows: dict[str, dict[str, Any]] = {
            "instances": {"id": 7, "space_id": 1, "name": "db", "db_type": "mysql", "host": "db", "port": 3306}
            | {"endpoint_key": "mysql:db:3306"},
            "instance_accounts": {"id": 8, "instance_id": 7, "username": "root"},
            "account_permissions": {"id": 9, "instance_id": 7, "account_id": 8, "digest": "0"},
            "account_classifications": {"id": 5, "space_id": 1, "name": "all", "rule": {}},
            "account_classification_assignments": {"instance_id": 7, "permission_id": 9, "classification_id": 5}
            | {"rule_version": 3, "assigned_at": datetime(2026, 5, 1, 12, tzinfo=UTC)},
        }
        async with engine.begin() as connection:
            for name, values in rows.items():
                await connection.execute(insert(Base.metadata.tables[name]).values(**values))
        for work, revision in ((command.downgrade, "0006"), (command.upgrade, "0007")):
            await run(engine, work, revision)
            async with engine.connect() as connection:
                columns = "instance_id, permission_id, classification_id, rule_version"
                found = await connection.execute(text(f"SELECT {columns} FROM account_classification_assignments"))
                assert found.all() == [(7, 9, 5, 3)]


class TestMetadata:
    async def test_no_migration_is_missing(self, engine: AsyncEngine) -> None:
        """`alembic check`: it raises when the tables as declared differ from those that migrations made."""
        await run(engine, command.check)

    async def test_a_difference_would_be_found(self, engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("DROP INDEX ix_instances_name_id"))
        with pytest.raises(Exception, match="ix_instances_name_id"):
            await run(engine, command.check)


class TestDefaultSpace:
    async def test_there_is_one(self, engine: AsyncEngine) -> None:
        await run(engine, command.downgrade, "base")
        await run(engine, command.upgrade, "head")
        async with engine.connect() as connection:
            names = (await connection.execute(text("SELECT name FROM spaces"))).scalars().all()
        assert names == ["default"]
