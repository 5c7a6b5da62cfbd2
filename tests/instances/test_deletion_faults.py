"""Deletions that meet another writer, or an instance that cannot be deleted."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool

from app.config import Settings
from app.database import Database
from app.database.driver_errors import as_sqlalchemy
from app.instances import deletion_program, deletion_runner
from tests.factories import Registry, tables
from tests.instances.fleet import BELOW, batch_delete, events, execute, fleet, statuses

NONE_LEFT = dict.fromkeys(BELOW, 0)
ONE_EACH = dict.fromkeys(BELOW, 1)


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator[Database]:
    """Another writer's own connections."""
    database = Database(settings)
    yield database
    await database.dispose()


async def add_child(connection: AsyncConnection, instance_id: int, name: str = "late") -> None:
    await connection.execute(insert(tables["instance_databases"]).values(instance_id=instance_id, name=name))


class TestTwoDeletionsAtOnce:
    async def test_each_instance_is_deleted_once(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1] * 20)
        reports = await asyncio.gather(*(batch_delete(client, ids) for _ in range(5)))
        found = Counter((key, status) for report in reports for key, status in statuses(report).items())
        assert found == Counter({(key, "deleted"): 1 for key in ids} | {(key, "missing"): 4 for key in ids})
        assert Counter(entry["resource_id"] for entry in await events(database, "instance:delete")) == Counter(ids)
        assert await registry.rows_of(ids) == NONE_LEFT

    async def test_their_reports_add_up(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [1] * 20)
        reports = await asyncio.gather(*(batch_delete(client, order) for order in (ids, ids[::-1])))
        total = Counter[str]()
        for report in reports:
            total.update(report["rows_deleted"])
        assert total == dict.fromkeys((*BELOW, "instances"), 20)

    async def test_soft_ones_block_each_other(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [0] * 20)
        reports = await asyncio.gather(*(batch_delete(client, ids, mode="soft") for _ in range(3)))
        found = Counter(status for report in reports for status in statuses(report).values())
        assert found == {"deleted": 20, "blocked": 40}


class TestChildRowMeanwhile:
    async def test_one_that_is_being_inserted_goes_too(
        self, client: httpx.AsyncClient, database: Database, other: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [1])
        async with other.engine.begin() as connection:
            await add_child(connection, instance_id)
            deletion = asyncio.create_task(batch_delete(client, [instance_id]))
            await asyncio.sleep(0.3)
            assert not deletion.done()
        report = await deletion
        assert report["items"][0]["rows_deleted"] == ONE_EACH | {"instance_databases": 2}
        assert await registry.rows_of([instance_id]) == NONE_LEFT

    async def test_one_that_comes_while_the_instance_is_locked_is_refused(
        self, database: Database, other: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [1])
        delete = (
            f"DELETE FROM instances WHERE id = {instance_id}"
            if database.is_sqlite
            else f"SELECT muster_delete_instance({instance_id}, 'hard', false, NULL, NULL, true, NULL, NULL)"
        )
        async with other.engine.begin() as connection:
            await connection.execute(text(delete))
            insertion = asyncio.create_task(registry.insert("instance_databases", instance_id=instance_id, name="late"))
            await asyncio.sleep(0.3)
            assert not insertion.done()
        with pytest.raises(IntegrityError):
            await insertion
        assert await registry.rows_of([instance_id]) == NONE_LEFT

    async def test_many_leave_no_orphan(
        self, client: httpx.AsyncClient, database: Database, other: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1] * 20)

        async def keep_adding(key: int) -> None:
            with pytest.raises(IntegrityError):
                for number in range(10_000):
                    async with other.engine.begin() as connection:
                        await add_child(connection, key, f"late-{number}")

        insertions = [asyncio.create_task(keep_adding(key)) for key in ids[::5]]
        await asyncio.sleep(0.05)
        report = await batch_delete(client, ids)
        await asyncio.gather(*insertions)
        assert report["outcome"] == "complete"
        assert await registry.rows_of(ids) == NONE_LEFT


