"""Batch deletions in the background: what an item says is what happened, whoever interferes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text

from app.database import Database
from app.errors import PreconditionFailed
from app.instances import deletion_runner
from app.instances.deletion_batch import DeletionBatch
from app.instances.deletion_look import DeletionLook
from app.models.instance import Instance
from app.models.operation import OperationState
from app.operations.records import OperationRecord
from tests.conftest import execute_on
from tests.factories import Registry
from tests.instances.fleet import BELOW, events, execute, fleet, precheck, running_sync
from tests.instances.operating import CONNECTIONS, Deletions

NONE_LEFT = dict.fromkeys(BELOW, 0)
ONE_EACH = dict.fromkeys(BELOW, 1)
# So long that no test would wait for it.
FOREVER = {
    "postgresql": "PERFORM pg_sleep(600);",
    "sqlite": "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n);",
}
REFUSED = {"postgresql": "RAISE 'not this one';", "sqlite": "SELECT RAISE(ABORT, 'not this one');"}


@pytest.fixture
async def deletions(app: FastAPI, admin: int) -> Deletions:
    return Deletions(app, admin)


async def before_deletion(database: Database, instance_id: int, does: Mapping[str, str]) -> None:
    """Has that happen whenever the instance's row is to be deleted, until `undisturbed`."""
    when = f"CREATE TRIGGER disturbed BEFORE DELETE ON instances FOR EACH ROW WHEN (OLD.id = {instance_id})"
    if database.is_sqlite:
        await execute(database, f"{when} BEGIN {does['sqlite']} END")
        return
    body = f"BEGIN {does['postgresql']} RETURN OLD; END"
    await execute(
        database,
        f"CREATE OR REPLACE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"{when} EXECUTE FUNCTION disturb()",
    )


async def undisturbed(database: Database) -> None:
    await execute(database, "DROP TRIGGER disturbed" + ("" if database.is_sqlite else " ON instances"))


