"""Connection tests: of an instance, of parameters that are not saved, of many; and what is known of connections."""

from datetime import timedelta
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.config import Settings
from app.database import Database
from app.models.base import utc_now
from app.models.instance import Instance
from app.syncs.failures import FailureKind, ServerFailure
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as
from tests.syncs.syncing import PASSWORD, FakeServers, credential, failing, items_of, rows_of, server_at, synced
from tests.syncs.target_server import USERNAME, TargetServer

REFUSED = ServerFailure(FailureKind.REFUSED, "nobody listens", "look whether it runs", "ECONNREFUSED")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": "on", "sync_connect_seconds": 2.0, "sync_seconds": 5.0})


@pytest.fixture
async def credential_id(app: FastAPI, registry: Registry) -> int:
    return await credential(app, registry, username=USERNAME)


async def report_of(client: httpx.AsyncClient, instance_id: int) -> dict[str, Any]:
    answer = await client.post(f"/api/v1/instances/{instance_id}/test-connection")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status_of(client: httpx.AsyncClient, instance_id: int) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/instances/{instance_id}/connection-status")
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestRealServer:
    async def test_tells_version_and_round_trip_and_keeps_them(
        self, client: httpx.AsyncClient, registry: Registry, target_server: TargetServer, credential_id: int
    ) -> None:
        instance_id = await target_server.instance(registry, credential_id)
        before = (await client.get(f"/api/v1/instances/{instance_id}")).json()
        report = await report_of(client, instance_id)
        assert (report["ok"], report["failure"]) == (True, None)
        assert 0 < report["round_trip_ms"] < 5_000
        after = (await client.get(f"/api/v1/instances/{instance_id}")).json()
        assert after["version"] == report["version"]
        assert after["last_connected_at"] is not None
        assert [after[name] for name in ("revision", "updated_at")] == [
            before[name] for name in ("revision", "updated_at")
        ]
        assert await status_of(client, instance_id) == {
            "status": "good",
            "last_connected_at": after["last_connected_at"],
            "version": report["version"],
            "unreachable_since": None,
        }

    async def test_a_wrong_password_is_told_and_never_shown(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, target_server: TargetServer
    ) -> None:
        wrong = await credential(app, registry, "not-the-passw0rd", name="wrong", username=USERNAME)
        report = await report_of(client, await target_server.instance(registry, wrong))
        assert (report["ok"], report["version"], report["round_trip_ms"]) == (False, None, None)
        assert (report["failure"]["kind"], report["failure"]["server_code"]) == ("sign_in_refused", "28P01")
        assert report["failure"]["hint"]
        assert "not-the-passw0rd" not in str(report)

    async def test_a_port_where_nobody_listens(
        self, client: httpx.AsyncClient, registry: Registry, credential_id: int, free_tcp_port: int
    ) -> None:
        instance_id = await server_at(
            registry, "127.0.0.1", free_tcp_port, db_type="postgresql", credential_id=credential_id
        )
        assert (await report_of(client, instance_id))["failure"]["kind"] == "refused"
        assert (await status_of(client, instance_id))["unreachable_since"] is not None

    async def test_a_database_that_is_not_there(
        self, client: httpx.AsyncClient, registry: Registry, target_server: TargetServer, credential_id: int
    ) -> None:
        instance_id = await target_server.instance(registry, credential_id, database_name="nowhere")
        assert (await report_of(client, instance_id))["failure"]["kind"] == "database_missing"


