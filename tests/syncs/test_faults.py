"""Servers that misbehave beside others that do not: what is said of them, and that they hold up nobody."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.database import Database
from tests.factories import Registry
from tests.postgres_server import free_port
from tests.syncs.adapters.odd_servers import Relay, close_at_once, listening, say_nothing, saying
from tests.syncs.syncing import all_of, credential, ended, items_of, records_of, rows_of, server_at, synced, until
from tests.syncs.target_server import TargetServer

LIMIT_SECONDS = 5.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limits = {"sync_seconds": LIMIT_SECONDS, "sync_connect_seconds": LIMIT_SECONDS - 1}
    return settings.model_copy(update={"server_worker": "on", "allow_loopback": "on", **limits})


class Ports:
    """Of misbehaving servers: `hanging` passes on to a real one and stops in the middle of an answer."""

    def __init__(self) -> None:
        self.silent = self.closing = self.garbage = self.hanging = 0
        self.refusing = free_port()


@pytest.fixture
async def ports(target_server: TargetServer) -> AsyncIterator[Ports]:
    relay = Relay(target_server.port)
    # Signing in takes a few hundred bytes; the list of settings that follows takes thousands.
    relay.limit = 5_000
    ports = Ports()
    async with AsyncExitStack() as stack:
        ports.silent = await stack.enter_async_context(listening(say_nothing))
        ports.closing = await stack.enter_async_context(listening(close_at_once))
        ports.garbage = await stack.enter_async_context(listening(saying(b"\0\1SSH-2.0 what do you want?\r\n" * 100)))
        ports.hanging = await stack.enter_async_context(listening(relay))
        yield ports


class TestMisbehavingServers:
    async def test_are_told_apart_and_hold_up_nobody(
        self,
        app: FastAPI,
        client: httpx.AsyncClient,
        registry: Registry,
        target_server: TargetServer,
        ports: Ports,
    ) -> None:
        key = await target_server.credential(app, registry)
        bad = {
            name: await target_server.instance(registry, key, port=getattr(ports, name))
            for name in ("silent", "closing", "garbage", "hanging", "refusing")
        }
        good = [await target_server.instance(registry, key, f"127.0.1.{number}") for number in range(1, 13)]
        began = time.monotonic()
        operation = await synced(client, "/syncs", instance_ids=[*bad.values(), *good])
        assert time.monotonic() - began < 5 * LIMIT_SECONDS
        items = {item["instance_id"]: item for item in await items_of(client, operation)}
        assert {items[key]["status"] for key in good} == {"succeeded"}
        kinds = {name: items[key]["error"]["kind"] for name, key in bad.items() if items[key]["status"] == "failed"}
        assert kinds.pop("hanging", "timed_out") == "timed_out"
        assert kinds == {"silent": "timed_out", "closing": "closed", "garbage": "protocol", "refusing": "refused"}
        assert items[bad["hanging"]]["status"] in ("failed", "partial")
        for item in (items[key] for key in bad.values()):
            assert item["status"] == "partial" or (item["error"]["message"] and item["error"]["hint"])

    async def test_do_not_keep_good_ones_waiting(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, target_server: TargetServer, ports: Ports
    ) -> None:
        """Good ones are done while those that hang are still being waited for."""
        key = await target_server.credential(app, registry)
        silent = await target_server.instance(registry, key, port=ports.silent)
        good = [await target_server.instance(registry, key, f"127.0.1.{number}") for number in range(1, 6)]
        operation = await synced(client, "/syncs", instance_ids=[silent, *good])
        records = await records_of(client, operation, kind="accounts")
        finished_at = {record["instance_id"]: record["finished_at"] for record in records}
        assert max(finished_at[key] for key in good) < finished_at[silent]

    async def test_open_their_circuit(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, database: Database, ports: Ports
    ) -> None:
        key = await credential(app, registry)
        instance_id = await server_at(registry, "127.0.0.1", ports.refusing, db_type="postgresql", credential_id=key)
        kinds = []
        for _ in range(4):
            operation = await synced(client, "/syncs", instance_ids=[instance_id])
            [item] = await items_of(client, operation)
            kinds.append(item["error"]["kind"])
        assert kinds == ["refused", "refused", "refused", "circuit_open"]
        [endpoint] = await rows_of(database, "sync_endpoints")
        assert (endpoint["host"], endpoint["port"], endpoint["error_kind"]) == ("127.0.0.1", ports.refusing, "refused")
        shown = (await client.get(f"/api/v1/syncs/{operation['sync_session_id']}")).json()
        assert [each["instance_id"] for each in shown["unreachable"]] == [instance_id]


class TestCancel:
    async def test_stops_within_a_second_though_a_server_hangs(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, ports: Ports
    ) -> None:
        key = await credential(app, registry)
        instance_id = await server_at(registry, "127.0.0.1", ports.silent, db_type="postgresql", credential_id=key)
        operation = (await client.post("/api/v1/syncs", json={"instance_ids": [instance_id]})).json()
        url = f"/api/v1/operations/{operation['id']}"
        async with asyncio.timeout(20):
            await until(lambda: all_of(client, f"/syncs/{operation['sync_session_id']}/records"))
            began = time.monotonic()
            assert (await client.post(f"{url}/cancel")).status_code == 200
            await ended(client, operation)
        assert time.monotonic() - began < 1.0
        assert (await client.get(url)).json()["state"] == "cancelled"
