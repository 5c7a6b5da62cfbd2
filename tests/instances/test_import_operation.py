"""Imports in the background: the same verdicts as at once, and what becomes of them on the way."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, update

from app.access.permissions import Permission
from app.config import Settings
from app.database import Database
from app.instances.chunk_applier import ChunkApplier
from app.instances.chunk_writer import ChunkWriter
from app.models.base import utc_now
from app.models.operation import Operation
from app.models.role import RoleGrant
from app.models.space import Space
from app.models.user import User
from tests.conftest import client_of
from tests.factories import Registry
from tests.instances.importing import csv_of, import_csv, instances, problem, rows, upload
from tests.signing_in import key_of, signed_in_as

DATA = Path(__file__).parent.parent / "data"
WAIT_SECONDS = 30
CHUNK_ROWS = 3
URL = "/api/v1/operations"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"server_worker": "on", "batch_chunk_rows": CHUNK_ROWS})


async def start(client: httpx.AsyncClient, content: str | bytes, **form: Any) -> int:
    answer = await upload(client, content, background="true", **form)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"{URL}/{body['id']}"
    assert answer.headers["retry-after"]
    return int(body["id"])


async def until(
    client: httpx.AsyncClient, operation_id: int, is_so: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found = (await client.get(f"{URL}/{operation_id}")).json()
            if is_so(found):
                return dict(found)
            await asyncio.sleep(0.02)


async def ended(client: httpx.AsyncClient, operation_id: int) -> dict[str, Any]:
    return await until(client, operation_id, lambda found: found["finished_at"] is not None)


async def done(client: httpx.AsyncClient, content: str | bytes, **form: Any) -> tuple[dict[str, Any], list[Any]]:
    """The operation at its end, and all its items."""
    operation_id = await start(client, content, **form)
    operation = await ended(client, operation_id)
    return operation, await items(client, operation_id)


async def items(client: httpx.AsyncClient, operation_id: int) -> list[dict[str, Any]]:
    answer = await client.get(f"{URL}/{operation_id}/items", params={"limit": 200})
    assert answer.json()["next_cursor"] is None
    return list(answer.json()["items"])


def statuses(found: list[dict[str, Any]]) -> dict[int, str]:
    return {item["line"]: item["status"] for item in found}


class Gate:
    """Lets chunks, which are settled already, through to the database one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived = asyncio.Semaphore(0)
        self._go = asyncio.Semaphore(0)
        apply = ChunkApplier.apply

        async def waiting(applier: ChunkApplier, *arguments: Any) -> Any:
            self.arrived.release()
            await self._go.acquire()
            return await apply(applier, *arguments)

        monkeypatch.setattr(ChunkApplier, "apply", waiting)

    def open(self, chunks: int = 10_000) -> None:
        for _ in range(chunks):
            self._go.release()


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


async def cancel(client: httpx.AsyncClient, app: FastAPI, operation_id: int) -> None:
    """Asks for it, and waits until its worker has heard."""
    answer = await client.post(f"{URL}/{operation_id}/cancel")
    assert answer.json()["cancel_requested"] is True
    [work] = app.state.operation_runner._under_way
    async with asyncio.timeout(WAIT_SECONDS):
        await work.stop.wait()


class TestVerdicts:
    @pytest.mark.parametrize("on_existing", ["skip", "update", "fail"])
    async def test_are_those_of_an_import_at_once(
        self, client: httpx.AsyncClient, registry: Registry, on_existing: str
    ) -> None:
        """Though chunks are settled one by one, while the one before is being written."""
        content = (DATA / "messy.csv").read_bytes()
        foreseen = (await import_csv(client, content, dry_run=True, on_existing=on_existing)).body["items"]
        operation, found = await done(client, content, on_existing=on_existing)
        assert [_verdict(item) for item in found] == [_verdict(item) for item in foreseen]
        assert operation["done"] == operation["total"] == len(foreseen)
        assert sum(operation["counts"].values()) == len(foreseen)

    async def test_a_second_time_everything_is_known(self, client: httpx.AsyncClient) -> None:
        content = csv_of(*rows(8))
        first, _ = await done(client, content)
        again, found = await done(client, content)
        assert (first["state"], first["counts"]) == ("succeeded", {"created": 8})
        assert (again["state"], again["counts"]) == ("succeeded", {"skipped": 8})
        assert all(item["errors"][0]["code"] == "name_exists" for item in found)

    async def test_a_duplicate_in_a_later_chunk_names_the_first_line(self, client: httpx.AsyncClient) -> None:
        operation, found = await done(
            client, csv_of(*rows(7), "n0,pg,other", "other,pg,h1", columns="name,db_type,host")
        )
        assert operation["state"] == "partial"
        assert [[error["code"] for error in item.get("errors", [])] for item in found[-2:]] == [
            ["duplicate_in_file"],
            ["duplicate_in_file"],
        ]
        assert "line 2" in found[-2]["errors"][0]["message"]

    async def test_a_dry_run_writes_nothing(self, client: httpx.AsyncClient) -> None:
        operation, found = await done(client, csv_of(*rows(7), "bad name,pg,h"), dry_run=True)
        assert operation["counts"] == {"created": 7, "invalid": 1}
        assert all(item["instance_id"] is None for item in found)
        assert await instances(client) == {}

    async def test_a_name_too_long_for_the_ledger(self, client: httpx.AsyncClient) -> None:
        operation, [item] = await done(client, csv_of("n" * 500 + ",pg,h"))
        assert (operation["state"], operation["counts"]) == ("failed", {"invalid": 1})
        assert item["name"] == "n" * 100

    async def test_more_than_the_space_takes(self, client: httpx.AsyncClient, database: Database) -> None:
        async with database.writers.begin() as session:
            await session.execute(update(Space).values(quota_instances=5))
        operation, found = await done(client, csv_of(*rows(8)))
        assert operation["counts"] == {"created": 5, "invalid": 3}
        assert {item["errors"][0]["code"] for item in found[5:]} == {"quota_exceeded"}