class TestInstance:
    async def test_a_disabled_one_is_tested(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id, is_active=False)
        assert (await report_of(client, instance_id))["ok"]

    async def test_a_deleted_one_is_409(
        self, client: httpx.AsyncClient, registry: Registry, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id, deleted_at=utc_now())
        answer = await client.post(f"/api/v1/instances/{instance_id}/test-connection")
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)

    async def test_without_credential_it_is_422(self, client: httpx.AsyncClient, registry: Registry) -> None:
        answer = await client.post(f"/api/v1/instances/{await server_at(registry, '10.0.0.1')}/test-connection")
        assert (answer.status_code, "no credential" in answer.json()["detail"]) == (422, True)

    async def test_a_missing_one_is_404(self, client: httpx.AsyncClient) -> None:
        assert (await client.post("/api/v1/instances/999/test-connection")).status_code == 404
        assert (await client.get("/api/v1/instances/999/connection-status")).status_code == 404

    async def test_success_closes_an_open_circuit(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        servers: FakeServers,
        credential_id: int,
        database: Database,
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        servers["10.0.0.1"].before = failing("connect", REFUSED)
        for _ in range(4):
            assert (await report_of(client, instance_id))["failure"]["kind"] == "refused"
        [known] = await rows_of(database, "sync_endpoints")
        assert (known["failures"], known["retry_at"] is not None) == (4, True)
        servers["10.0.0.1"].before = None
        assert (await report_of(client, instance_id))["ok"]
        assert await rows_of(database, "sync_endpoints") == []

    async def test_an_address_that_is_denied(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "169.254.169.254", credential_id=credential_id)
        assert (await report_of(client, instance_id))["failure"]["kind"] == "address_denied"
        assert servers.targets == []


class TestParameters:
    URL: ClassVar = "/api/v1/connections/test"
    SERVER: ClassVar = {"db_type": "redis", "host": "10.0.0.1"}

    async def test_are_tried_and_kept_nowhere(
        self, client: httpx.AsyncClient, servers: FakeServers, database: Database
    ) -> None:
        body = self.SERVER | {"username": "app", "password": PASSWORD, "tls_mode": "require"}
        answer = await client.post(self.URL, json=body)
        assert answer.json() == {"ok": True, "version": "7.2.4", "round_trip_ms": 1.0, "failure": None}
        [target] = servers.targets
        assert (target.port, target.username, target.tls_mode.value) == (6379, "app", "require")
        assert target.password.get_secret_value() == PASSWORD
        for table in ("instances", "credentials", "sync_endpoints"):
            assert await rows_of(database, table) == []
        assert PASSWORD not in str(await rows_of(database, "audit_events"))

    async def test_with_a_stored_credential(
        self, client: httpx.AsyncClient, servers: FakeServers, credential_id: int
    ) -> None:
        answer = await client.post(self.URL, json=self.SERVER | {"credential_id": credential_id})
        assert answer.json()["ok"]
        assert servers.targets[0].password.get_secret_value() == PASSWORD

    async def test_a_stored_credential_asks_for_more(
        self, app: FastAPI, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        """Else it could be shown to a server of one's own."""
        user = await registry.user()
        await registry.grant(user, await registry.role(permissions=["sync:run", "credential:read"]))
        async with client_of(app, await signed_in_as(app, user)) as client:
            answer = await client.post(self.URL, json=self.SERVER | {"credential_id": credential_id})
        assert (answer.status_code, servers.targets) == (403, [])

    async def test_another_spaces_credential_does_not_exist(
        self, app: FastAPI, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        operator = await registry.user(role="operator", space_id=await registry.space())
        async with client_of(app, await signed_in_as(app, operator)) as client:
            answer = await client.post(self.URL, json=self.SERVER | {"credential_id": credential_id})
        assert (answer.status_code, servers.targets) == (404, [])

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"credential_id": 1, "username": "app"},
            {"username": "app", "db_type": "db2"},
            {"username": "app", "port": 0},
            {"username": "app", "tls_mode": "maybe"},
            {"username": "app", "tls_ca_file": "../secret.key"},
            {"username": "app", "password": "x" * 1025},
        ],
    )
    async def test_what_is_wrong_is_422(
        self, client: httpx.AsyncClient, servers: FakeServers, values: dict[str, Any]
    ) -> None:
        answer = await client.post(self.URL, json=self.SERVER | values)
        assert (answer.status_code, answer.json()["code"], servers.targets) == (422, 25000, [])
        assert "x" * 50 not in answer.text

    async def test_a_failure_is_told_with_kind_and_hint(self, client: httpx.AsyncClient, servers: FakeServers) -> None:
        servers["10.0.0.1"].before = failing("connect", REFUSED)
        answer = await client.post(self.URL, json=self.SERVER | {"username": "app"})
        assert answer.status_code == 200
        assert answer.json()["failure"] == {
            "kind": "refused",
            "message": "nobody listens",
            "hint": "look whether it runs",
            "server_code": "ECONNREFUSED",
        }

    async def test_an_adapters_mistake_is_no_500(self, client: httpx.AsyncClient, servers: FakeServers) -> None:
        async def broken(_: str) -> None:
            raise RuntimeError(f"with {PASSWORD}")

        servers["10.0.0.1"].before = broken
        answer = await client.post(self.URL, json=self.SERVER | {"username": "app", "password": PASSWORD})
        assert (answer.status_code, answer.json()["failure"]["kind"]) == (200, "server_error")
        assert PASSWORD not in answer.text


