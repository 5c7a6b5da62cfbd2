"""Syncs as operations: what becomes of each instance, and how a worker stops, is fenced, and goes on."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.access.permissions import Permission
from app.config import Settings
from app.database import Database
from app.inventory.records import FoundAccount
from app.models.sync import SyncKind
from app.syncs import recording
from app.syncs.failures import FailureKind, ServerFailure
from app.syncs.instance_sync import WRITING_TURNS, InstanceSync
from app.syncs.outcomes import ItemStatus
from tests.factories import Registry
from tests.syncs.syncing import (
    PASSWORD,
    FakeServers,
    Syncs,
    credential,
    failing,
    rows_of,
    server_at,
    tables,
    until,
)

SIGN_IN_REFUSED = ServerFailure(FailureKind.SIGN_IN_REFUSED, "WRONGPASS invalid password", "check it", "WRONGPASS")
NO_PERMISSION = ServerFailure(FailureKind.PERMISSION_MISSING, "NOPERM", "ACL SETUSER app +acl", "NOPERM")
GONE = ServerFailure(FailureKind.CLOSED, "the server closed the connection", "look at its log")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"sync_seconds": 5.0, "sync_connections": 4, "sync_connections_per_host": 2})


@pytest.fixture
async def credential_id(app: FastAPI, registry: Registry) -> int:
    return await credential(app, registry)


@pytest.fixture
def syncs(app: FastAPI, admin: int) -> Syncs:
    return Syncs(app, admin)


class TestInstances:
    async def test_are_synced(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int, database: Database
    ) -> None:
        ids = [await server_at(registry, f"10.0.0.{number}", credential_id=credential_id) for number in range(1, 8)]
        before = await rows_of(database, "instances", id=ids[0])
        operation = await syncs.sync(ids)
        assert (operation.state, operation.counts) == ("succeeded", {"succeeded": 7})
        items = await syncs.items(operation)
        assert [item["instance_id"] for item in items] == ids
        counts = {"found": 1, "created": 1, "updated": 0, "removed": 0, "unchanged": 0}
        for kind in SyncKind:
            told = items[0]["detail"]["kinds"][kind.value]
            assert told.pop("milliseconds") >= 0
            assert told == counts
        records = await syncs.records(operation)
        assert len(records) == 21
        assert {record["state"] for record in records} == {"succeeded"}
        [session] = await syncs.rows("sync_sessions")
        assert (session["state"], session["operation_id"]) == ("succeeded", operation.id)
        assert session["started_at"] <= session["finished_at"]
        [after] = await rows_of(database, "instances", id=ids[0])
        assert (after.pop("version"), after.pop("last_connected_at") is None) == ("7.2.4", False)
        assert after.items() <= before[0].items()

    async def test_are_signed_in_to_with_their_credential(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        await syncs.sync([await server_at(registry, "10.0.0.1", credential_id=credential_id)])
        [target] = servers.targets
        assert (target.username, target.password.get_secret_value()) == ("postgres", PASSWORD)
        assert (target.host, target.port, target.addresses) == ("10.0.0.1", 6379, ("10.0.0.1",))

    async def test_are_items_whatever_becomes_of_them(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        good = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        partial = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        bad = await server_at(registry, "10.0.0.3", credential_id=credential_id)
        without = await server_at(registry, "10.0.0.4")
        disabled = await server_at(registry, "10.0.0.5", credential_id=credential_id, is_active=False)
        deleted = await server_at(registry, "10.0.0.6", credential_id=credential_id, deleted_at=datetime.now(UTC))
        servers["10.0.0.2"].before = failing("accounts", NO_PERMISSION)
        servers["10.0.0.3"].before = failing("connect", SIGN_IN_REFUSED)
        operation = await syncs.sync([good, partial, bad, without, disabled, deleted, 999_999])
        assert operation.state == "partial"
        assert operation.counts == {"succeeded": 1, "partial": 1, "failed": 1, "refused": 3, "missing": 1}
        assert await syncs.statuses(operation) == {
            good: "succeeded", partial: "partial", bad: "failed", without: "refused", disabled: "refused",
            deleted: "refused", 999_999: "missing",
        }  # fmt: skip
        items = {item["instance_id"]: item for item in await syncs.items(operation)}
        assert {key: items[key]["detail"]["error"]["kind"] for key in (bad, without, disabled, deleted)} == {
            bad: "sign_in_refused", without: "no_credential", disabled: "disabled", deleted: "deleted",
        }  # fmt: skip
        assert items[bad]["detail"]["error"] == {
            "kind": "sign_in_refused",
            "message": "WRONGPASS invalid password",
            "hint": "check it",
            "server_code": "WRONGPASS",
        }
        kinds = items[partial]["detail"]["kinds"]
        assert kinds["accounts"]["error"]["kind"] == "permission_missing"
        assert (kinds["capacity"]["created"], kinds["settings"]["created"]) == (1, 1)
        records = {(record["instance_id"], record["kind"]): record for record in await syncs.records(operation)}
        assert len(records) == 18
        assert {key: records[key, "accounts"]["error_kind"] for key in (good, partial, bad, without)} == {
            good: None, partial: "permission_missing", bad: "sign_in_refused", without: "no_credential",
        }  # fmt: skip
        assert records[bad, "settings"]["server_code"] == "WRONGPASS"

    async def test_keep_what_a_server_said_before_it_went_away(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        servers["10.0.0.1"].before = failing("sizes", GONE)
        operation = await syncs.sync([instance_id])
        assert operation.counts == {"partial": 1}
        states = {record["kind"]: record["error_kind"] for record in await syncs.records(operation)}
        assert states == {"accounts": None, "capacity": "closed", "settings": "closed"}
        assert [each["username"] for each in await syncs.rows("instance_accounts", instance_id=instance_id)] == ["app"]

    async def test_have_a_time_limit(
        self, app: FastAPI, admin: int, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        async def hang(name: str) -> None:
            if name == "settings":
                await asyncio.sleep(60)

        app.state.settings = app.state.settings.model_copy(update={"sync_seconds": 0.3})
        syncs = Syncs(app, admin)
        servers["10.0.0.1"].before = hang
        began = time.monotonic()
        operation = await syncs.sync([await server_at(registry, "10.0.0.1", credential_id=credential_id)])
        assert time.monotonic() - began < 3
        states = {record["kind"]: record["error_kind"] for record in await syncs.records(operation)}
        assert states == {"accounts": None, "capacity": None, "settings": "timed_out"}
        assert servers.at_once == 0

    async def test_are_only_asked_for_the_kinds(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        asked: list[str] = []

        async def note(name: str) -> None:
            asked.append(name)

        servers["10.0.0.1"].before = note
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        operation = await syncs.sync([instance_id], kinds=[SyncKind.CAPACITY])
        assert asked == ["connect", "check", "databases", "sizes"]
        assert [record["kind"] for record in await syncs.records(operation)] == ["capacity"]

    async def test_are_failed_when_an_adapter_breaks_its_promise(
        self,
        syncs: Syncs,
        registry: Registry,
        servers: FakeServers,
        credential_id: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def mistake(name: str) -> None:
            if name == "accounts":
                raise OSError(f"cannot sign in with {PASSWORD}")

        bad = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        good = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        servers["10.0.0.1"].before = mistake
        operation = await syncs.sync([bad, good])
        assert await syncs.statuses(operation) == {bad: "failed", good: "succeeded"}
        assert PASSWORD not in str(await syncs.items(operation)) + str(await syncs.records(operation)) + caplog.text
        assert "an adapter failed" in caplog.text

    async def test_are_failed_when_what_was_found_cannot_be_recorded(
        self,
        syncs: Syncs,
        registry: Registry,
        servers: FakeServers,
        credential_id: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        class Broken(recording.AccountSync):
            async def apply(self, instance_id: int, *found: Any) -> Any:
                if instance_id == bad:
                    row = {"instance_id": instance_id, "username": "twice", "host": ""}
                    for _ in range(2):
                        await self._session.execute(tables["instance_accounts"].insert().values(**row))
                return await super().apply(instance_id, *found)

        monkeypatch.setattr(recording, "AccountSync", Broken)
        bad = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        good = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        operation = await syncs.sync([bad, good])
        assert await syncs.statuses(operation) == {bad: "failed", good: "succeeded"}
        states = {(each["state"], each["error_kind"]) for each in await syncs.records(operation)}
        assert states == {("failed", "not_recorded"), ("succeeded", None)}
        assert await syncs.rows("instance_accounts", instance_id=bad) == []

    async def test_do_not_stumble_over_what_servers_say(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        odd = ServerFailure(FailureKind.SERVER_ERROR, "NUL \0, half a pair \ud800" + "x" * 5_000, "hint", "C" * 100)
        servers["10.0.0.1"].before = failing("connect", odd)
        operation = await syncs.sync([await server_at(registry, "10.0.0.1", credential_id=credential_id)])
        [record, *_] = await syncs.records(operation)
        assert record["error"].startswith("NUL \N{REPLACEMENT CHARACTER}, half a pair ?")
        assert (len(record["error"]), record["server_code"]) == (2_000, "C" * 32)

    async def test_whose_password_cannot_be_opened(
        self, syncs: Syncs, registry: Registry, servers: FakeServers
    ) -> None:
        sealed_elsewhere = await registry.credential(encrypted_password="gAAAAA" + "x" * 80)
        operation = await syncs.sync([await server_at(registry, "10.0.0.1", credential_id=sealed_elsewhere)])
        [item] = await syncs.items(operation)
        assert (item["status"], item["detail"]["error"]["kind"]) == ("failed", "credential_unreadable")
        assert servers.targets == []

    async def test_at_addresses_that_are_not_allowed(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        hosts = ["169.254.169.254", "127.0.0.1", "::1"]
        ids = [await server_at(registry, host, credential_id=credential_id) for host in hosts]
        operation = await syncs.sync(ids)
        assert {item["detail"]["error"]["kind"] for item in await syncs.items(operation)} == {"address_denied"}
        assert servers.targets == []
        assert await syncs.rows("sync_endpoints") == []


class TestConnections:
    async def test_are_bounded_in_all_and_of_one_host(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        async def dawdle(name: str) -> None:
            await asyncio.sleep(0.03)

        ids = []
        for number in range(20):
            host = "10.0.0.1" if number < 10 else f"10.0.1.{number}"
            servers[host].before = dawdle
            ids.append(await server_at(registry, host, 7000 + number, credential_id=credential_id))
        operation = await syncs.sync(ids)
        assert operation.counts == {"succeeded": 20}
        assert (servers.most_at_once, servers.most_of_host["10.0.0.1"]) == (4, 2)

    async def test_are_bounded_over_several_operations(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        async def dawdle(name: str) -> None:
            await asyncio.sleep(0.03)

        operations = []
        for batch in range(3):
            ids = []
            for number in range(5):
                host = f"10.0.{batch}.{number}"
                servers[host].before = dawdle
                ids.append(await server_at(registry, host, credential_id=credential_id))
            operations.append(await syncs.start(ids))
        ended = await asyncio.gather(*(syncs.run(operation) for operation in operations))
        assert [operation.counts for operation in ended] == [{"succeeded": 5}] * 3
        assert servers.most_at_once == 4

    async def test_are_given_back_before_what_was_found_is_written(
        self,
        syncs: Syncs,
        registry: Registry,
        servers: FakeServers,
        credential_id: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """But no more servers are asked than can be written down: what they say would pile up."""
        is_free = asyncio.Event()
        write = InstanceSync._write

        async def late(*arguments: Any) -> ItemStatus:
            await is_free.wait()
            return await write(*arguments)

        monkeypatch.setattr(InstanceSync, "_write", late)
        ids = [await server_at(registry, f"10.0.0.{number}", credential_id=credential_id) for number in range(12)]
        operation = await syncs.start(ids)
        running = asyncio.create_task(syncs.run(operation))
        # Four are connected to at once; the last four keep their places until somebody has written.
        await until(lambda: len(servers.targets) == WRITING_TURNS + 4)
        await asyncio.sleep(0.2)
        assert (len(servers.targets), servers.at_once) == (WRITING_TURNS + 4, 0)
        is_free.set()
        assert (await running).counts == {"succeeded": 12}
        assert servers.most_at_once <= 4

    async def test_to_a_server_that_hangs_keep_nobody_waiting(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        hanging = asyncio.Event()

        async def hang(name: str) -> None:
            await hanging.wait()

        servers["10.0.0.1"].before = hang
        bad = [await server_at(registry, "10.0.0.1", 7000 + each, credential_id=credential_id) for each in range(6)]
        good = [await server_at(registry, f"10.0.1.{each}", credential_id=credential_id) for each in range(10)]
        operation = await syncs.start([*bad, *good])
        running = asyncio.create_task(syncs.run(operation))

        async def good_ones_are_done() -> bool:
            return set(good) <= (await syncs.statuses(operation)).keys()

        await until(good_ones_are_done, 5)
        assert servers.most_of_host["10.0.0.1"] == 2
        hanging.set()
        assert (await running).counts == {"succeeded": 16}


async def _hanging(servers: FakeServers, host: str) -> asyncio.Event:
    """Set when the host has been connected to; then it hangs."""
    reached = asyncio.Event()

    async def hang(name: str) -> None:
        if name == "accounts":
            reached.set()
            await asyncio.sleep(60)

    servers[host].before = hang
    return reached


class TestCancel:
    async def test_stops_within_a_second_and_resume_does_the_rest(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        good = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        slow = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        reached = await _hanging(servers, "10.0.0.2")
        operation = await syncs.start([good, slow])
        running = asyncio.create_task(syncs.run(operation))
        await reached.wait()

        async def good_one_is_done() -> bool:
            return good in await syncs.statuses(operation)

        await until(good_one_is_done)
        began = time.monotonic()
        await syncs.change(operation, "cancel")
        cancelled = await running
        assert time.monotonic() - began < 1.0
        assert (cancelled.state, cancelled.counts) == ("cancelled", {"succeeded": 1})
        states = {(each["instance_id"], each["state"]) for each in await syncs.records(operation)}
        assert states == {(good, "succeeded"), (slow, "cancelled")}
        assert [each["state"] for each in await syncs.rows("sync_sessions")] == ["cancelled"]
        assert servers.at_once == 0

        servers["10.0.0.2"].before = None
        asked = len(servers.targets)
        await syncs.change(operation, "resume")
        resumed = await syncs.run(operation)
        assert (resumed.state, resumed.counts) == ("succeeded", {"succeeded": 2})
        assert [target.host for target in servers.targets[asked:]] == ["10.0.0.2"]
        assert {each["state"] for each in await syncs.records(operation)} == {"succeeded"}
        assert [each["state"] for each in await syncs.rows("sync_sessions")] == ["succeeded"]

    async def test_while_many_are_under_way(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        """Turns are cut off at every place; nothing is lost, and nothing is done twice."""

        async def dawdle(name: str) -> None:
            await asyncio.sleep(0.03)

        ids = []
        for number in range(60):
            servers[f"10.0.0.{number}"].before = dawdle
            ids.append(await server_at(registry, f"10.0.0.{number}", credential_id=credential_id))
        operation = await syncs.start(ids)
        for pause in (0.1, 0.35, 0.6):
            running = asyncio.create_task(syncs.run(operation))
            await asyncio.sleep(pause)
            if running.done():
                break
            await syncs.change(operation, "cancel")
            cancelled = await running
            assert cancelled.state == "cancelled"
            assert "running" not in {each["state"] for each in await syncs.records(operation)}
            await syncs.change(operation, "resume")
        ended = await syncs.run(operation)
        assert (ended.state, ended.counts) == ("succeeded", {"succeeded": 60})
        assert len(await syncs.rows("instance_accounts")) == 60

    async def test_of_one_that_waits_does_not_leave_its_session_pending(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int, client: Any
    ) -> None:
        operation = await syncs.start([await server_at(registry, "10.0.0.1", credential_id=credential_id)])
        url = f"/api/v1/syncs/{operation.request['sync_session_id']}"
        assert (await client.get(url)).json()["state"] == "pending"
        await syncs.change(operation, "cancel")
        shown = (await client.get(url)).json()
        assert (shown["state"], shown["finished_at"] is None) == ("cancelled", False)
        assert [each["id"] for each in (await client.get("/api/v1/syncs?state=cancelled")).json()["items"]] == [
            shown["id"]
        ]
        assert (await client.delete(f"/api/v1/operations/{operation.id}")).status_code == 204
        gone = (await client.get(url)).json()
        assert (gone["state"], gone["done"], gone["total"]) == ("cancelled", None, None)


class TestRetry:
    async def test_does_failed_and_partial_ones_again(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        ids = [await server_at(registry, f"10.0.0.{number}", credential_id=credential_id) for number in range(3)]
        servers["10.0.0.0"].before = failing("connect", SIGN_IN_REFUSED)
        servers["10.0.0.1"].before = failing("accounts", NO_PERMISSION)
        operation = await syncs.sync(ids)
        assert operation.counts == {"failed": 1, "partial": 1, "succeeded": 1}
        servers["10.0.0.0"].before = servers["10.0.0.1"].before = None
        asked = len(servers.targets)
        await syncs.change(operation, "retry")
        retried = await syncs.run(operation)
        assert (retried.state, retried.counts) == ("succeeded", {"succeeded": 3})
        assert sorted(target.host for target in servers.targets[asked:]) == ["10.0.0.0", "10.0.0.1"]
        assert {each["error_kind"] for each in await syncs.records(operation)} == {None}
        assert len(await syncs.records(operation)) == 9


class TestTakeover:
    async def test_does_again_what_a_worker_left(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        reached = await _hanging(servers, "10.0.0.1")
        operation = await syncs.start([instance_id])
        dying = asyncio.create_task(syncs.run(operation))
        await reached.wait()
        dying.cancel()
        await asyncio.wait({dying})
        assert {each["state"] for each in await syncs.records(operation)} == {"running"}
        servers["10.0.0.1"].before = None
        taken = await syncs.run(operation)
        assert (taken.state, taken.attempt, taken.counts) == ("succeeded", 2, {"succeeded": 1})
        assert {each["state"] for each in await syncs.records(operation)} == {"succeeded"}

    async def test_fences_the_worker_before(
        self, app: FastAPI, admin: int, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        reached, frozen = asyncio.Event(), asyncio.Event()

        async def freeze(name: str) -> None:
            if name == "accounts" and not reached.is_set():
                reached.set()
                servers["10.0.0.1"].accounts = (FoundAccount("newer"),)
                await frozen.wait()

        servers["10.0.0.1"].before = freeze
        operation = await syncs.start([instance_id])
        first = asyncio.create_task(syncs.run(operation))
        await reached.wait()
        taken = await Syncs(app, admin).run(operation)
        assert (taken.state, taken.attempt) == ("succeeded", 2)
        servers["10.0.0.1"].accounts = (FoundAccount("older"),)
        frozen.set()
        await first
        assert [each["username"] for each in await syncs.rows("instance_accounts")] == ["newer"]
        assert len(await syncs.items(operation)) == 1

    async def test_hands_over_within_a_second(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        reached = await _hanging(servers, "10.0.0.1")
        operation = await syncs.start([await server_at(registry, "10.0.0.1", credential_id=credential_id)])
        running = asyncio.create_task(syncs.run(operation))
        await reached.wait()
        began = time.monotonic()
        syncs.runner.stop()
        handed = await running
        assert time.monotonic() - began < 1.0
        assert handed.state == "queued"
        # Nothing keeps the instance from being deleted meanwhile.
        assert {each["state"] for each in await syncs.records(operation)} == {"cancelled"}


class TestDeletion:
    async def test_for_good_during_a_sync(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int, client: Any
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        operation, answers = await self._deleted_during(syncs, servers, client, instance_id, "hard")
        assert [answer.status_code for answer in answers] == [409, 200]
        assert [each["code"] for each in answers[0].json()["blockers"]] == ["sync_running"]
        assert (operation.state, operation.counts) == ("failed", {"missing": 1})
        assert not any((await registry.rows_of([instance_id])).values())

    async def test_softly_during_a_sync(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int, client: Any
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        operation, answers = await self._deleted_during(syncs, servers, client, instance_id, "soft")
        assert [answer.status_code for answer in answers] == [409, 200]
        assert operation.counts == {"missing": 1}
        assert {each["state"] for each in await syncs.records(operation)} == {"cancelled"}
        assert await syncs.rows("instance_accounts") == []

    async def _deleted_during(
        self, syncs: Syncs, servers: FakeServers, client: Any, instance_id: int, mode: str
    ) -> Any:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def wait(name: str) -> None:
            if name == "settings":
                reached.set()
                await go_on.wait()

        servers["10.0.0.1"].before = wait
        operation = await syncs.start([instance_id])
        running = asyncio.create_task(syncs.run(operation))
        await reached.wait()
        url = f"/api/v1/instances/{instance_id}"
        answers = [await client.delete(url, params={"mode": mode, "force": force}) for force in (False, True)]
        go_on.set()
        return await running, answers

    async def test_before_its_turn(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int, client: Any
    ) -> None:
        """What was looked at when the operation began is looked at once more."""
        first, second = [
            await server_at(registry, "10.0.0.1", 7000 + each, credential_id=credential_id) for each in range(2)
        ]
        third = await server_at(registry, "10.0.0.1", 7003, credential_id=credential_id)
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def wait(name: str) -> None:
            reached.set()
            await go_on.wait()

        servers["10.0.0.1"].before = wait
        operation = await syncs.start([first, second, third])
        running = asyncio.create_task(syncs.run(operation))
        await reached.wait()
        changed = await client.patch(f"/api/v1/instances/{third}", json={"is_active": False})
        assert changed.status_code == 200
        go_on.set()
        await running
        assert await syncs.statuses(operation) == {first: "succeeded", second: "succeeded", third: "refused"}


class TestRights:
    async def test_of_an_operator_in_one_space(self, app: FastAPI, registry: Registry, servers: FakeServers) -> None:
        """Every statement of a sync passes where callers are kept inside their spaces."""
        space_id = await registry.space()
        operator = await registry.user(role="operator", space_id=space_id)
        syncs = Syncs(app, operator)
        key = await credential(app, registry, space_id=space_id)
        instance_id = await server_at(registry, "10.0.0.1", credential_id=key, space_id=space_id)
        elsewhere = await server_at(registry, "10.0.0.2", credential_id=await credential(app, registry))
        for _ in range(2):
            operation = await syncs.sync([instance_id, elsewhere])
            assert await syncs.statuses(operation) == {instance_id: "succeeded", elsewhere: "missing"}
            servers["10.0.0.1"].accounts = (FoundAccount("app", is_superuser=True), FoundAccount("new"))
        assert [target.host for target in servers.targets] == ["10.0.0.1", "10.0.0.1"]

    async def test_of_the_service_itself(self, app: FastAPI, registry: Registry, servers: FakeServers) -> None:
        space_id = await registry.space()
        key = await credential(app, registry, space_id=space_id)
        instance_id = await server_at(registry, "10.0.0.1", credential_id=key, space_id=space_id)
        syncs = Syncs(app, None)
        operation = await syncs.sync([instance_id], space_id=space_id)
        assert (operation.state, operation.counts, operation.user_id) == ("succeeded", {"succeeded": 1}, None)

    async def test_that_were_lost_meanwhile(
        self, app: FastAPI, registry: Registry, servers: FakeServers, database: Database
    ) -> None:
        space_id, other = await registry.space(), await registry.space()
        user_id = await registry.user()
        role_id = await registry.role(permissions=[Permission.SYNC_RUN, Permission.OPERATION_READ])
        await registry.grant(user_id, role_id, space_id)
        syncs = Syncs(app, user_id)
        key = await credential(app, registry, space_id=space_id)
        operation = await syncs.start([await server_at(registry, "10.0.0.1", credential_id=key, space_id=space_id)])
        async with database.writers.begin() as session:
            await session.execute(update(tables["role_grants"]).values(space_id=other))
        ended = await syncs.run(operation)
        assert (ended.state, servers.targets) == ("failed", [])
        assert ended.error is not None
        assert "sync:run" in ended.error["message"]
        assert [each["state"] for each in await syncs.rows("sync_sessions")] == ["failed"]


class TestClasses:
    async def test_follow_each_sync_of_accounts(
        self, syncs: Syncs, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        class_id = await registry.insert(
            "account_classifications",
            space_id=await registry.default_space(),
            name="superusers",
            rule={"is_superuser": True},
        )
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        found = []
        for is_superuser in (False, True, False):
            servers["10.0.0.1"].accounts = (FoundAccount("app", is_superuser=is_superuser),)
            await syncs.sync([instance_id])
            assigned = await syncs.rows("account_classification_assignments")
            found.append([each["classification_id"] for each in assigned])
        assert found == [[], [class_id], []]