def after(noted: int, does: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has it happen when so many outcomes are known."""
    note, count = DeletionBatch.note, 0

    def note_and_do(*arguments: Any) -> None:
        nonlocal count
        note(*arguments)
        count += 1
        if count == noted:
            does()

    monkeypatch.setattr(DeletionBatch, "note", note_and_do)


async def there(database: Database) -> set[int]:
    async with database.readers() as session:
        return set(await session.scalars(select(Instance.id)))


async def agree(
    deletions: Deletions, database: Database, registry: Registry, operation: OperationRecord, ids: Sequence[int]
) -> None:
    """What has an item that says so is wholly gone, and in the audit trail once; all the rest is wholly there."""
    statuses = await deletions.statuses(operation)
    gone = [key for key in ids if statuses.get(key) == "deleted"]
    left = [key for key in ids if key not in gone]
    assert await there(database) & set(ids) == set(left)
    assert await registry.rows_of(gone) == NONE_LEFT
    assert await registry.rows_of(left) == dict.fromkeys(BELOW, len(left))
    entries = await events(database, "instance:delete")
    assert Counter(entry["resource_id"] for entry in entries) == Counter(gone)
    assert {entry["batch_id"] for entry in entries} <= {operation.batch_id}


class TestWork:
    async def test_deletes_everything(self, deletions: Deletions, database: Database, registry: Registry) -> None:
        ids = await fleet(database, [1] * 30)
        operation = await deletions.delete(ids)
        assert (operation.state, operation.counts) == (OperationState.SUCCEEDED, {"deleted": 30})
        assert (operation.done, operation.total, operation.error) == (30, 30, None)
        await agree(deletions, database, registry, operation, ids)

    async def test_writes_items_in_the_order_of_the_ids(self, deletions: Deletions, database: Database) -> None:
        ids = (await fleet(database, [1] * 5))[::-1]
        async with database.readers() as session:
            names = {row.id: row.name for row in await session.execute(select(Instance.id, Instance.name))}
        operation = await deletions.delete(ids)
        assert await deletions.items(operation) == [
            {
                "operation_id": operation.id,
                "position": position,
                "status": "deleted",
                "instance_id": key,
                "name": names[key],
                "detail": {"rows_deleted": ONE_EACH},
            }
            for position, key in enumerate(ids, start=1)
        ]

    async def test_softly_keeps_the_rows_below(
        self, deletions: Deletions, database: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1, 1])
        operation = await deletions.delete(ids, "soft")
        assert [item["detail"] for item in await deletions.items(operation)] == [{"rows_deleted": {}}] * 2
        assert await registry.rows_of(ids) == dict.fromkeys(BELOW, 2)
        async with database.readers() as session:
            found = (await session.scalars(select(Instance))).all()
        assert {each.revision for each in found} == {2}
        assert all(each.deleted_at == each.updated_at for each in found)

    async def test_of_several_slices(
        self, deletions: Deletions, database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.instances.deletion_operation.SLICE_IDS", 3)
        ids = await fleet(database, [1] * 10)
        operation = await deletions.delete([*ids[:4], 999_998, *ids[4:], 999_999])
        assert operation.counts == {"deleted": 10, "missing": 2}
        await agree(deletions, database, registry, operation, ids)

    async def test_is_recorded_as_the_callers(self, deletions: Deletions, database: Database, admin: int) -> None:
        ids = await fleet(database, [0, 0])
        operation = await deletions.delete(ids)
        [batch] = await events(database, "instance:batch_delete")
        entries = [batch, *await events(database, "instance:delete")]
        assert {entry["batch_id"] for entry in entries} == {operation.batch_id}
        assert {(entry["actor_id"], entry["path"]) for entry in entries} == {(admin, "/api/v1/instances/batch-delete")}
        assert (batch["resource_type"], batch["outcome"]) == ("batch", "succeeded")
        assert batch["changes"] == {"mode": "hard", "counts": {"deleted": 2}}

    async def test_knows_its_space_if_it_is_one(self, deletions: Deletions, registry: Registry) -> None:
        space_id = await registry.space()
        own, other = await registry.instance(space_id=space_id), await registry.instance()
        assert (await deletions.start([own, 999_999])).space_id == space_id
        assert (await deletions.start([own, other])).space_id is None


class TestWhatIsNotDeleted:
    async def test_has_an_item_that_says_why(
        self, deletions: Deletions, database: Database, registry: Registry
    ) -> None:
        [good, busy] = await fleet(database, [1, 1])
        await running_sync(database, busy)
        guarded = await registry.instance(name="guarded", deletion_protection=True)
        operation = await deletions.delete([999_999, guarded, good, busy])
        assert (operation.state, operation.counts) == (
            OperationState.PARTIAL, {"missing": 1, "blocked": 2, "deleted": 1},
        )  # fmt: skip
        missing, protected, deleted, syncing = await deletions.items(operation)
        assert (missing["instance_id"], missing["name"], missing["detail"]) == (999_999, None, None)
        assert protected["name"] == "guarded"
        [blocker] = protected["detail"]["blockers"]
        assert (blocker["code"], blocker["count"]) == ("deletion_protected", 1)
        assert [each["code"] for each in syncing["detail"]["blockers"]] == ["sync_running"]
        assert deleted["status"] == "deleted"
        assert await there(database) == {guarded, busy}

    async def test_force_overrides_what_can_be(
        self, deletions: Deletions, database: Database, registry: Registry
    ) -> None:
        [busy] = await fleet(database, [1])
        await running_sync(database, busy)
        guarded = await registry.instance(deletion_protection=True)
        operation = await deletions.delete([busy, guarded], force=True)
        assert await deletions.statuses(operation) == {busy: "deleted", guarded: "blocked"}

    async def test_when_all_are_blocked_the_operation_failed(self, deletions: Deletions, registry: Registry) -> None:
        operation = await deletions.delete([await registry.instance(deletion_protection=True)])
        assert (operation.state, operation.error) == (OperationState.FAILED, None)

    async def test_what_is_blocked_only_under_its_lock(
        self, deletions: Deletions, database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await fleet(database, [1, 1, 1])
        change_after_look(database, f"UPDATE instances SET deletion_protection = true WHERE id = {ids[1]}", monkeypatch)
        operation = await deletions.delete(ids)
        assert list((await deletions.statuses(operation)).values()) == ["deleted", "blocked", "deleted"]
        await agree(deletions, database, registry, operation, ids)

    async def test_a_failure_touches_no_other(
        self, deletions: Deletions, database: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1] * 7)
        await before_deletion(database, ids[3], REFUSED)
        operation = await deletions.delete(ids)
        assert (operation.state, operation.counts) == (OperationState.PARTIAL, {"deleted": 6, "failed": 1})
        failed = (await deletions.items(operation))[3]
        assert (failed["detail"]["error"]["code"], failed["detail"]["retryable"]) == (25010, False)
        assert failed["name"].startswith("server-")
        await agree(deletions, database, registry, operation, ids)

    async def test_retry_takes_just_what_failed(
        self, deletions: Deletions, database: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1] * 5)
        guarded = await registry.instance(deletion_protection=True)
        await before_deletion(database, ids[3], REFUSED)
        operation = await deletions.delete([*ids, guarded])
        await undisturbed(database)
        await execute(database, f"UPDATE instances SET deletion_protection = false WHERE id = {guarded}")
        operation = await deletions.run(await deletions.change(operation, "retry"))
        assert (operation.state, operation.counts) == (OperationState.PARTIAL, {"deleted": 5, "blocked": 1})
        await agree(deletions, database, registry, operation, ids)


def change_after_look(database: Database, statement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    look = DeletionLook.look

    async def look_and_change(*arguments: Any, **options: Any) -> Any:
        seen = await look(*arguments, **options)
        await execute(database, statement)
        return seen

    monkeypatch.setattr(DeletionLook, "look", look_and_change)


class TestRights:
    async def test_are_those_of_now(self, app: FastAPI, database: Database, registry: Registry) -> None:
        user_id = await registry.user(role="admin")
        ids = await fleet(database, [1])
        operation = await Deletions(app, user_id).start(ids)
        await execute(database, f"DELETE FROM role_grants WHERE user_id = {user_id}")
        await registry.grant(user_id, await registry.role(permissions=["instance:delete", "instance:read"]))
        operation = await Deletions(app, user_id).run(operation)
        assert operation.state is OperationState.FAILED
        assert operation.error is not None
        assert operation.error["code"] == 25020
        assert "instance:purge" in operation.error["message"]
        assert await there(database) == set(ids)

    async def test_a_soft_deletion_needs_its_own(self, app: FastAPI, database: Database, registry: Registry) -> None:
        user_id = await registry.user()
        await registry.grant(user_id, await registry.role(permissions=["instance:delete"]))
        ids = await fleet(database, [1])
        operation = await Deletions(app, user_id).delete(ids, "soft")
        assert operation.counts == {"deleted": 1}

    async def test_what_is_in_another_space_is_missing(
        self, app: FastAPI, database: Database, registry: Registry
    ) -> None:
        space_id = await registry.space()
        role_id = await registry.role(permissions=["instance:purge"])
        user_id = await registry.user()
        await registry.grant(user_id, role_id, space_id)
        own, others = await registry.instance(space_id=space_id), await registry.instance()
        deletions = Deletions(app, user_id)
        operation = await deletions.delete([own, others])
        assert await deletions.statuses(operation) == {own: "deleted", others: "missing"}
        assert await there(database) == {others}


class TestPlan:
    async def test_a_stale_one_is_refused(
        self, deletions: Deletions, client: httpx.AsyncClient, database: Database
    ) -> None:
        ids = await fleet(database, [0, 0])
        token = (await precheck(client, ids))["plan_token"]
        await execute(database, f"UPDATE instances SET revision = revision + 1 WHERE id = {ids[0]}")
        with pytest.raises(PreconditionFailed, match="1 of 2 instances changed"):
            await deletions.start(ids, plan_token=token)

    async def test_that_holds_is_carried_out(
        self, deletions: Deletions, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1, 1])
        await running_sync(database, ids[0])
        guarded = await registry.instance(deletion_protection=True)
        chosen = [*ids, guarded, 999_999]
        token = (await precheck(client, chosen))["plan_token"]
        operation = await deletions.delete(chosen, plan_token=token, force=True)
        assert operation.counts == {"deleted": 2, "blocked": 1, "missing": 1}

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE instances SET revision = revision + 1 WHERE id = {}",
            "UPDATE instances SET deletion_protection = true WHERE id = {}",
        ],
        ids=["revision", "blocker"],
    )
    @pytest.mark.parametrize("is_seen", [True, False], ids=["before the look", "under the lock"])
    async def test_what_has_changed_since_fails(
        self,
        deletions: Deletions,
        client: httpx.AsyncClient,
        database: Database,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
        change: str,
        is_seen: bool,
    ) -> None:
        ids = await fleet(database, [1, 1, 1])
        token = (await precheck(client, ids))["plan_token"]
        operation = await deletions.start(ids, plan_token=token)
        if is_seen:
            await execute(database, change.format(ids[1]))
        else:
            change_after_look(database, change.format(ids[1]), monkeypatch)
        operation = await deletions.run(operation)
        first, changed, last = await deletions.items(operation)
        assert (first["status"], changed["status"], last["status"]) == ("deleted", "failed", "deleted")
        assert (changed["detail"]["error"]["code"], changed["detail"]["retryable"]) == (25017, True)
        await agree(deletions, database, registry, operation, ids)

    async def test_what_has_gone_since_is_missing(
        self, deletions: Deletions, client: httpx.AsyncClient, database: Database
    ) -> None:
        ids = await fleet(database, [0, 0])
        token = (await precheck(client, ids))["plan_token"]
        operation = await deletions.start(ids, plan_token=token)
        await execute(database, f"DELETE FROM instances WHERE id = {ids[0]}")
        operation = await deletions.run(operation)
        assert await deletions.statuses(operation) == {ids[0]: "missing", ids[1]: "deleted"}


class TestStop:
    async def test_comes_between_two_instances(
        self, deletions: Deletions, database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await fleet(database, [1] * 60)
        after(10, deletions.runner.stop, monkeypatch)
        operation = await deletions.delete(ids)
        assert operation.state is OperationState.QUEUED
        assert 10 <= operation.done < 10 + CONNECTIONS
        assert operation.done == len(await deletions.items(operation))
        await agree(deletions, database, registry, operation, ids)

    async def test_another_worker_goes_on_with_the_rest(
        self, deletions: Deletions, database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await fleet(database, [1] * 40)
        after(10, deletions.runner.stop, monkeypatch)
        operation = await deletions.delete([*ids, 999_999])
        seen: list[int] = []
        look = DeletionLook.look

        async def noting(self: Any, ids: Sequence[int], *arguments: Any, **options: Any) -> Any:
            seen.extend(ids)
            return await look(self, ids, *arguments, **options)

        monkeypatch.setattr(DeletionLook, "look", noting)
        statuses = await deletions.statuses(operation)
        deletions.runner = deletions.new_runner()
        operation = await deletions.run(operation)
        assert set(seen) == set(ids) - statuses.keys()
        assert operation.counts == {"deleted": 40, "missing": 1}
        await agree(deletions, database, registry, operation, ids)

    async def test_does_not_wait_for_a_large_instance(
        self, deletions: Deletions, database: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1, 1])
        await before_deletion(database, ids[1], FOREVER)
        operation = await deletions.start(ids)
        work = asyncio.create_task(deletions.run(operation))
        await has_items(deletions, operation)
        deletions.runner.stop()
        operation = await asyncio.wait_for(work, 60)
        assert (operation.state, operation.counts) == (OperationState.QUEUED, {"deleted": 1})
        await agree(deletions, database, registry, operation, ids)

        await undisturbed(database)
        deletions.runner = deletions.new_runner()
        operation = await deletions.run(operation)
        assert (operation.state, operation.counts) == (OperationState.SUCCEEDED, {"deleted": 2})
        await agree(deletions, database, registry, operation, ids)

    # On SQLite the cancellation itself waits for the turn to write, and so for the instance.
    @pytest.mark.parametrize("database_kind", ["postgresql"])
    async def test_cancelled_in_a_large_instance_and_resumed(
        self, deletions: Deletions, database: Database, registry: Registry
    ) -> None:
        ids = await fleet(database, [1, 1])
        await before_deletion(database, ids[1], FOREVER)
        operation = await deletions.start(ids)
        work = asyncio.create_task(deletions.run(operation))
        await has_items(deletions, operation)
        await asyncio.wait_for(deletions.change(operation, "cancel"), 60)
        operation = await asyncio.wait_for(work, 60)
        assert (operation.state, operation.counts) == (OperationState.CANCELLED, {"deleted": 1})
        await agree(deletions, database, registry, operation, ids)

        await undisturbed(database)
        operation = await deletions.run(await deletions.change(operation, "resume"))
        assert (operation.state, operation.counts) == (OperationState.SUCCEEDED, {"deleted": 2})
        await agree(deletions, database, registry, operation, ids)


async def has_items(deletions: Deletions, operation: OperationRecord) -> None:
    while not await deletions.items(operation):  # noqa: ASYNC110 - it is the database that tells
        await asyncio.sleep(0.01)


class TestBesideOthers:
    async def test_a_single_deletion_gets_its_turn(
        self,
        deletions: Deletions,
        client: httpx.AsyncClient,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The operation has all connections that batches may have, and would keep them until its end."""
        monkeypatch.setattr(deletion_runner, "TURN_SECONDS", 0)
        monkeypatch.setattr(database, "batch_connections", asyncio.Semaphore(1 if database.is_sqlite else CONNECTIONS))
        [single, *ids] = await fleet(database, [0] * 201)
        operation = await deletions.start(ids)
        requests: list[asyncio.Task[int]] = []

        async def delete_one() -> int:
            """How many items there were when it was answered."""
            answer = await client.delete(f"/api/v1/instances/{single}")
            assert answer.status_code == 200
            return len(await deletions.items(operation))

        after(20, lambda: requests.append(asyncio.create_task(delete_one())), monkeypatch)
        operation = await deletions.run(operation)
        assert operation.counts == {"deleted": 200}
        assert await requests[0] < 200


class TestFencing:
    async def test_nothing_is_done_after_a_takeover(
        self, deletions: Deletions, database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await fleet(database, [1] * 200)
        operation = await deletions.start(ids)
        takeovers: list[asyncio.Task[int]] = []

        async def take_over() -> int:
            """How many items there were when the other worker began."""
            lock = "" if database.is_sqlite else " FOR UPDATE"
            async with database.engine.begin() as connection:
                await connection.execute(text(f"SELECT id FROM operations{lock}"))
                await connection.execute(text("UPDATE operations SET attempt = attempt + 1"))
                count = await connection.execute(text("SELECT count(*) FROM operation_items"))
                return int(count.scalar_one())

        after(20, lambda: takeovers.append(asyncio.create_task(take_over())), monkeypatch)
        operation = await deletions.run(operation)
        count = await takeovers[0]
        assert 20 <= count < 200
        assert len(await deletions.items(operation)) == count
        assert (operation.state, operation.attempt) == (OperationState.RUNNING, 2)
        assert await events(database, "instance:batch_delete") == []
        await agree(deletions, database, registry, operation, ids)

    async def test_writes_no_item_for_what_changes_nothing(
        self, deletions: Deletions, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_after_look(database, "UPDATE operations SET attempt = attempt + 1", monkeypatch)
        operation = await deletions.delete([999_999])
        assert await deletions.items(operation) == []
        assert operation.state is OperationState.RUNNING

    async def test_an_operation_that_is_gone_deletes_nothing(
        self, deletions: Deletions, database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = await fleet(database, [1] * 3)
        operation = await deletions.start(ids)
        change_after_look(database, "DELETE FROM operations", monkeypatch)
        await deletions.runner.run(operation.id)
        assert await registry.rows_of(ids) == dict.fromkeys(BELOW, 3)


@pytest.mark.parametrize("database_kind", ["postgresql"])
class TestLostConnections:
    async def test_leave_one_item_each(
        self,
        deletions: Deletions,
        database: Database,
        registry: Registry,
        database_url: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ids = await fleet(database, [1] * 150)
        ended: list[asyncio.Task[None]] = []

        def end_connections() -> None:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            statement = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            ended.append(asyncio.create_task(execute_on(database_url, statement)))

        after(40, end_connections, monkeypatch)
        operation = await deletions.delete(ids)
        assert ended[0].done()
        assert (operation.state, operation.counts) == (OperationState.SUCCEEDED, {"deleted": 150})
        await agree(deletions, database, registry, operation, ids)
