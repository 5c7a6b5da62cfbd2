"""The calls that read what syncs found."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.access.permissions import Permission
from app.database import Database
from app.inventory.records import (
    FoundDatabase,
    FoundPermissions,
    PostgresqlMember,
    RedisMember,
    SqlserverMember,
)
from tests.factories import Registry
from tests.inventory.syncing import (
    FIRST,
    SECOND,
    THIRD,
    account,
    rows,
    sync_accounts,
    sync_databases,
    sync_members,
    sync_settings,
)
from tests.users.acting import client_with

LISTS = ("accounts", "databases", "change-logs", "settings", "settings/history", "members")
ALICE = account(
    "alice",
    "%",
    rights=FoundPermissions(
        roles=["reader"],
        global_privileges=["PROCESS"],
        database_privileges={"shop": ["CREATE"]},
        object_privileges={"shop.o'rders": ["SELECT"]},
        grantable_privileges=["*: PROCESS"],
    ),
    is_superuser=True,
    password_expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    attributes={"ssl": "ANY"},
)
BOB = account("bob")


def url(instance_id: int, name: str) -> str:
    return f"/api/v1/instances/{instance_id}/{name}"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def get(client: httpx.AsyncClient, instance_id: int, name: str, **parameters: Any) -> dict[str, Any]:
    answer = await client.get(url(instance_id, name), params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def all_pages(client: httpx.AsyncClient, instance_id: int, name: str, **parameters: Any) -> list[dict[str, Any]]:
    """Every item, by pages of two."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(client, instance_id, name, limit=2, **parameters, **cursor)
        assert len(page["items"]) <= 2
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        assert len(page["items"]) == 2
        cursor = {"cursor": page["next_cursor"]}


@pytest.fixture
async def instance(registry: Registry) -> int:
    return await registry.instance(db_type="postgresql")


class TestAccess:
    @pytest.mark.parametrize("name", LISTS)
    async def test_needs_to_be_signed_in(self, stranger: httpx.AsyncClient, instance: int, name: str) -> None:
        assert (await stranger.get(url(instance, name))).status_code == 401

    @pytest.mark.parametrize("name", LISTS)
    async def test_needs_the_permission(self, app: FastAPI, registry: Registry, instance: int, name: str) -> None:
        async with await client_with(app, registry, Permission.TAG_READ, Permission.SYNC_RUN) as client:
            assert (await client.get(url(instance, name))).status_code == 403
        async with await client_with(app, registry, Permission.INSTANCE_READ) as client:
            assert (await client.get(url(instance, name))).status_code == 200

    @pytest.mark.parametrize("name", LISTS)
    async def test_in_the_instances_space(
        self, app: FastAPI, database: Database, registry: Registry, instance: int, name: str
    ) -> None:
        await sync_accounts(database, instance, ALICE)
        elsewhere = await registry.space()
        async with await client_with(app, registry, Permission.INSTANCE_READ, space_id=elsewhere) as client:
            answer = await client.get(url(instance, name))
            assert (answer.status_code, answer.json()["code"]) == (404, 25013)
        here = await registry.default_space()
        async with await client_with(app, registry, Permission.INSTANCE_READ, space_id=here) as client:
            assert (await client.get(url(instance, name))).status_code == 200

    @pytest.mark.parametrize("name", LISTS)
    async def test_of_an_instance_that_is_not_there(self, client: httpx.AsyncClient, name: str) -> None:
        answer = await client.get(url(999_999, name))
        assert (answer.status_code, answer.json()["code"]) == (404, 25013)

    @pytest.mark.parametrize("name", LISTS)
    async def test_of_a_deleted_instance(self, client: httpx.AsyncClient, registry: Registry, name: str) -> None:
        instance = await registry.instance(deleted_at=FIRST)
        assert (await client.get(url(instance, name))).status_code == 200

    @pytest.mark.parametrize("name", LISTS)
    async def test_of_an_instance_that_was_never_synced(
        self, client: httpx.AsyncClient, instance: int, name: str
    ) -> None:
        page = await get(client, instance, name, include_total=True)
        captured = {"captured_at": None} if name == "settings" else {}
        assert page == {"items": [], "next_cursor": None, "total": 0} | captured

    @pytest.mark.parametrize("name", LISTS)
    async def test_refuses_what_is_no_cursor_or_no_id(
        self, client: httpx.AsyncClient, instance: int, name: str
    ) -> None:
        assert (await client.get(url(instance, name), params={"cursor": "nonsense"})).status_code == 400
        assert (await client.get(f"/api/v1/instances/0/{name}")).status_code == 422
        assert (await client.get(url(instance, name), params={"limit": 201})).status_code == 422


