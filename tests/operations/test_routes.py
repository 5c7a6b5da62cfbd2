"""Operations over HTTP: read, cancelled, resumed, tried again, removed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import select
from starlette.datastructures import URL

from app.database import Database
from app.models import Base
from app.operations import repository
from app.operations.schemas import Operation, accepted
from tests.factories import Registry
from tests.operations.conftest import IdleEngine
from tests.operations.rows import DELETION, IMPORT, item_of, operation_of
from tests.users.acting import audited, problem

URL_OF_ALL = "/api/v1/operations"
NOW = datetime.now(UTC)
tables = Base.metadata.tables


def url(operation_id: int, *more: str) -> str:
    return "/".join((URL_OF_ALL, str(operation_id), *more))


async def row_of(database: Database, operation_id: int) -> Any:
    async with database.readers() as session:
        return await repository.find(session, operation_id)


async def statuses_of(database: Database, operation_id: int) -> list[str]:
    items = tables["operation_items"]
    async with database.readers() as session:
        statement = select(items.c.status).where(items.c.operation_id == operation_id).order_by(items.c.position)
        return list(await session.scalars(statement))


class TestRead:
    async def test_an_import(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        space_id = await registry.default_space()
        started = NOW - timedelta(seconds=10)
        operation_id = await operation_of(
            registry,
            admin,
            **IMPORT,
            state="running",
            space_id=space_id,
            total=100,
            done=50,
            counts={"created": 45, "invalid": 5},
            attempt=2,
            attempt_done=30,
            created_at=started,
            started_at=started,
            attempt_started_at=started,
            updated_at=NOW,
            revision=9,
        )
        answer = await client.get(url(operation_id))
        assert (answer.status_code, answer.headers["etag"]) == (200, '"9"')
        body = answer.json()
        assert datetime.fromisoformat(body.pop("created_at")) == started
        assert datetime.fromisoformat(body.pop("started_at")) == started
        assert body == {
            "id": operation_id,
            "kind": "instance_import",
            "state": "running",
            "done": 50,
            "total": 100,
            "counts": {"created": 45, "invalid": 5},
            "rate": 2.0,
            "remaining_seconds": 25.0,
            "attempt": 2,
            "cancel_requested": False,
            "error": None,
            "space_id": space_id,
            "request": {
                "filename": "fleet.csv",
                "on_existing": "update",
                "atomic": False,
                "dry_run": False,
                "encoding": "auto",
                "ignore_unknown_columns": False,
            },
            "created_by": admin,
            "finished_at": None,
        }

    async def test_a_deletion_tells_how_many_ids(
        self, client: httpx.AsyncClient, registry: Registry, admin: int
    ) -> None:
        error = {"code": 25020, "message": "its owner is disabled"}
        operation_id = await operation_of(registry, admin, state="failed", error=error, cancel_requested=True)
        body = (await client.get(url(operation_id))).json()
        assert body["request"] == {"instances": 3, "mode": "hard", "force": True}
        assert (body["error"], body["cancel_requested"]) == (error, True)
        assert (body["rate"], body["remaining_seconds"]) == (None, None)

    async def test_what_the_client_has_already(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int
    ) -> None:
        operation_id = await operation_of(registry, admin)
        tag = (await client.get(url(operation_id))).headers["etag"]
        known = await client.get(url(operation_id), headers={"If-None-Match": tag})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
        async with database.writers.begin() as session:
            await repository.change(session, operation_id, {"done": 2})
        assert (await client.get(url(operation_id), headers={"If-None-Match": tag})).json()["done"] == 2

    async def test_one_that_there_is_not(self, client: httpx.AsyncClient) -> None:
        for method, path in (
            ("GET", url(7)),
            ("GET", url(7, "items")),
            ("GET", url(7, "events")),
            ("POST", url(7, "cancel")),
            ("POST", url(7, "resume")),
            ("POST", url(7, "retry")),
            ("DELETE", url(7)),
        ):
            assert problem(await client.request(method, path)) == (404, 25013), (method, path)


class TestList:
    async def test_the_newest_first_in_pages(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        ids = [await operation_of(registry, admin) for _ in range(5)]
        first = (await client.get(URL_OF_ALL, params={"limit": 3, "include_total": True})).json()
        assert ([each["id"] for each in first["items"]], first["total"]) == (ids[:1:-1], 5)
        second = (await client.get(URL_OF_ALL, params={"limit": 3, "cursor": first["next_cursor"]})).json()
        assert [each["id"] for each in second["items"]] == ids[1::-1]
        assert second["next_cursor"] is None

    async def test_sorted(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        ids = [await operation_of(registry, admin, created_at=NOW - timedelta(days=days)) for days in (1, 3, 2)]
        for sort, expected in (
            ("id", ids),
            ("created_at", [ids[1], ids[2], ids[0]]),
            ("-created_at", [ids[0], ids[2], ids[1]]),
        ):
            found: list[int] = []
            cursor: dict[str, str] = {}
            while True:
                page = (await client.get(URL_OF_ALL, params={"sort": sort, "limit": 2, **cursor})).json()
                found += [each["id"] for each in page["items"]]
                if page["next_cursor"] is None:
                    break
                cursor = {"cursor": page["next_cursor"]}
            assert found == expected, sort
        assert problem(await client.get(URL_OF_ALL, params={"sort": "state"})) == (422, 25000)

    async def test_filtered(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        made = {
            (kind["kind"], state): await operation_of(registry, admin, **kind, state=state)
            for kind in (IMPORT, DELETION)
            for state in ("queued", "succeeded")
        }

        async def found(**query: str) -> set[int]:
            return {each["id"] for each in (await client.get(URL_OF_ALL, params=query)).json()["items"]}

        assert await found() == set(made.values())
        assert await found(kind="instance_import", state="queued") == {made["instance_import", "queued"]}
        assert await found(state="succeeded") == {
            made["instance_import", "succeeded"],
            made["instance_deletion", "succeeded"],
        }
        assert problem(await client.get(URL_OF_ALL, params={"state": "asleep"})) == (422, 25000)


class TestItems:
    async def test_of_an_import(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, **IMPORT)
        errors = [{"column": "port", "code": "out_of_range", "message": "port must be …", "value": "99999"}]
        await item_of(registry, operation_id, 2, "created", instance_id=17)
        await item_of(registry, operation_id, 5, "invalid", detail={"errors": errors})
        assert (await client.get(url(operation_id, "items"))).json() == {
            "items": [
                {"position": 2, "line": 2, "name": "name-2", "status": "created", "instance_id": 17},
                {
                    "position": 5,
                    "line": 5,
                    "name": "name-5",
                    "status": "invalid",
                    "instance_id": None,
                    "errors": errors,
                },
            ],
            "next_cursor": None,
        }

    async def test_of_a_deletion(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, total=4)
        details: dict[str, Any] = {
            "deleted": {"rows_deleted": {"instance_accounts": 60}},
            "blocked": {"blockers": [{"code": "sync_running", "message": "…", "count": 2}]},
            "failed": {"error": {"code": 25010, "message": "…"}, "retryable": True},
            "missing": None,
        }
        for position, (status, detail) in enumerate(details.items(), 1):
            await item_of(registry, operation_id, position, status, instance_id=position + 100, detail=detail)
        items = (await client.get(url(operation_id, "items"))).json()["items"]
        assert items == [
            {"position": position, "name": f"name-{position}", "status": status, "instance_id": position + 100}
            | (detail or {})
            for position, (status, detail) in enumerate(details.items(), 1)
        ]

    async def test_in_pages_and_by_status(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, ("deleted", "failed") * 3)
        await operation_of(registry, admin, ("failed",) * 3)
        path = url(operation_id, "items")
        first = (await client.get(path, params={"limit": 4, "include_total": True})).json()
        assert ([each["position"] for each in first["items"]], first["total"]) == ([1, 2, 3, 4], 6)
        second = (await client.get(path, params={"limit": 4, "cursor": first["next_cursor"]})).json()
        assert ([each["position"] for each in second["items"]], second["next_cursor"]) == ([5, 6], None)
        failed = (await client.get(path, params={"status": "failed", "include_total": True})).json()
        assert ([each["position"] for each in failed["items"]], failed["total"]) == ([2, 4, 6], 3)
        assert problem(await client.get(path, params={"status": "No Status"})) == (422, 25000)
        assert problem(await client.get(path, params={"cursor": "rubbish"})) == (400, 25000)


class TestCancel:
    async def test_one_that_waits_ends_at_once(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int
    ) -> None:
        operation_id = await operation_of(registry, admin, state="queued")
        answer = await client.post(url(operation_id, "cancel"))
        assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
        assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("cancelled", True)
        assert answer.json()["finished_at"] is not None
        [entry] = await audited(database, "operation:cancel")
        assert (entry.actor_id, entry.resource_id, entry.changes) == (
            admin,
            operation_id,
            {"state": "queued", "total": 3},
        )

    async def test_one_that_runs_is_told(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, state="running")
        for _ in range(2):
            body = (await client.post(url(operation_id, "cancel"))).json()
            assert (body["state"], body["cancel_requested"], body["finished_at"]) == ("running", True, None)

    @pytest.mark.parametrize("state", ["succeeded", "partial", "failed", "cancelled"])
    async def test_one_that_has_ended(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int, state: str
    ) -> None:
        operation_id = await operation_of(registry, admin, state=state)
        answer = await client.post(url(operation_id, "cancel"))
        assert problem(answer) == (409, 25016)
        assert answer.json()["state"] == state
        assert (await row_of(database, operation_id)).revision == 1


class TestResume:
    async def test_goes_on_with_what_has_no_item(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        database: Database,
        admin: int,
        idle_engine: IdleEngine,
    ) -> None:
        operation_id = await operation_of(
            registry, admin, ("deleted", "failed"), state="cancelled", cancel_requested=True, deaths=2
        )
        answer = await client.post(url(operation_id, "resume"))
        assert answer.status_code == 202
        assert answer.headers["location"] == url(operation_id)
        assert answer.headers["retry-after"] == "1"
        body = answer.json()
        assert (body["state"], body["done"], body["counts"]) == ("queued", 2, {"deleted": 1, "failed": 1})
        assert (body["cancel_requested"], body["finished_at"]) == (False, None)
        assert await statuses_of(database, operation_id) == ["deleted", "failed"]
        assert (await row_of(database, operation_id)).deaths == 0
        assert idle_engine.given == [operation_id]

    @pytest.mark.parametrize("state", ["queued", "running", "succeeded", "partial"])
    async def test_one_that_was_not_stopped(
        self, client: httpx.AsyncClient, registry: Registry, admin: int, state: str
    ) -> None:
        answer = await client.post(url(await operation_of(registry, admin, state=state), "resume"))
        assert problem(answer) == (409, 25016)
        assert answer.json()["state"] == state

    async def test_one_that_failed_at_its_end(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, ("failed",) * 3, state="failed")
        assert problem(await client.post(url(operation_id, "resume"))) == (409, 25016)

    async def test_one_whose_upload_is_gone(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin, ("created",), **IMPORT, state="cancelled")
        answer = await client.post(url(operation_id, "resume"))
        assert problem(answer) == (409, 25016)
        assert "upload" in answer.json()["detail"]

    @pytest.mark.parametrize("call", ["resume", "retry"])
    async def test_one_whose_items_are_being_removed(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int, call: str
    ) -> None:
        """What they reported would be done once more."""
        operation_id = await operation_of(
            registry, admin, ("failed",), state="failed", counts={"deleted": 1, "failed": 1}
        )
        answer = await client.post(url(operation_id, call))
        assert problem(answer) == (409, 25016)
        assert "removed" in answer.json()["detail"]
        assert await statuses_of(database, operation_id) == ["failed"]


class TestRetry:
    async def test_forgets_what_failed(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int, idle_engine: IdleEngine
    ) -> None:
        operation_id = await operation_of(registry, admin, ("deleted", "failed", "blocked"))
        answer = await client.post(url(operation_id, "retry"))
        assert (answer.status_code, answer.headers["location"]) == (202, url(operation_id))
        body = answer.json()
        assert (body["state"], body["done"], body["counts"]) == ("queued", 2, {"blocked": 1, "deleted": 1})
        assert await statuses_of(database, operation_id) == ["deleted", "blocked"]
        assert len(await audited(database, "operation:retry")) == 1
        assert idle_engine.given == [operation_id]

    async def test_an_atomic_import_is_done_as_a_whole(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int
    ) -> None:
        upload = {"filename": "fleet.csv", "size": 1, "sha256": "0" * 64}
        await registry.insert("uploads", id="0" * 32, **upload)
        asked = {"kind": "instance_import", "request": {"atomic": True}, "upload_id": "0" * 32}
        operation_id = await operation_of(registry, admin, ("skipped", "invalid"), **asked, state="failed")
        body = (await client.post(url(operation_id, "retry"))).json()
        assert (body["state"], body["done"], body["counts"]) == ("queued", 0, {})
        assert await statuses_of(database, operation_id) == []

    @pytest.mark.parametrize(
        ("state", "items"),
        [
            ("succeeded", ("deleted",) * 3),
            ("partial", ("deleted", "blocked")),
            ("queued", ()),
            ("running", ("failed",)),
        ],
    )
    async def test_nothing_failed_or_not_ended(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        database: Database,
        admin: int,
        state: str,
        items: tuple[str, ...],
    ) -> None:
        operation_id = await operation_of(registry, admin, items, state=state)
        answer = await client.post(url(operation_id, "retry"))
        assert problem(answer) == (409, 25016)
        assert answer.json()["state"] == state
        assert await statuses_of(database, operation_id) == list(items)

    async def test_sent_twice_with_one_key(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int
    ) -> None:
        operation_id = await operation_of(registry, admin, ("deleted", "failed"))
        answers = [
            await client.post(url(operation_id, "retry"), headers={"Idempotency-Key": "again"}) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].json() == answers[1].json()
        assert answers[1].headers["location"] == url(operation_id)
        assert answers[1].headers["retry-after"] == "1"
        assert len(await audited(database, "operation:retry")) == 1


class TestDelete:
    @pytest.mark.parametrize("state", ["succeeded", "partial", "failed", "cancelled"])
    async def test_with_its_items(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, admin: int, state: str
    ) -> None:
        operation_id, other = [await operation_of(registry, admin, ("deleted", "failed"), state=state) for _ in "ab"]
        answer = await client.delete(url(operation_id))
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await client.get(url(operation_id))).status_code == 404
        assert await statuses_of(database, operation_id) == []
        assert await statuses_of(database, other) == ["deleted", "failed"]
        [entry] = await audited(database, "operation:delete")
        assert (entry.actor_id, entry.resource_id) == (admin, operation_id)

    @pytest.mark.parametrize("state", ["queued", "running"])
    async def test_not_while_it_runs(
        self, client: httpx.AsyncClient, registry: Registry, admin: int, state: str
    ) -> None:
        operation_id = await operation_of(registry, admin, state=state)
        answer = await client.delete(url(operation_id))
        assert problem(answer) == (409, 25016)
        assert answer.json()["state"] == state

    async def test_honours_if_match(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        operation_id = await operation_of(registry, admin)
        assert problem(await client.delete(url(operation_id), headers={"If-Match": '"7"'})) == (412, 25017)
        assert (await client.delete(url(operation_id), headers={"If-Match": '"1"'})).status_code == 204


class TestAccepted:
    async def test_tells_where_and_when_to_look(
        self, app: FastAPI, registry: Registry, database: Database, admin: int
    ) -> None:
        operation = await row_of(database, await operation_of(registry, admin, state="queued"))
        scope = {"type": "http", "app": app, "router": app.router, "path": "/", "headers": [], "root_path": ""}
        answer = accepted(operation, Request(scope | {"scheme": "http", "server": ("muster.test", 80)}))
        assert answer.status_code == 202
        assert URL(answer.headers["location"]).path == url(operation.id)
        assert (answer.headers["retry-after"], answer.headers["etag"]) == ("1", '"1"')
        assert Operation.model_validate_json(answer.body) == Operation.of(operation)