class TestMany:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"server_worker": "on"})

    async def test_each_is_an_item(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        good = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        bad = await server_at(registry, "10.0.0.2", credential_id=credential_id)
        without = await server_at(registry, "10.0.0.3")
        deleted = await server_at(registry, "10.0.0.4", credential_id=credential_id, deleted_at=utc_now())
        servers["10.0.0.2"].before = failing("check", REFUSED)
        ids = [good, bad, without, deleted, 999, good]
        operation = await synced(client, "/instances/batch-test-connections", instance_ids=ids)
        assert (operation["kind"], operation["state"], operation["total"]) == ("connection_test", "partial", 5)
        items = {item["instance_id"]: item for item in await items_of(client, operation)}
        assert {key: item["status"] for key, item in items.items()} == {
            good: "succeeded", bad: "failed", without: "refused", deleted: "refused", 999: "missing",
        }  # fmt: skip
        assert (items[good]["version"], items[good]["round_trip_ms"]) == ("7.2.4", 1.0)
        assert items[bad]["error"]["kind"] == "refused"
        assert (items[without]["error"]["kind"], items[deleted]["error"]["kind"]) == ("no_credential", "deleted")
        assert (await status_of(client, good))["status"] == "good"

    async def test_retry_tries_what_failed(
        self, client: httpx.AsyncClient, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        servers["10.0.0.1"].before = failing("connect", REFUSED)
        failed = await synced(client, "/instances/batch-test-connections", instance_ids=[instance_id])
        assert failed["state"] == "failed"
        servers["10.0.0.1"].before = None
        assert (await synced(client, f"/operations/{failed['id']}/retry"))["state"] == "succeeded"

    @pytest.mark.parametrize("ids", [[], list(range(1, 1_002))])
    async def test_none_or_too_many_are_422(self, client: httpx.AsyncClient, ids: list[int]) -> None:
        answer = await client.post("/api/v1/instances/batch-test-connections", json={"instance_ids": ids})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/body/instance_ids")

    async def test_another_spaces_instances_are_missing(
        self, app: FastAPI, registry: Registry, servers: FakeServers, credential_id: int
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=credential_id)
        operator = await registry.user(role="operator", space_id=await registry.space())
        async with client_of(app, await signed_in_as(app, operator)) as client:
            operation = await synced(client, "/instances/batch-test-connections", instance_ids=[instance_id])
            [item] = await items_of(client, operation)
            assert (await client.post(f"/api/v1/instances/{instance_id}/test-connection")).status_code == 404
            assert (await client.get(f"/api/v1/instances/{instance_id}/connection-status")).status_code == 404
        assert (item["status"], servers.targets) == ("missing", [])


class TestStatus:
    @pytest.mark.parametrize(
        ("age", "expected"),
        [
            (None, "unknown"),
            (timedelta(minutes=59), "good"),
            (timedelta(minutes=61), "stale"),
            (timedelta(hours=23, minutes=59), "stale"),
            (timedelta(hours=24, minutes=1), "poor"),
        ],
    )
    async def test_is_told_by_the_last_connection(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        database: Database,
        age: timedelta | None,
        expected: str,
    ) -> None:
        instance_id = await registry.instance()
        if age is not None:
            async with database.writers.begin() as session:
                await session.execute(update(Instance).values(last_connected_at=utc_now() - age))
        assert (await status_of(client, instance_id))["status"] == expected

    async def test_a_viewer_sees_it_and_tests_nothing(self, app: FastAPI, registry: Registry) -> None:
        instance_id = await registry.instance()
        viewer = await registry.user(role="viewer")
        async with client_of(app, await signed_in_as(app, viewer)) as client:
            assert (await status_of(client, instance_id))["status"] == "unknown"
            for path in (f"/instances/{instance_id}/test-connection", "/connections/test"):
                answer = await client.post(
                    f"/api/v1{path}", json={"db_type": "redis", "host": "10.0.0.1", "username": ""}
                )
                assert (answer.status_code, answer.json()["code"]) == (403, 25020)