class TestAccounts:
    async def test_have_their_rights(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE)
        await sync_accounts(database, instance, ALICE, at=SECOND)
        [found] = (await get(client, instance, "accounts"))["items"]
        permissions = found.pop("permissions")
        assert moment(permissions.pop("captured_at")) == FIRST
        assert permissions == {
            "roles": ["reader"],
            "global_privileges": ["PROCESS"],
            "database_privileges": {"shop": ["CREATE"]},
            "object_privileges": {"shop.o'rders": ["SELECT"]},
            "grantable_privileges": ["*: PROCESS"],
        }
        assert (moment(found.pop("first_seen_at")), moment(found.pop("last_seen_at"))) == (FIRST, SECOND)
        assert found == {
            "id": found["id"],
            "username": "alice",
            "host": "%",
            "is_superuser": True,
            "can_login": True,
            "is_locked": False,
            "authentication_method": None,
            "password_expires_at": "2027-01-01T00:00:00Z",
            "connection_limit": None,
            "attributes": {"ssl": "ANY"},
            "is_present": True,
            "classifications": [],
        }

    async def test_have_their_classes(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, instance: int
    ) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        classes = [
            await registry.insert(
                "account_classifications",
                space_id=await registry.default_space(),
                name=name,
                rule={"all": []},
                priority=priority,
            )
            for name, priority in (("late", 200), ("early", 1))
        ]
        alice = (await rows(database, "account_permissions", instance))[0]
        for class_id in classes:
            await registry.insert(
                "account_classification_assignments",
                instance_id=instance,
                permission_id=alice["id"],
                classification_id=class_id,
                rule_version=1,
            )
        page = await get(client, instance, "accounts")
        assert [each["classifications"] for each in page["items"]] == [
            [{"id": classes[1], "name": "early"}, {"id": classes[0], "name": "late"}],
            [],
        ]
        page = await get(client, instance, "accounts", classification_id=classes[0], include_total=True)
        assert [each["username"] for each in page["items"]] == ["alice"] and page["total"] == 1

    async def test_filters(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB, account("gone"))
        await sync_accounts(database, instance, ALICE, BOB, at=SECOND)

        async def names(**parameters: Any) -> list[str]:
            page = await get(client, instance, "accounts", include_total=True, **parameters)
            assert page["total"] == len(page["items"])
            return [each["username"] for each in page["items"]]

        assert await names() == ["alice", "bob"]
        assert await names(is_present=False) == ["gone"]
        assert await names(q="LI") == ["alice"]
        assert await names(q="%") == []
        assert await names(is_superuser=False) == ["bob"]
        assert await names(is_superuser=True) == ["alice"]
        assert await names(classification_id=99) == []

    async def test_by_pages(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        names = [("c", ""), ("a", "%"), ("a", "10.%"), ("b", ""), ("d", ""), ("a", "")]
        await sync_accounts(database, instance, *(account(*name) for name in names))
        for sort, expected in {
            "username": ["a", "a", "a", "b", "c", "d"],
            "-username": ["d", "c", "b", "a", "a", "a"],
            "id": ["c", "a", "a", "b", "d", "a"],
            "-first_seen_at": ["a", "d", "b", "a", "a", "c"],
        }.items():
            items = await all_pages(client, instance, "accounts", sort=sort)
            assert [each["username"] for each in items] == expected, sort
            assert len({each["id"] for each in items}) == 6

    async def test_whose_rights_were_never_read(
        self, client: httpx.AsyncClient, registry: Registry, instance: int
    ) -> None:
        await registry.insert("instance_accounts", instance_id=instance, username="old")
        key = await registry.insert("instance_accounts", instance_id=instance, username="older")
        await registry.insert("account_permissions", instance_id=instance, account_id=key, digest="0" * 64)
        old, older = (await get(client, instance, "accounts"))["items"]
        assert (old["permissions"], old["attributes"]) == (None, {})
        assert older["permissions"]["roles"] == [] and older["permissions"]["object_privileges"] == {}

    async def test_bad_input(self, client: httpx.AsyncClient, instance: int) -> None:
        for parameters in ({"sort": "host"}, {"is_present": "maybe"}, {"q": "\x00"}, {"classification_id": 0}):
            answer = await client.get(url(instance, "accounts"), params=parameters)
            assert (answer.status_code, answer.json()["code"]) == (422, 25000), parameters


class TestDatabases:
    async def test_are_listed(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        shop = FoundDatabase("shop", "alice", "UTF8", "C")
        await sync_databases(database, instance, shop, FoundDatabase("postgres", is_system=True), FoundDatabase("old"))
        await sync_databases(database, instance, shop, FoundDatabase("postgres", is_system=True), at=SECOND)
        page = await get(client, instance, "databases", include_total=True)
        assert [each["name"] for each in page["items"]] == ["postgres", "shop"] and page["total"] == 2
        found = page["items"][1]
        assert (moment(found.pop("first_seen_at")), moment(found.pop("last_seen_at"))) == (FIRST, SECOND)
        assert found == {
            "id": found["id"],
            "name": "shop",
            "owner": "alice",
            "character_set_name": "UTF8",
            "collation_name": "C",
            "is_system": False,
            "is_present": True,
        }
        for parameters, names in (
            ({"is_system": True}, ["postgres"]),
            ({"is_present": False}, ["old"]),
            ({"q": "SH"}, ["shop"]),
        ):
            page = await get(client, instance, "databases", **parameters)
            assert [each["name"] for each in page["items"]] == names

    async def test_by_pages(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        await sync_databases(database, instance, *(FoundDatabase(name) for name in "edcba"))
        items = await all_pages(client, instance, "databases", sort="-name")
        assert [each["name"] for each in items] == list("edcba")
        assert (await client.get(url(instance, "databases"), params={"sort": "owner"})).status_code == 422


class TestChangeLogs:
    @pytest.fixture
    async def logged(self, database: Database, instance: int) -> AsyncIterator[int]:
        await sync_accounts(database, instance, BOB)
        await sync_accounts(database, instance, replace(BOB, permissions=FoundPermissions(roles=["dba"])), at=SECOND)
        await sync_accounts(database, instance, account("eve", "%"), at=THIRD)
        yield instance

    async def test_newest_first(self, client: httpx.AsyncClient, logged: int) -> None:
        page = await get(client, logged, "change-logs", include_total=True)
        assert page["total"] == 3
        assert [(each["change_type"], each["username"], each["host"], each["diff"]) for each in page["items"]] == [
            ("removed", "bob", "", "- account bob\n- role dba"),
            ("added", "eve", "%", "+ account eve@%"),
            ("privileges_changed", "bob", "", "+ role dba"),
        ]
        assert [moment(each["changed_at"]) for each in page["items"]] == [THIRD, THIRD, SECOND]
        assert [each["changes"] for each in page["items"]] == [
            {"taken": {"roles": ["dba"]}},
            {},
            {"given": {"roles": ["dba"]}},
        ]

    async def test_filters(self, client: httpx.AsyncClient, logged: int) -> None:
        async def types(**parameters: Any) -> list[str]:
            page = await get(client, logged, "change-logs", include_total=True, **parameters)
            assert page["total"] == len(page["items"])
            return [each["change_type"] for each in page["items"]]

        assert await types(username="bob") == ["removed", "privileges_changed"]
        assert await types(username="Bob") == []
        assert await types(change_type="added") == ["added"]
        assert await types(since=THIRD.isoformat()) == ["removed", "added"]
        assert await types(until=THIRD.isoformat()) == ["privileges_changed"]
        assert await types(since=SECOND.isoformat(), until=THIRD.isoformat()) == ["privileges_changed"]
        assert await types(since="2026-05-01T00:00:00", sort="id") == ["privileges_changed", "added", "removed"]

    async def test_by_pages(self, client: httpx.AsyncClient, logged: int) -> None:
        for sort in ("-changed_at", "changed_at", "id", "-id"):
            items = await all_pages(client, logged, "change-logs", sort=sort)
            ids = [each["id"] for each in items]
            assert ids == sorted(ids, reverse=sort.startswith("-")) and len(ids) == 3

    async def test_bad_input(self, client: httpx.AsyncClient, instance: int) -> None:
        for parameters in (
            {"change_type": "renamed"},
            {"since": "yesterday"},
            {"since": "0001-01-01T00:00:00+14:00"},
            {"username": "\x00"},
            {"username": "x" * 256},
            {"sort": "diff"},
        ):
            answer = await client.get(url(instance, "change-logs"), params=parameters)
            assert (answer.status_code, answer.json()["code"]) == (422, 25000), parameters


class TestSettings:
    async def test_are_the_last_ones(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        await sync_settings(database, instance, {"a": "0"})
        await sync_settings(database, instance, {"c": "3", "B": "2", "a": "1"}, SECOND)
        page = await get(client, instance, "settings", include_total=True)
        assert moment(page.pop("captured_at")) == SECOND
        assert page == {
            "items": [{"name": "B", "value": "2"}, {"name": "a", "value": "1"}, {"name": "c", "value": "3"}],
            "next_cursor": None,
            "total": 3,
        }
        page = await get(client, instance, "settings", q="b", include_total=True)
        assert (page["items"], page["total"]) == ([{"name": "B", "value": "2"}], 1)

    async def test_by_pages(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        await sync_settings(database, instance, {name: name for name in "edcba"})
        assert [each["name"] for each in await all_pages(client, instance, "settings")] == list("abcde")

    async def test_history(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        await sync_settings(database, instance, {"a": "1", "b": "2"})
        await sync_settings(database, instance, {"a": "2", "b": "2"}, SECOND)
        await sync_settings(database, instance, {"a": "2", "c": "3"}, THIRD)
        page = await get(client, instance, "settings/history", include_total=True)
        assert (page["total"], page["next_cursor"]) == (2, None)
        latest, earlier = page["items"]
        assert (moment(latest["captured_at"]), moment(earlier["captured_at"])) == (THIRD, SECOND)
        names = ("added", "changed", "removed")
        assert [latest[name] for name in names] == [{"c": "3"}, {}, {"b": "2"}]
        assert [earlier[name] for name in names] == [{}, {"a": {"before": "1", "after": "2"}}, {}]

    @pytest.mark.parametrize("changes", [1, 2, 3, 4, 5])
    async def test_history_by_pages(
        self, client: httpx.AsyncClient, database: Database, instance: int, changes: int
    ) -> None:
        for number in range(changes + 1):
            await sync_settings(database, instance, {"a": str(number)}, FIRST.replace(hour=number))
        items = await all_pages(client, instance, "settings/history")
        expected = [str(number) for number in range(changes, 0, -1)]
        assert [each["changed"]["a"]["after"] for each in items] == expected


class TestMembers:
    async def test_are_told_as_their_kind(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        await sync_members(database, instance, PostgresqlMember(role="standby", source_host="pg-01", source_port=5432))
        page = await get(client, instance, "members", include_total=True)
        assert page["total"] == 1
        [found] = page["items"]
        assert (found["db_type"], moment(found["seen_at"])) == ("postgresql", FIRST)
        assert found["place"] == {
            "role": "standby",
            "system_identifier": None,
            "timeline": None,
            "source_host": "pg-01",
            "source_port": 5432,
            "replication_state": None,
            "lag_seconds": None,
            "replica_count": None,
        }

    async def test_kinds_are_told_apart(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        instance = await registry.instance(db_type="redis")
        await sync_members(database, instance, RedisMember(mode="cluster", role="replica"))
        [found] = (await get(client, instance, "members"))["items"]
        assert (found["place"]["mode"], "timeline" in found["place"]) == ("cluster", False)

    async def test_by_pages(self, client: httpx.AsyncClient, database: Database, registry: Registry) -> None:
        instance = await registry.instance(db_type="sqlserver")
        groups = [SqlserverMember(group_name=name, role="primary") for name in "abcde"]
        await sync_members(database, instance, *groups)
        items = await all_pages(client, instance, "members")
        assert [each["place"]["group_name"] for each in items] == list("abcde")


class TestDocuments:
    async def test_what_is_answered_is_what_is_documented(
        self, client: httpx.AsyncClient, database: Database, instance: int
    ) -> None:
        """Two lists are written without their models."""
        await sync_accounts(database, instance, BOB)
        await sync_accounts(database, instance, ALICE, at=SECOND)
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
        [found] = (await get(client, instance, "accounts"))["items"]
        assert found.keys() == schemas["Account"]["properties"].keys()
        assert found["permissions"].keys() == schemas["Permissions"]["properties"].keys()
        for entry in (await get(client, instance, "change-logs"))["items"]:
            assert entry.keys() == schemas["AccountChange"]["properties"].keys()
            assert entry["changes"].keys() <= schemas["Changes"]["properties"].keys()
