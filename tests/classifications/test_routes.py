"""The calls about classifications, and what they assign."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update

from app.database import Database
from app.models.audit import AuditEvent
from app.models.inventory import (
    AccountClassification,
    AccountClassificationAssignment,
    AccountClassificationVersion,
    AccountPermission,
    InstanceAccount,
)
from tests.classifications.classifying import SUPERUSERS, URL, assigned, classify, create, with_accounts
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as


class TestCreate:
    async def test_puts_the_known_accounts_into_the_class(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await with_accounts(registry, "root", "vera")
        answer = await client.post(URL, json={"name": "superusers", "rule": SUPERUSERS, "priority": 5})
        body = answer.json()
        assert (answer.status_code, answer.headers["Location"]) == (201, f"{URL}/{body['id']}")
        assert (body["rule"], body["rule_version"], body["priority"], body["is_enabled"]) == (SUPERUSERS, 1, 5, True)
        assert (await client.get(f"{URL}/{body['id']}")).json() == body
        assert await assigned(database, body["id"]) == {"root": 1}
        async with database.readers() as session:
            assert "classification:create" in list(await session.scalars(select(AuditEvent.action)))

    async def test_of_its_own_space_only(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await with_accounts(registry, "root-elsewhere", space_id=await registry.space())
        assert await assigned(database, (await create(client))["id"]) == {}

    async def test_a_rule_that_cannot_be_understood_is_422(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"name": "all", "rule": {"all": []}})
        [error] = answer.json()["errors"]
        assert (answer.status_code, error["pointer"], error["code"]) == (422, "/body/rule", "invalid_format")

    async def test_a_name_is_there_once(self, client: httpx.AsyncClient) -> None:
        await create(client)
        answer = await client.post(URL, json={"name": "superusers", "rule": SUPERUSERS})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)


class TestChange:
    async def test_another_rule_is_another_version(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await with_accounts(registry, "root", "root2", "vera")
        made = await create(client)
        rule = {"name_matches": "*2"}
        changed = (await client.patch(f"{URL}/{made['id']}", json={"rule": rule})).json()
        assert (changed["rule_version"], changed["revision"]) == (2, 2)
        assert await assigned(database, made["id"]) == {"root2": 2}
        versions = (await client.get(f"{URL}/{made['id']}/versions")).json()
        assert [(each["rule_version"], each["rule"]) for each in versions] == [(2, rule), (1, SUPERUSERS)]

    async def test_another_name_is_no_version(self, client: httpx.AsyncClient) -> None:
        made = await create(client)
        changed = (await client.patch(f"{URL}/{made['id']}", json={"name": "roots", "rule": SUPERUSERS})).json()
        assert (changed["name"], changed["rule_version"], changed["revision"]) == ("roots", 1, 2)

    async def test_disabled_it_has_nobody_and_enabled_it_has_them_again(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await with_accounts(registry, "root")
        made = await create(client)
        await client.patch(f"{URL}/{made['id']}", json={"is_enabled": False})
        assert await assigned(database, made["id"]) == {}
        await client.patch(f"{URL}/{made['id']}", json={"is_enabled": True})
        assert await assigned(database, made["id"]) == {"root": 1}

    async def test_an_older_revision_is_412(self, client: httpx.AsyncClient) -> None:
        made = await create(client)
        answer = await client.patch(f"{URL}/{made['id']}", json={"priority": 1}, headers={"If-Match": '"7"'})
        assert answer.status_code == 412

    async def test_deleted_it_leaves_nothing(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await with_accounts(registry, "root")
        made = await create(client)
        assert (await client.delete(f"{URL}/{made['id']}")).status_code == 204
        assert (await client.get(f"{URL}/{made['id']}")).status_code == 404
        async with database.readers() as session:
            for model in (AccountClassificationVersion, AccountClassificationAssignment):
                assert await session.scalar(select(func.count()).select_from(model)) == 0


class TestAfterASync:
    async def test_the_classes_are_those_that_the_rules_say_now(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        instance = await with_accounts(registry, "root", "vera")
        first = await create(client)
        second = await create(client, "by role", rule={"has_role": "role of v*"})
        await with_accounts(registry, "root-new", instance_id=instance)
        async with database.writers.begin() as session:
            changes = update(InstanceAccount).where(InstanceAccount.username == "root")
            await session.execute(changes.values(is_superuser=False))
        await classify(database, instance)
        assert await assigned(database, first["id"]) == {"root-new": 1}
        assert await assigned(database, second["id"]) == {"vera": 1}

    async def test_who_is_gone_is_in_no_class(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        instance = await with_accounts(registry, "root")
        made = await create(client)
        async with database.writers.begin() as session:
            await session.execute(update(InstanceAccount).values(is_present=False))
        await classify(database, instance)
        assert await assigned(database, made["id"]) == {}

    async def test_what_stays_is_not_written_again(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        instance = await with_accounts(registry, "root")
        await create(client)
        statement = select(AccountClassificationAssignment.permission_id, AccountClassificationAssignment.assigned_at)
        async with database.readers() as session:
            before = (await session.execute(statement)).all()
        await classify(database, instance)
        async with database.readers() as session:
            assert (await session.execute(statement)).all() == before

    @pytest.mark.parametrize("rule", [{}, {"all": []}, {"not": {"is_su": 1}}, {"any": [SUPERUSERS, {"new": 1}]}])
    async def test_a_rule_that_cannot_be_understood_matches_nobody(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, rule: dict[str, Any]
    ) -> None:
        instance = await with_accounts(registry, "root", "vera")
        broken, good = await create(client, "broken"), await create(client, "good")
        async with database.writers.begin() as session:
            statement = update(AccountClassification).where(AccountClassification.id == broken["id"])
            await session.execute(statement.values(rule=rule))
        await classify(database, instance)
        assert await assigned(database, broken["id"]) == {}
        assert await assigned(database, good["id"]) == {"root": 1}

    async def test_without_rules_nothing_is_assigned(self, registry: Registry, database: Database) -> None:
        instance = await with_accounts(registry, "root")
        await classify(database, instance)
        async with database.readers() as session:
            assert await session.scalar(select(func.count()).select_from(AccountClassificationAssignment)) == 0


class TestEvaluate:
    async def test_shows_whom_a_rule_would_match_and_saves_nothing(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        instance = await with_accounts(registry, "root", "root2", "vera", name="db-01")
        await with_accounts(registry, "root", space_id=await registry.space())
        answer = await client.post(f"{URL}/evaluate", json={"rule": SUPERUSERS, "limit": 1})
        assert answer.json() == {
            "accounts": 3,
            "matched": 2,
            "items": [
                {
                    "instance_id": instance,
                    "instance_name": "db-01",
                    "db_type": "mysql",
                    "username": "root",
                    "host": "",
                    "is_superuser": True,
                }
            ],
        }
        assert (await client.get(URL)).json()["items"] == []

    async def test_tells_the_place_of_what_is_wrong(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(f"{URL}/evaluate", json={"rule": {"any": [{"has_rule": "x"}]}})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["message"].startswith("rule.any[0] must have one of all, any")

    async def test_over_many_accounts(self, client: httpx.AsyncClient, registry: Registry, database: Database) -> None:
        instance = await registry.instance()
        async with database.writers.begin() as session:
            names = [{"instance_id": instance, "username": f"u-{number}"} for number in range(4_500)]
            ids = list(await session.scalars(InstanceAccount.__table__.insert().returning(InstanceAccount.id), names))
            rights = [{"instance_id": instance, "account_id": key, "digest": str(key), "roles": ["r"]} for key in ids]
            await session.execute(AccountPermission.__table__.insert(), rights)
        answer = await client.post(f"{URL}/evaluate", json={"rule": {"name_matches": "u-*7"}, "limit": 0})
        assert answer.json() == {"accounts": 4_500, "matched": 450, "items": []}
        made = await create(client, rule={"has_role": "r"})
        assert len(await assigned(database, made["id"])) == 4_500


class TestAccess:
    async def test_what_a_viewer_may(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        made = await create(client)
        viewer = await registry.user(role="viewer")
        async with client_of(app, await signed_in_as(app, viewer)) as reading:
            assert (await reading.get(URL)).json()["items"] == [made]
            assert (await reading.post(f"{URL}/evaluate", json={"rule": SUPERUSERS})).status_code == 200
            for answer in (
                await reading.post(URL, json={"name": "x", "rule": SUPERUSERS}),
                await reading.patch(f"{URL}/{made['id']}", json={"priority": 1}),
                await reading.delete(f"{URL}/{made['id']}"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (403, 25020)

    async def test_another_spaces_does_not_exist(
        self, app: FastAPI, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        made = await create(client)
        operator = await registry.user(role="operator", space_id=await registry.space())
        async with client_of(app, await signed_in_as(app, operator)) as elsewhere:
            assert (await elsewhere.get(URL)).json()["items"] == []
            for answer in (
                await elsewhere.get(f"{URL}/{made['id']}"),
                await elsewhere.get(f"{URL}/{made['id']}/versions"),
                await elsewhere.patch(f"{URL}/{made['id']}", json={"priority": 1}),
                await elsewhere.delete(f"{URL}/{made['id']}"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (404, 25013)
            space_id = await registry.default_space()
            answer = await elsewhere.post(f"{URL}/evaluate", json={"rule": SUPERUSERS, "space_id": space_id})
            assert answer.status_code == 404

    async def test_pages_are_in_order_of_priority(self, client: httpx.AsyncClient) -> None:
        for number, priority in enumerate((30, 10, 20)):
            await create(client, f"c-{number}", priority=priority)
        first = (await client.get(URL, params={"limit": 2})).json()
        rest = (await client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [each["name"] for each in first["items"] + rest["items"]] == ["c-1", "c-2", "c-0"]
