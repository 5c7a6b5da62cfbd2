"""Syncs over HTTP: asked for, listed, read, by whom and for what."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.access.permissions import Permission
from app.config import Settings
from app.database import Database
from app.syncs.failures import FailureKind, ServerFailure
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as
from tests.syncs.syncing import (
    PASSWORD,
    FakeServers,
    Syncs,
    all_of,
    credential,
    failing,
    items_of,
    records_of,
    rows_of,
    server_at,
    synced,
)

REFUSED = ServerFailure(FailureKind.REFUSED, "connection refused", "is it running?")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"server_worker": "on"})


@pytest.fixture
async def credential_id(app: FastAPI, registry: Registry) -> int:
    return await credential(app, registry)


class TestOne:
    async def test_is_synced(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        revision = (await client.get(f"/api/v1/instances/{instance_id}")).headers["etag"]
        answer = await client.post(f"/api/v1/instances/{instance_id}/sync", json={"kinds": ["accounts"]})
        assert answer.status_code == 202
        body = answer.json()
        assert (body["kind"], body["request"]) == ("instance_sync", {"kinds": ["accounts"], "instances": 1})
        assert answer.headers["location"] == f"/api/v1/operations/{body['id']}"
        operation = await synced(client, f"/instances/{instance_id}/sync")
        assert (operation["state"], operation["counts"]) == ("succeeded", {"succeeded": 1})
        [item] = await items_of(client, operation)
        assert (item["instance_id"], item["status"], "error" in item) == (instance_id, "succeeded", False)
        assert item["kinds"]["accounts"]["found"] == 1
        assert [record["kind"] for record in await records_of(client, operation)] == [
            "accounts", "capacity", "settings",
        ]  # fmt: skip
        instance = await client.get(f"/api/v1/instances/{instance_id}")
        assert instance.json()["version"] == "7.2.4"
        assert instance.json()["last_connected_at"] is not None
        # What a user has in hand stays good: nobody changed the instance.
        assert instance.headers["etag"] == revision

    async def test_is_tried_though_it_was_unreachable_a_moment_ago(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        servers["10.0.0.1"].before = failing("connect", REFUSED)
        for _ in range(3):
            await synced(client, "/syncs", instance_ids=[instance_id])
        refused = await synced(client, "/syncs", instance_ids=[instance_id])
        [item] = await items_of(client, refused)
        assert item["error"]["kind"] == "circuit_open"
        assert item["unreachable_since"] is not None
        servers["10.0.0.1"].before = None
        assert (await synced(client, f"/instances/{instance_id}/sync"))["state"] == "succeeded"

    @pytest.mark.parametrize(
        ("values", "status", "part"),
        [
            ({"deleted_at": datetime(2026, 1, 1, tzinfo=UTC)}, 409, "is deleted"),
            ({"is_active": False}, 409, "is disabled"),
            ({"credential_id": None}, 422, "no credential"),
        ],
    )
    async def test_that_cannot_be(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        database: Database,
        credential_id: int,
        values: dict[str, Any],
        status: int,
        part: str,
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", **{"credential_id": credential_id} | values)
        answer = await client.post(f"/api/v1/instances/{instance_id}/sync")
        assert (answer.status_code, part in answer.json()["detail"]) == (status, True)
        assert await rows_of(database, "sync_sessions") == []

    async def test_that_is_missing(self, client: httpx.AsyncClient) -> None:
        assert (await client.post("/api/v1/instances/999999/sync")).status_code == 404

    @pytest.mark.parametrize("kinds", [[], ["sizes"], ["accounts", "x"], "accounts", None, [1]])
    async def test_of_unknown_kinds(
        self, client: httpx.AsyncClient, registry: Registry, credential_id: int, kinds: Any
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        for path, body in ((f"/instances/{instance_id}/sync", {}), ("/syncs", {"instance_ids": [instance_id]})):
            answer = await client.post(f"/api/v1{path}", json={**body, "kinds": kinds})
            assert (answer.status_code, answer.json()["code"]) == (422, 25000)

    async def test_in_an_archived_space(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        key = await credential(app, registry, space_id=space_id)
        instance_id = await server_at(registry, "10.0.0.1", credential_id=key, space_id=space_id)
        archived = datetime.now(UTC).isoformat()
        assert (await client.patch(f"/api/v1/spaces/{space_id}", json={"archived_at": archived})).status_code == 200
        assert (await client.post(f"/api/v1/instances/{instance_id}/sync")).status_code == 409


class TestMany:
    async def test_by_ids(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        ids = [await server_at(registry, f"10.0.0.{number}", credential_id=credential_id) for number in range(3)]
        without = await server_at(registry, "10.0.0.9")
        operation = await synced(client, "/syncs", instance_ids=[ids[0], ids[0], *ids, without, 999_999])
        assert (operation["total"], operation["state"]) == (5, "partial")
        items = await items_of(client, operation)
        assert [(item["position"], item["instance_id"], item["status"]) for item in items] == [
            (1, ids[0], "succeeded"), (2, ids[1], "succeeded"), (3, ids[2], "succeeded"), (4, without, "refused"),
            (5, 999_999, "missing"),
        ]  # fmt: skip
        assert items[3]["error"]["kind"] == "no_credential"
        assert items[3]["error"]["hint"]

    async def test_by_filter(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        wanted = await server_at(registry, "10.0.0.1", credential_id=credential_id, environment="testing")
        without = await server_at(registry, "10.0.0.2", environment="testing")
        await server_at(registry, "10.0.0.3", credential_id=credential_id)
        await server_at(registry, "10.0.0.4", credential_id=credential_id, environment="testing", is_active=False)
        now = datetime.now(UTC)
        await server_at(registry, "10.0.0.5", credential_id=credential_id, environment="testing", deleted_at=now)
        operation = await synced(client, "/syncs", filter={"environment": "testing"}, kinds=["capacity"])
        found = {item["instance_id"]: item["status"] for item in await items_of(client, operation)}
        assert found == {wanted: "succeeded", without: "refused"}
        nothing = await synced(client, "/syncs", filter={"q": "nowhere"})
        assert (nothing["state"], nothing["total"]) == ("succeeded", 0)

    async def test_by_tags(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        ids = [await server_at(registry, f"10.0.0.{number}", credential_id=credential_id) for number in range(2)]
        await registry.insert("instance_tags", instance_id=ids[1], tag_id=await registry.tag("tier-1"))
        for tag in ("tier-1", ["tier-1"]):
            operation = await synced(client, "/syncs", filter={"tag": tag, "db_type": "redis"})
            assert [item["instance_id"] for item in await items_of(client, operation)] == [ids[1]]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"instance_ids": [1], "filter": {}},
            {"instance_ids": []},
            {"instance_ids": [0]},
            {"instance_ids": [True]},
            {"instance_ids": ["x"]},
            {"filter": {"status": "active"}},
            {"filter": {"db_type": "db2"}},
            {"filter": {"space_id": 0}},
            {"filter": []},
            {"instance_ids": [1], "unknown": 1},
        ],
    )
    async def test_that_are_not_named_well(self, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        answer = await client.post("/api/v1/syncs", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, 25000)

    async def test_of_a_space_that_does_not_exist(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/v1/syncs", json={"filter": {"space_id": 999_999}})
        assert (answer.status_code, answer.json()["code"]) == (404, 25015)

    async def test_of_several_spaces(self, client: httpx.AsyncClient, registry: Registry) -> None:
        ids = [await server_at(registry, f"10.0.0.{number}", space_id=await registry.space()) for number in range(2)]
        answer = await client.post("/api/v1/syncs", json={"instance_ids": ids})
        assert (answer.status_code, "one space at a time" in answer.json()["detail"]) == (422, True)

    async def test_once_under_one_key(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        database: Database,
        servers: FakeServers,
        credential_id: int,
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        body, key = {"instance_ids": [instance_id]}, {"Idempotency-Key": "nightly-1"}
        answers = [await client.post("/api/v1/syncs", json=body, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        assert len(await rows_of(database, "sync_sessions")) == 1
        other = await client.post("/api/v1/syncs", json={"instance_ids": [1, 2]}, headers=key)
        assert other.status_code == 422


class TestLimit:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_ids": 3})

    async def test_of_instances(
        self, client: httpx.AsyncClient, registry: Registry, credential_id: int, servers: FakeServers
    ) -> None:
        for number in range(4):
            await server_at(registry, f"10.0.0.{number}", credential_id=credential_id)
        answer = await client.post("/api/v1/syncs", json={"instance_ids": [1, 2, 3, 4]})
        assert (answer.status_code, "at most 3" in answer.json()["detail"]) == (422, True)
        assert (await synced(client, "/syncs", instance_ids=[1, 1, 2, 3]))["total"] == 3
        # It is one of what clients list.
        assert (await synced(client, "/syncs", filter={}))["total"] == 4


class TestReading:
    async def test_a_list(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        first, second = [
            await server_at(registry, f"10.0.0.{number}", credential_id=credential_id) for number in range(2)
        ]
        servers["10.0.0.1"].before = failing("connect", REFUSED)
        operations = [
            await synced(client, "/syncs", instance_ids=[first], kinds=["accounts"]),
            await synced(client, "/syncs", instance_ids=[second], kinds=["capacity", "settings"]),
            await synced(client, "/syncs", instance_ids=[first, second]),
        ]
        ids = [operation["sync_session_id"] for operation in operations]

        async def found(**query: Any) -> list[int]:
            return [each["id"] for each in await all_of(client, "/syncs", **query)]

        assert await found() == ids[::-1]
        assert await found(limit=1) == ids[::-1]
        assert await found(state="partial") == [ids[2]]
        assert await found(state="succeeded") == [ids[0]]
        assert await found(kind="capacity") == [ids[2], ids[1]]
        assert await found(instance_id=first) == [ids[2], ids[0]]
        assert await found(trigger="scheduled") == []
        assert await found(trigger="manual", state="failed", kind="settings", instance_id=second) == [ids[1]]
        page = (await client.get("/api/v1/syncs", params={"limit": 1, "include_total": True})).json()
        assert page["total"] == 3
        assert page["items"][0]["operation_id"] == operations[2]["id"]
        assert (page["items"][0]["done"], page["items"][0]["total"]) == (2, 2)

    async def test_one(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        good = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        bad = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        servers["10.0.0.2"].before = failing("connect", REFUSED)
        operation = await synced(client, "/syncs", instance_ids=[good, bad])
        shown = (await client.get(f"/api/v1/syncs/{operation['sync_session_id']}")).json()
        assert (shown["state"], shown["trigger"], shown["kinds"]) == (
            "partial", "manual", ["accounts", "capacity", "settings"],
        )  # fmt: skip
        assert (shown["items"], shown["records"]) == (
            {"succeeded": 1, "failed": 1}, {"succeeded": 3, "failed": 3},
        )  # fmt: skip
        assert (shown["slowest"], shown["unreachable_count"]) == ([], 1)
        assert [(each["instance_id"], each["host"]) for each in shown["unreachable"]] == [(bad, "10.0.0.2")]
        assert shown["started_at"] <= shown["finished_at"]

    async def test_records(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        good = await server_at(registry, "10.0.0.1", credential_id=credential_id, name="good-one")
        bad = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        servers["10.0.0.2"].before = failing("connect", REFUSED)
        operation = await synced(client, "/syncs", instance_ids=[good, bad])
        assert len(await records_of(client, operation, limit=2)) == 6
        failed = await records_of(client, operation, state="failed", kind="capacity")
        assert [(each["instance_id"], each["error_kind"], each["error"]) for each in failed] == [
            (bad, "refused", "connection refused")
        ]
        [record] = await records_of(client, operation, instance_id=good, kind="accounts")
        assert (record["instance_name"], record["found"], record["created"]) == ("good-one", 1, 1)
        assert (record["state"], record["unreachable_since"]) == ("succeeded", None)

    async def test_what_is_missing(self, client: httpx.AsyncClient) -> None:
        for path in ("/syncs/999999", "/syncs/999999/records"):
            assert (await client.get(f"/api/v1{path}")).status_code == 404


class TestProgress:
    async def test_names_the_slowest(
        self, app: FastAPI, admin: int, client: httpx.AsyncClient, registry: Registry, servers: FakeServers
    ) -> None:
        syncs = Syncs(app, admin)
        key = await credential(app, registry)
        slow = await server_at(registry, "10.0.0.1", credential_id=key, name="slow-one")
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def wait(name: str) -> None:
            reached.set()
            await go_on.wait()

        servers["10.0.0.1"].before = wait
        operation = await syncs.start([slow])
        url = f"/api/v1/syncs/{operation.request['sync_session_id']}"
        waiting = (await client.get(url)).json()
        assert (waiting["state"], waiting["records"], waiting["done"], waiting["total"]) == ("pending", {}, 0, 1)
        running = asyncio.create_task(syncs.run(operation))
        await reached.wait()
        shown = (await client.get(url)).json()
        assert (shown["state"], shown["records"]) == ("running", {"running": 3})
        assert [(each["instance_id"], each["name"]) for each in shown["slowest"]] == [(slow, "slow-one")]
        go_on.set()
        await running
        assert (await client.get(url)).json()["slowest"] == []


class TestAccess:
    async def test_to_start(
        self, app: FastAPI, registry: Registry, servers: FakeServers, stranger: httpx.AsyncClient
    ) -> None:
        space_id = await registry.space()
        key = await credential(app, registry, space_id=space_id)
        instance_id = await server_at(registry, "10.0.0.1", credential_id=key, space_id=space_id)
        calls = [(f"/instances/{instance_id}/sync", {}), ("/syncs", {"instance_ids": [instance_id]})]
        expected = {"viewer": 403, "operator": 202}
        for role, status in expected.items():
            user_id = await registry.user(role=role, space_id=space_id)
            async with client_of(app, await signed_in_as(app, user_id)) as client:
                for path, body in calls:
                    assert (await client.post(f"/api/v1{path}", json=body)).status_code == status
        for path, body in calls:
            assert (await stranger.post(f"/api/v1{path}", json=body)).status_code == 401

    async def test_from_another_space(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, servers: FakeServers
    ) -> None:
        space_id, other = await registry.space(), await registry.space()
        key = await credential(app, registry, space_id=space_id)
        instance_id = await server_at(registry, "10.0.0.1", credential_id=key, space_id=space_id)
        operation = await synced(client, "/syncs", instance_ids=[instance_id])
        outsider = await registry.user(role="operator", space_id=other)
        async with client_of(app, await signed_in_as(app, outsider)) as elsewhere:
            assert (await elsewhere.post(f"/api/v1/instances/{instance_id}/sync")).status_code == 404
            for more in ("", "/records"):
                path = f"/api/v1/syncs/{operation['sync_session_id']}{more}"
                assert (await elsewhere.get(path)).status_code == 404
            assert (await elsewhere.get("/api/v1/syncs")).json()["items"] == []
            missing = await synced(elsewhere, "/syncs", instance_ids=[instance_id])
            assert missing["counts"] == {"missing": 1}

    async def test_to_read(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        operation = await synced(client, "/syncs", instance_ids=[instance_id])
        paths = ["/syncs", f"/syncs/{operation['sync_session_id']}", f"/syncs/{operation['sync_session_id']}/records"]
        role_id = await registry.role(permissions=[Permission.SYNC_RUN])
        runner, viewer = await registry.user(), await registry.user(role="viewer")
        await registry.grant(runner, role_id)
        for user_id, status in ((runner, 403), (viewer, 200)):
            async with client_of(app, await signed_in_as(app, user_id)) as some:
                assert [(await some.get(f"/api/v1{path}")).status_code for path in paths] == [status] * 3


class TestSecrets:
    async def test_are_nowhere(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        database: Database,
        servers: FakeServers,
        credential_id: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        good = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        bad = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        servers["10.0.0.2"].before = failing("connect", REFUSED)
        operation = await synced(client, "/syncs", instance_ids=[good, bad])
        told = [operation, await items_of(client, operation), await records_of(client, operation)]
        for table in ("audit_events", "operations", "operation_items", "sync_instance_records", "sync_sessions"):
            told += await rows_of(database, table)
        assert servers.targets[0].password.get_secret_value() == PASSWORD
        assert PASSWORD not in str(told) + caplog.text