class TestInstanceThatCannotBeDeleted:
    @pytest.fixture
    async def ids(self, database: Database) -> Sequence[int]:
        """Of which a trigger refuses to let the middle one go."""
        ids = await fleet(database, [1] * 7)
        if database.is_sqlite:
            refusal = "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        else:
            body = "BEGIN RAISE 'not this one'; END"
            function = f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"
            await execute(database, function)
            refusal = "EXECUTE FUNCTION refuse()"
        when = f"FOR EACH ROW WHEN (OLD.id = {ids[3]})"
        await execute(database, f"CREATE TRIGGER refused BEFORE DELETE ON instances {when} {refusal}")
        return ids

    async def test_is_rolled_back_whole(
        self, client: httpx.AsyncClient, registry: Registry, ids: Sequence[int]
    ) -> None:
        await batch_delete(client, ids)
        assert await registry.rows_of([ids[3]]) == ONE_EACH
        assert (await client.get(f"/api/v1/instances/{ids[3]}")).json()["revision"] == 1

    async def test_is_reported_and_the_others_are_deleted(
        self, client: httpx.AsyncClient, registry: Registry, ids: Sequence[int]
    ) -> None:
        report = await batch_delete(client, ids)
        assert report["outcome"] == "partial"
        assert report["counts"] == {"requested": 7, "deleted": 6, "missing": 0, "blocked": 0, "failed": 1}
        failed = report["items"][3]
        assert (failed["status"], failed["error"]["code"], failed["retryable"]) == ("failed", 25010, False)
        assert "not this one" not in failed["error"]["message"]
        assert await registry.rows_of([key for key in ids if key != ids[3]]) == NONE_LEFT

    async def test_has_no_entry_in_the_audit_trail(
        self, client: httpx.AsyncClient, database: Database, ids: Sequence[int]
    ) -> None:
        await batch_delete(client, ids)
        assert ids[3] not in {entry["resource_id"] for entry in await events(database, "instance:delete")}
        [batch] = await events(database, "instance:batch_delete")
        assert (batch["outcome"], batch["changes"]["counts"]["failed"]) == ("partial", 1)

    async def test_answers_a_single_deletion_with_a_problem(
        self, client: httpx.AsyncClient, registry: Registry, ids: Sequence[int]
    ) -> None:
        answer = await client.delete(f"/api/v1/instances/{ids[3]}", params={"mode": "hard"})
        assert (answer.status_code, answer.json()["code"]) == (500, 25010)
        assert "not this one" not in answer.text
        assert await registry.rows_of([ids[3]]) == ONE_EACH

    async def test_leaves_the_connections_as_they_were(
        self, client: httpx.AsyncClient, database: Database, ids: Sequence[int]
    ) -> None:
        await batch_delete(client, ids)
        pool = database.engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedout() == 0
        if database.is_sqlite:
            async with database.writers.begin() as session:
                full = 2
                assert await session.scalar(text("PRAGMA synchronous")) == full


class TestDeadlock:
    @pytest.mark.parametrize("database_kind", ["postgresql"])
    async def test_is_tried_again(
        self, client: httpx.AsyncClient, database: Database, other: Database, registry: Registry
    ) -> None:
        [instance_id] = await fleet(database, [1])
        async with other.engine.begin() as connection:
            await connection.execute(text("UPDATE instance_tags SET tag_id = tag_id"))
            deletion = asyncio.create_task(batch_delete(client, [instance_id]))
            await asyncio.sleep(0.2)
            # Now each waits for the other; PostgreSQL ends the one that waited first.
            await connection.execute(text(f"SELECT FROM instances WHERE id = {instance_id} FOR UPDATE"))
        assert (await deletion)["outcome"] == "complete"
        assert await registry.rows_of([instance_id]) == NONE_LEFT

    @pytest.mark.parametrize(("times", "status"), [(2, "deleted"), (3, "failed")])
    async def test_is_tried_three_times(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, times: int, status: str
    ) -> None:
        error = (
            sqlite3.OperationalError("database is locked")
            if database.is_sqlite
            else asyncpg.DeadlockDetectedError("deadlock detected")
        )
        program: Any = deletion_program._SqliteProgram if database.is_sqlite else deletion_program._PostgresqlProgram
        delete, left = program.delete, [None] * times

        async def deadlocked(self: Any, *arguments: Any, **options: Any) -> Any:
            if left:
                left.pop()
                raise as_sqlalchemy(error, "")
            return await delete(self, *arguments, **options)

        monkeypatch.setattr(program, "delete", deadlocked)
        [instance_id] = await fleet(database, [1])
        [item] = (await batch_delete(client, [instance_id]))["items"]
        assert item["status"] == status
        assert item.get("retryable") in (None, True)


@pytest.mark.parametrize("database_kind", ["postgresql"])
class TestAnswerThatNeverCame:
    """The connection is lost after the commit: the audit trail tells that it happened."""

    @pytest.fixture(autouse=True)
    def lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deletion_runner, "RECONNECT_SECONDS", (0.01,))
        program: Any = deletion_program._PostgresqlProgram
        delete, left = program.delete, [asyncpg.ConnectionDoesNotExistError("connection was closed")]

        async def unanswered(self: Any, *arguments: Any, **options: Any) -> Any:
            found = await delete(self, *arguments, **options)
            if left:
                raise as_sqlalchemy(left.pop(), "")
            return found

        monkeypatch.setattr(program, "delete", unanswered)

    async def test_the_deletion_is_reported_with_its_rows(self, client: httpx.AsyncClient, database: Database) -> None:
        ids = await fleet(database, [1, 1])
        report = await batch_delete(client, ids)
        assert statuses(report) == dict.fromkeys(ids, "deleted")
        assert report["rows_deleted"] == dict.fromkeys((*BELOW, "instances"), 2)

    async def test_it_is_not_done_twice(self, client: httpx.AsyncClient, database: Database) -> None:
        [instance_id] = await fleet(database, [0])
        report = await batch_delete(client, [instance_id], mode="soft", force=True)
        assert statuses(report) == {instance_id: "deleted"}
        assert (await client.get(f"/api/v1/instances/{instance_id}")).json()["revision"] == 2
        assert len(await events(database, "instance:delete")) == 1

    async def test_a_single_one_is_answered_as_if_nothing_had_been(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        [instance_id] = await fleet(database, [1])
        answer = await client.delete(f"/api/v1/instances/{instance_id}", params={"mode": "hard"})
        assert (answer.status_code, answer.json()["rows_deleted"]) == (200, ONE_EACH)
