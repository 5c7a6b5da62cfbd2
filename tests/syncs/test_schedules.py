"""The calls about schedules."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.database import Database
from app.models.audit import AuditEvent
from app.models.operation import Operation
from app.models.sync import SyncSession
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as
from tests.syncs.syncing import chosen_for

URL = "/api/v1/schedules"
NIGHTLY = {"name": "nightly", "cron": "0 3 * * *", "timezone": "Europe/Berlin", "kinds": ["settings", "accounts"]}


async def create(client: httpx.AsyncClient, **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json=NIGHTLY | values)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def actions(database: Database) -> list[str]:
    async with database.readers() as session:
        statement = select(AuditEvent.action).where(AuditEvent.action.like("schedule:%")).order_by(AuditEvent.id)
        return list(await session.scalars(statement))


class TestCreate:
    async def test_answers_the_schedule_with_its_next_runs(self, client: httpx.AsyncClient, database: Database) -> None:
        answer = await client.post(URL, json=NIGHTLY | {"filter": {"environment": "staging", "tag": ["core"]}})
        body = answer.json()
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{URL}/{body['id']}"
        assert body["kinds"] == ["accounts", "settings"]
        assert body["filter"] == {"environment": "staging", "tag": ["core"]}
        assert (body["paused"], body["last_run_at"], len(body["next_runs"])) == (False, None, 5)
        assert all(each[11:] in ("01:00:00Z", "02:00:00Z") for each in body["next_runs"])
        assert (await client.get(answer.headers["Location"])).json() == body
        assert await actions(database) == ["schedule:create"]

    async def test_a_name_is_there_once(self, client: httpx.AsyncClient) -> None:
        await create(client)
        answer = await client.post(URL, json=NIGHTLY)
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)

    @pytest.mark.parametrize(
        ("values", "pointer"),
        [
            ({"cron": "every day"}, "/body/cron"),
            ({"cron": "0 0 30 2 *"}, "/body/cron"),
            ({"timezone": "Mars/Olympus"}, "/body/timezone"),
            ({"kinds": []}, "/body/kinds"),
            ({"kinds": ["users"]}, "/body/kinds/0"),
            ({"filter": {"status": "active"}}, "/body/filter/status"),
            ({"filter": {"space_id": 1}}, "/body/filter/space_id"),
            ({"name": " "}, "/body/name"),
        ],
    )
    async def test_what_is_wrong_is_told_by_its_place(
        self, client: httpx.AsyncClient, values: dict[str, Any], pointer: str
    ) -> None:
        answer = await client.post(URL, json=NIGHTLY | values)
        assert (answer.status_code, answer.json()["code"]) == (422, 25000)
        assert answer.json()["errors"][0]["pointer"] == pointer


class TestChange:
    async def test_paused_it_has_no_next_run(self, client: httpx.AsyncClient) -> None:
        schedule = await create(client)
        paused = (await client.patch(f"{URL}/{schedule['id']}", json={"paused": True})).json()
        assert (paused["paused"], paused["next_runs"], paused["revision"]) == (True, [], 2)
        going_on = (await client.patch(f"{URL}/{schedule['id']}", json={"paused": False})).json()
        assert going_on["next_runs"] == schedule["next_runs"]

    async def test_another_time_moves_the_runs(self, client: httpx.AsyncClient) -> None:
        schedule = await create(client)
        changed = (await client.patch(f"{URL}/{schedule['id']}", json={"timezone": "UTC"})).json()
        assert {each[11:] for each in changed["next_runs"]} == {"03:00:00Z"}

    async def test_nothing_different_raises_no_revision(self, client: httpx.AsyncClient, database: Database) -> None:
        schedule = await create(client)
        assert (await client.patch(f"{URL}/{schedule['id']}", json={"cron": "0 3 * * *"})).json() == schedule
        assert await actions(database) == ["schedule:create"]

    async def test_an_older_revision_is_412(self, client: httpx.AsyncClient) -> None:
        schedule = await create(client)
        await client.patch(f"{URL}/{schedule['id']}", json={"name": "weekly"})
        answer = await client.delete(f"{URL}/{schedule['id']}", headers={"If-Match": '"1"'})
        assert (answer.status_code, answer.json()["code"]) == (412, 25017)

    async def test_deleted_it_is_404(self, client: httpx.AsyncClient, database: Database) -> None:
        schedule = await create(client)
        assert (await client.delete(f"{URL}/{schedule['id']}")).status_code == 204
        assert (await client.get(f"{URL}/{schedule['id']}")).status_code == 404
        assert await actions(database) == ["schedule:create", "schedule:delete"]


class TestList:
    async def test_pages_and_filters(self, client: httpx.AsyncClient) -> None:
        for number in range(5):
            await create(client, name=f"s-{number}", paused=number % 2 == 0)
        first = (await client.get(URL, params={"limit": 3, "include_total": True})).json()
        rest = (await client.get(URL, params={"limit": 3, "cursor": first["next_cursor"]})).json()
        assert [each["name"] for each in first["items"] + rest["items"]] == [f"s-{number}" for number in range(5)]
        assert (first["total"], rest["next_cursor"]) == (5, None)
        paused = (await client.get(URL, params={"paused": True, "sort": "-name"})).json()
        assert [each["name"] for each in paused["items"]] == ["s-4", "s-2", "s-0"]


class TestRun:
    async def test_syncs_the_active_ones_that_the_filter_selects(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await registry.instance(environment="staging")
        wanted = await registry.instance()
        await registry.instance(is_active=False)
        schedule = await create(client, filter={"environment": "production"}, paused=True)
        answer = await client.post(f"{URL}/{schedule['id']}/run")
        operation = answer.json()
        assert (answer.status_code, operation["kind"], operation["total"]) == (202, "instance_sync", 1)
        async with database.readers() as session:
            found = await session.get_one(Operation, operation["id"])
            sync = await session.get_one(SyncSession, operation["sync_session_id"])
        assert await chosen_for(database, found) == [wanted]
        assert (sync.kinds, sync.trigger.value) == (["accounts", "settings"], "manual")
        after = (await client.get(f"{URL}/{schedule['id']}")).json()
        assert (after["last_operation_id"], after["revision"], after["paused"]) == (operation["id"], 1, True)
        assert await actions(database) == ["schedule:create", "schedule:run"]


class TestAccess:
    async def test_what_a_viewer_may(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        schedule = await create(client)
        viewer = await registry.user(role="viewer")
        async with client_of(app, await signed_in_as(app, viewer)) as reading:
            assert (await reading.get(f"{URL}/{schedule['id']}")).status_code == 200
            for answer in (
                await reading.post(URL, json=NIGHTLY | {"name": "other"}),
                await reading.patch(f"{URL}/{schedule['id']}", json={"paused": True}),
                await reading.delete(f"{URL}/{schedule['id']}"),
                await reading.post(f"{URL}/{schedule['id']}/run"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (403, 25020)

    async def test_whoever_may_not_sync_makes_no_schedule(self, app: FastAPI, registry: Registry) -> None:
        role = await registry.role(permissions=["schedule:create", "schedule:read"])
        user = await registry.user()
        await registry.grant(user, role)
        async with client_of(app, await signed_in_as(app, user)) as planning:
            answer = await planning.post(URL, json=NIGHTLY)
        assert (answer.status_code, "sync:run" in answer.json()["detail"]) == (403, True)

    async def test_another_spaces_does_not_exist(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        schedule = await create(client)
        operator = await registry.user(role="operator", space_id=await registry.space())
        async with client_of(app, await signed_in_as(app, operator)) as elsewhere:
            assert (await elsewhere.get(URL)).json()["items"] == []
            for answer in (
                await elsewhere.get(f"{URL}/{schedule['id']}"),
                await elsewhere.patch(f"{URL}/{schedule['id']}", json={"paused": True}),
                await elsewhere.delete(f"{URL}/{schedule['id']}"),
                await elsewhere.post(f"{URL}/{schedule['id']}/run"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (404, 25013)
        assert (await client.get(f"{URL}/{schedule['id']}")).json() == schedule
        assert await actions(database) == ["schedule:create"]