def _verdict(item: dict[str, Any]) -> tuple[Any, ...]:
    return item["line"], item["name"], item["status"], json.dumps(item.get("errors", []), sort_keys=True)


class TestAtomic:
    async def test_is_written_at_once(self, client: httpx.AsyncClient) -> None:
        operation, found = await done(client, csv_of(*rows(8)), atomic=True)
        assert (operation["state"], operation["counts"]) == ("succeeded", {"created": 8})
        assert len({item["instance_id"] for item in found}) == 8

    async def test_an_invalid_row_is_told_before_anything_is_started(self, client: httpx.AsyncClient) -> None:
        answer = await upload(client, csv_of(*rows(4), "bad name,pg,h"), atomic=True, background="true")
        assert problem(answer) == (422, 25000)
        assert answer.json()["report"]["counts"]["invalid"] == 1
        assert (await client.get(URL)).json()["items"] == []

    async def test_what_was_lost_can_be_tried_again(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write, lost = ChunkWriter.write, [True]

        async def losing(writer: ChunkWriter, session: Any, chunk: Any) -> Any:
            if lost and chunk.rows[0].line > 2:
                lost.clear()
                chunk = type(chunk)([*chunk.rows, chunk.rows[0]], chunk.update_ids)
            return await write(writer, session, chunk)

        monkeypatch.setattr(ChunkWriter, "write", losing)
        operation, found = await done(client, csv_of(*rows(8)), atomic=True)
        assert (operation["state"], operation["counts"]) == ("failed", {"failed": 8})
        assert operation["error"]["code"] == 25016
        assert {item["errors"][0]["code"] for item in found} == {"not_written"}
        assert await instances(client) == {}
        assert (await client.post(f"{URL}/{operation['id']}/retry")).status_code == 202
        again = await ended(client, operation["id"])
        assert (again["state"], again["counts"], again["attempt"]) == ("succeeded", {"created": 8}, 2)


class TestStopped:
    async def test_cancelled_between_chunks_and_resumed(
        self, client: httpx.AsyncClient, app: FastAPI, gate: Gate
    ) -> None:
        content = csv_of(*rows(30), "n1,pg,again")
        operation_id = await start(client, content)
        await gate.arrived.acquire()
        gate.open(1)
        await until(client, operation_id, lambda found: found["done"] > 0)
        await cancel(client, app, operation_id)
        gate.open()
        cancelled = await ended(client, operation_id)
        assert cancelled["state"] == "cancelled"
        assert 0 < cancelled["done"] < 31
        before = await items(client, operation_id)
        assert len(before) == cancelled["done"]
        assert len(await instances(client)) == cancelled["counts"]["created"]

        assert (await client.post(f"{URL}/{operation_id}/resume")).status_code == 202
        operation = await ended(client, operation_id)
        found = await items(client, operation_id)
        # What was done before is as it was, and its names are still claimed.
        assert found[: len(before)] == before
        assert (operation["state"], operation["counts"]) == ("partial", {"created": 30, "invalid": 1})
        assert found[-1]["errors"][0]["code"] == "duplicate_in_file"
        assert len(await instances(client)) == 30

    async def test_a_chunk_that_fails_fails_the_operation_which_can_be_resumed(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write, broken = ChunkWriter.write, [True]

        async def failing(writer: ChunkWriter, session: Any, chunk: Any) -> Any:
            if broken and chunk.rows[0].line > 8:
                raise RuntimeError("not foreseen")
            return await write(writer, session, chunk)

        monkeypatch.setattr(ChunkWriter, "write", failing)
        operation, _ = await done(client, csv_of(*rows(12)))
        assert (operation["state"], operation["error"]["code"]) == ("failed", 25500)
        assert "not foreseen" not in json.dumps(operation)
        broken.clear()
        await client.post(f"{URL}/{operation['id']}/resume")
        assert (await ended(client, operation["id"]))["counts"] == {"created": 12}

    async def test_rows_that_another_writer_took_can_be_tried_again(
        self, client: httpx.AsyncClient, gate: Gate
    ) -> None:
        operation_id = await start(client, csv_of(*rows(3)))
        await gate.arrived.acquire()
        rival = {"name": "n1", "db_type": "pg", "host": "rival"}
        rival_id = (await client.post("/api/v1/instances", json=rival)).json()["id"]
        gate.open()
        operation = await ended(client, operation_id)
        assert (operation["state"], operation["counts"]) == ("partial", {"created": 2, "failed": 1})
        assert (await client.delete(f"/api/v1/instances/{rival_id}", params={"mode": "hard"})).status_code == 200
        await client.post(f"{URL}/{operation_id}/retry")
        again = await ended(client, operation_id)
        assert (again["state"], again["counts"]) == ("succeeded", {"created": 3})

    async def test_archived_meanwhile(self, client: httpx.AsyncClient, gate: Gate, database: Database) -> None:
        operation_id = await start(client, csv_of(*rows(12)))
        await gate.arrived.acquire()
        async with database.writers.begin() as session:
            await session.execute(update(Space).values(archived_at=utc_now()))
        gate.open()
        operation = await ended(client, operation_id)
        assert (operation["state"], operation["counts"]) == ("failed", {"failed": 12})
        assert await instances(client) == {}


class TestOwner:
    @pytest.fixture
    async def owner(self, registry: Registry) -> int:
        return await registry.user(role="operator")

    @pytest.fixture
    async def own(self, app: FastAPI, owner: int) -> AsyncIterator[httpx.AsyncClient]:
        async with client_of(app, await signed_in_as(app, owner)) as client:
            yield client

    async def test_is_recorded_as_who_did_it(
        self, own: httpx.AsyncClient, client: httpx.AsyncClient, owner: int
    ) -> None:
        operation, found = await done(own, csv_of(*rows(4)))
        entries = (await client.get("/api/v1/audit", params={"limit": 200})).json()["items"]
        created = [entry for entry in entries if entry["action"] == "instance:create"]
        assert {entry["actor_id"] for entry in created} == {owner}
        assert {entry["path"] for entry in created} == {"/api/v1/instances/batch-create"}
        assert {entry["resource_id"] for entry in created} == {item["instance_id"] for item in found}
        [batch] = [entry for entry in entries if entry["action"] == "instance:batch_create"]
        assert (batch["actor_id"], batch["outcome"], batch["changes"]["counts"]) == (owner, "succeeded", {"created": 4})
        told = (await own.get("/api/v1/notifications")).json()["items"]
        assert [(each["kind"], each["resource_id"]) for each in told] == [("operation_ended", operation["id"])]
        assert {item["created_by"] for item in (await instances(client)).values()} == {owner}

    async def test_a_right_that_was_lost_is_lost_in_the_background_too(
        self,
        own: httpx.AsyncClient,
        client: httpx.AsyncClient,
        app: FastAPI,
        owner: int,
        database: Database,
        gate: Gate,
    ) -> None:
        first = await start(own, csv_of(*rows(30)))
        await gate.arrived.acquire()
        await cancel(client, app, first)
        gate.open()
        await ended(client, first)
        async with database.writers.begin() as session:
            await session.execute(delete(RoleGrant).where(RoleGrant.user_id == owner))
        await client.post(f"{URL}/{first}/resume")
        operation = await ended(client, first)
        assert (operation["state"], operation["error"]["code"]) == ("failed", 25020)

    async def test_a_key_does_no_more_in_the_background_than_it_may(
        self, app: FastAPI, owner: int, client: httpx.AsyncClient
    ) -> None:
        scopes = (Permission.INSTANCE_CREATE, Permission.OPERATION_READ)
        async with client_of(app, await key_of(app, owner, scopes)) as limited:
            operation, _ = await done(limited, csv_of(*rows(2)))
            assert operation["state"] == "succeeded"
            assert problem(await upload(limited, csv_of(*rows(2)), on_existing="update", background="true"))[0] == 403

    async def test_disabled(
        self,
        own: httpx.AsyncClient,
        client: httpx.AsyncClient,
        app: FastAPI,
        owner: int,
        database: Database,
        gate: Gate,
    ) -> None:
        first = await start(own, csv_of(*rows(30)))
        await gate.arrived.acquire()
        await cancel(client, app, first)
        gate.open()
        await ended(client, first)
        async with database.writers.begin() as session:
            await session.execute(update(User).where(User.id == owner).values(is_active=False))
        await client.post(f"{URL}/{first}/resume")
        operation = await ended(client, first)
        assert (operation["state"], operation["error"]["code"]) == ("failed", 25020)

    async def test_deleted_while_it_runs(
        self, own: httpx.AsyncClient, client: httpx.AsyncClient, owner: int, registry: Registry, gate: Gate
    ) -> None:
        first = await start(own, csv_of(*rows(30)))
        await gate.arrived.acquire()
        deletion = asyncio.create_task(client.delete(f"/api/v1/users/{owner}"))
        await asyncio.sleep(0.05)
        gate.open()
        assert (await deletion).status_code == 200
        assert (await client.get(f"{URL}/{first}")).status_code == 404
        count = len(await instances(client))
        await asyncio.sleep(0.3)
        assert len(await instances(client)) == count
        assert (await registry.counts())["operation_items"] == 0


class TestSentTwice:
    async def test_under_one_key_is_one_operation(self, client: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": "import-1"}
        files = {"file": ("a.csv", csv_of(*rows(4)).encode(), "text/csv")}
        url = "/api/v1/instances/batch-create"
        first = await client.post(url, files=files, data={"background": "true"}, headers=key)
        second = await client.post(url, files=files, data={"background": "true"}, headers=key)
        assert (first.status_code, second.status_code) == (202, 202)
        assert second.headers["idempotency-replayed"] == "true"
        assert second.json()["id"] == first.json()["id"]
        assert second.headers["location"] == first.headers["location"]
        await ended(client, first.json()["id"])
        assert len((await client.get(URL)).json()["items"]) == 1

    async def test_a_key_is_bound_in_the_transaction_that_starts_the_operation(
        self, client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch, registry: Registry
    ) -> None:
        async def failing(*_: Any) -> bool:
            raise RuntimeError("not foreseen")

        monkeypatch.setattr(app.state.idempotency_store, "complete_within", failing)
        files = {"file": ("a.csv", csv_of(*rows(4)).encode(), "text/csv")}
        answer = await client.post(
            "/api/v1/instances/batch-create",
            files=files,
            data={"background": "true"},
            headers={"Idempotency-Key": "import-1"},
        )
        assert answer.status_code == 500
        counts = await registry.counts()
        assert (counts["operations"], counts["uploads"], counts["instances"]) == (0, 0, 0)


class TestSize:
    async def test_by_itself_above_ten_thousand_rows(self, client: httpx.AsyncClient, settings: Settings) -> None:
        some = await upload(client, csv_of(*rows(20)))
        assert some.status_code == 200
        many = await upload(client, csv_of(*rows(10_001)), dry_run=True)
        assert many.status_code == 202
        assert many.json()["total"] == 10_001
        await client.post(f"{URL}/{many.json()['id']}/cancel")
        await ended(client, many.json()["id"])

    async def test_at_once_when_asked_for(self, client: httpx.AsyncClient) -> None:
        report = await import_csv(client, csv_of(*rows(4)), background="false")
        assert report.counts == {"rows": 4, "created": 4}
        assert (await client.get(URL)).json()["items"] == []


class TestUpload:
    async def test_gone_before_it_is_resumed(
        self, client: httpx.AsyncClient, app: FastAPI, gate: Gate, database: Database
    ) -> None:
        operation_id = await start(client, csv_of(*rows(30)))
        await gate.arrived.acquire()
        await cancel(client, app, operation_id)
        gate.open()
        await ended(client, operation_id)
        async with database.readers() as session:
            found = await session.get(Operation, operation_id)
        assert found is not None
        assert found.upload_id is not None
        assert await app.state.uploads.remove(found.upload_id)
        answer = await client.post(f"{URL}/{operation_id}/resume")
        assert problem(answer) == (409, 25016)
        assert "upload" in answer.json()["detail"]

    async def test_is_judged_again_where_the_judgement_is_not(
        self, client: httpx.AsyncClient, app: FastAPI, gate: Gate, settings: Settings
    ) -> None:
        """As on another machine, which has the upload from the database or a shared directory."""
        operation_id = await start(client, csv_of(*rows(30), "bad name,pg,h"))
        await gate.arrived.acquire()
        await cancel(client, app, operation_id)
        gate.open()
        await ended(client, operation_id)
        directory = app.state.settings.data_dir / "uploads"
        for path in directory.iterdir():
            if path.suffix or "sqlite" not in app.state.settings.resolved_database_url:
                path.unlink()
        await client.post(f"{URL}/{operation_id}/resume")
        assert (await ended(client, operation_id))["counts"] == {"created": 30, "invalid": 1}
