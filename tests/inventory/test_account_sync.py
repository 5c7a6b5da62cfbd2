"""Accounts between syncs: what is stored of them, and what is logged."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.caller import Call, Caller, calling
from app.database import Database
from app.errors import NotFound
from app.inventory.account_sync import AccountSync
from app.inventory.records import FoundPermissions, SyncCounts
from tests.factories import Registry
from tests.inventory.syncing import (
    FIRST,
    SECOND,
    THIRD,
    account,
    accounts,
    logs,
    on_objects,
    rows,
    snapshots,
    statements_of,
    sync_accounts,
)

ALICE = account(
    "alice",
    "%",
    rights=FoundPermissions(
        roles=["reader"],
        global_privileges=["PROCESS"],
        database_privileges={"shop": ["CREATE"]},
        object_privileges={"shop.orders": ["SELECT", "UPDATE"]},
        grantable_privileges=["shop.orders: SELECT"],
    ),
)
BOB = account("bob", "10.0.0.%")


@pytest.fixture
async def instance(registry: Registry) -> int:
    return await registry.instance()


class TestFirst:
    async def test_creates_every_account_as_it_was_found(self, database: Database, instance: int) -> None:
        found = replace(
            ALICE,
            is_superuser=True,
            can_login=False,
            is_locked=True,
            authentication_method="caching_sha2_password",
            password_expires_at=datetime(2027, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            connection_limit=7,
            attributes={"ssl_type": "ANY", "limits": {"max_questions": 5, "ratio": 0.5}, "tags": ["a", None, True]},
        )
        assert await sync_accounts(database, instance, found, BOB) == SyncCounts(found=2, created=2)
        stored = await accounts(database, instance)
        alice = stored["alice", "%"]
        assert alice["is_superuser"] is True and alice["can_login"] is False and alice["is_locked"] is True
        assert alice["authentication_method"] == "caching_sha2_password"
        assert alice["password_expires_at"] == found.password_expires_at
        assert alice["connection_limit"] == 7
        assert alice["attributes"] == found.attributes
        assert alice["first_seen_at"] == alice["last_seen_at"] == FIRST
        bob = stored["bob", "10.0.0.%"]
        assert (bob["is_superuser"], bob["can_login"], bob["is_locked"]) == (False, True, False)
        assert bob["attributes"] is None and bob["password_expires_at"] is None and bob["is_present"] is True

    async def test_keeps_their_rights(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        stored, by_account = await accounts(database, instance), await snapshots(database, instance)
        alice = by_account[stored["alice", "%"]["id"]]
        assert alice["roles"] == ["reader"]
        assert alice["global_privileges"] == ["PROCESS"]
        assert alice["database_privileges"] == {"shop": ["CREATE"]}
        assert alice["object_privileges"] == {"shop.orders": ["SELECT", "UPDATE"]}
        assert alice["grantable_privileges"] == ["shop.orders: SELECT"]
        assert alice["captured_at"] == FIRST and len(alice["digest"]) == 64
        bob = by_account[stored["bob", "10.0.0.%"]["id"]]
        assert bob["roles"] == [] and bob["object_privileges"] == {}

    async def test_logs_nothing(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        assert await logs(database, instance) == []

    async def test_of_a_server_that_shows_nobody(self, database: Database, instance: int) -> None:
        assert await sync_accounts(database, instance) == SyncCounts()


class TestUnchanged:
    async def test_is_only_seen_again(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        before, rights = await accounts(database, instance), await snapshots(database, instance)
        counts = await sync_accounts(database, instance, BOB, ALICE, at=SECOND)
        assert counts == SyncCounts(found=2, unchanged=2)
        seen_again = {name: row | {"last_seen_at": SECOND} for name, row in before.items()}
        assert await accounts(database, instance) == seen_again
        assert await snapshots(database, instance) == rights
        assert await logs(database, instance) == []

    async def test_costs_two_statements(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        with statements_of(database) as sent:
            await sync_accounts(database, instance, ALICE, BOB, at=SECOND)
        sent = [statement for statement in sent if not statement.startswith("BEGIN")]
        assert [statement.split()[0] for statement in sent] == ["SELECT", "UPDATE"]

    async def test_whatever_kind_of_collection_tells_it(self, database: Database, instance: int) -> None:
        attributes = {"b": [1, "x"], "a": {"d": 1.5, "c": None}}
        rights = FoundPermissions(roles=["a", "b"], object_privileges={"x": ["SELECT"], "y": ["INSERT"]})
        await sync_accounts(database, instance, account("alice", rights=rights, attributes=attributes))
        other = FoundPermissions(roles=("a", "b"), object_privileges={"y": ("INSERT",), "x": ("SELECT",)})
        again = account("alice", rights=other, attributes={"a": {"c": None, "d": 1.5}, "b": (1, "x")})
        assert await sync_accounts(database, instance, again, at=SECOND) == SyncCounts(found=1, unchanged=1)

    @pytest.mark.parametrize(
        "moment",
        [
            datetime.max,  # noqa: DTZ901 - as asyncpg tells infinity of a timestamp without a zone
            datetime.max.replace(tzinfo=UTC),
            datetime.min,  # noqa: DTZ901
            datetime.min.replace(tzinfo=UTC),
            datetime(2026, 1, 1),  # noqa: DTZ001
        ],
    )
    async def test_with_moments_that_drivers_make_of_infinity(
        self, database: Database, instance: int, moment: datetime
    ) -> None:
        found = account("alice", password_expires_at=moment, connection_limit=2**32 - 1)
        await sync_accounts(database, instance, found)
        assert await sync_accounts(database, instance, found, at=SECOND) == SyncCounts(found=1, unchanged=1)


class TestAdded:
    async def test_is_logged_with_its_rights(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, BOB)
        assert await sync_accounts(database, instance, BOB, ALICE, at=SECOND) == SyncCounts(
            found=2, created=1, unchanged=1
        )
        diff = "\n".join(
            [
                "+ account alice@%",
                "+ role reader",
                "+ PROCESS on the server",
                "+ CREATE on database shop",
                "+ SELECT on shop.orders",
                "+ UPDATE on shop.orders",
                "SELECT on shop.orders: grantable",
            ]
        )
        assert await logs(database, instance) == [("added", "alice", diff)]
        [entry] = await rows(database, "account_change_logs", instance)
        assert entry["changed_at"] == SECOND and entry["host"] == "%"
        assert entry["changes"] == {
            "given": {
                "roles": ["reader"],
                "global_privileges": ["PROCESS"],
                "database_privileges": {"shop": ["CREATE"]},
                "object_privileges": {"shop.orders": ["SELECT", "UPDATE"]},
                "grantable_privileges": ["shop.orders: SELECT"],
            }
        }

    async def test_as_a_superuser_says_so(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, BOB)
        await sync_accounts(database, instance, BOB, account("root", is_superuser=True), at=SECOND)
        assert await logs(database, instance) == [("added", "root", "+ account root\nis_superuser: no -> yes")]

    async def test_names_compare_exactly(self, database: Database, instance: int) -> None:
        names = [("alice", ""), ("Alice", ""), ("alice ", ""), ("alice", "%"), ("álice", ""), ("a\u0301lice", "")]
        counts = await sync_accounts(database, instance, *(account(*name) for name in names))
        assert counts.created == len(names)
        assert (await accounts(database, instance)).keys() == set(names)


class TestChanged:
    async def test_rights_given_and_taken(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        rights = FoundPermissions(
            roles=["writer"],
            global_privileges=["CREATEDB", "PROCESS"],
            database_privileges={"shop": ["CREATE"], "stock": ["CONNECT"]},
            object_privileges={"shop.items": ["SELECT"], "shop.orders": ["INSERT", "SELECT"]},
            grantable_privileges=["*: CREATEDB"],
        )
        changed = replace(ALICE, permissions=rights)
        assert await sync_accounts(database, instance, changed, BOB, at=SECOND) == SyncCounts(
            found=2, updated=1, unchanged=1
        )
        diff = "\n".join(
            [
                "+ role writer",
                "+ CREATEDB on the server",
                "+ CONNECT on database stock",
                "+ SELECT on shop.items",
                "+ INSERT on shop.orders",
                "- role reader",
                "- UPDATE on shop.orders",
                "CREATEDB on the server: grantable",
                "SELECT on shop.orders: no longer grantable",
            ]
        )
        assert await logs(database, instance) == [("privileges_changed", "alice", diff)]
        [entry] = await rows(database, "account_change_logs", instance)
        assert entry["changes"] == {
            "given": {
                "roles": ["writer"],
                "global_privileges": ["CREATEDB"],
                "database_privileges": {"stock": ["CONNECT"]},
                "object_privileges": {"shop.items": ["SELECT"], "shop.orders": ["INSERT"]},
                "grantable_privileges": ["*: CREATEDB"],
            },
            "taken": {
                "roles": ["reader"],
                "object_privileges": {"shop.orders": ["UPDATE"]},
                "grantable_privileges": ["shop.orders: SELECT"],
            },
        }

    async def test_rights_replace_the_snapshot(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        before = {row["id"]: row for row in await rows(database, "account_permissions", instance)}
        await sync_accounts(database, instance, ALICE, replace(BOB, permissions=on_objects(a__b=["SELECT"])), at=SECOND)
        after = {row["id"]: row for row in await rows(database, "account_permissions", instance)}
        assert before.keys() == after.keys()
        changed = [row for key, row in after.items() if row != before[key]]
        assert [(row["object_privileges"], row["captured_at"]) for row in changed] == [({"a.b": ["SELECT"]}, SECOND)]
        # And the new one is what the next sync compares with.
        again = await sync_accounts(
            database, instance, ALICE, replace(BOB, permissions=on_objects(a__b=["SELECT"])), at=THIRD
        )
        assert again == SyncCounts(found=2, unchanged=2)
        assert len(await logs(database, instance)) == 1

    async def test_attributes(self, database: Database, instance: int) -> None:
        expires = datetime(2027, 1, 1, tzinfo=UTC)
        await sync_accounts(database, instance, account("alice", attributes={"ssl": "ANY", "quota": 5}))
        changed = account(
            "alice",
            is_superuser=True,
            is_locked=True,
            authentication_method="md5",
            password_expires_at=expires,
            connection_limit=3,
            attributes={"ssl": "NONE", "comment": "two\nlines", "roles": ["a"]},
        )
        assert await sync_accounts(database, instance, changed, at=SECOND) == SyncCounts(found=1, updated=1)
        diff = "\n".join(
            [
                "quota: 5 -> none",
                "ssl: ANY -> NONE",
                "is_superuser: no -> yes",
                "is_locked: no -> yes",
                "authentication_method: none -> md5",
                "password_expires_at: none -> 2027-01-01 00:00:00 UTC",
                "connection_limit: none -> 3",
                "comment: none -> two\\nlines",
                'roles: none -> ["a"]',
            ]
        )
        [(kind, username, found)] = await logs(database, instance)
        assert (kind, username, sorted(found.split("\n"))) == ("attributes_changed", "alice", sorted(diff.split("\n")))
        [entry] = await rows(database, "account_change_logs", instance)
        assert entry["changes"]["changed"]["is_superuser"] == {"before": False, "after": True}
        assert entry["changes"]["changed"]["password_expires_at"] == {"before": None, "after": "2027-01-01T00:00:00Z"}
        stored = (await accounts(database, instance))["alice", ""]
        assert stored["attributes"] == changed.attributes and stored["password_expires_at"] == expires
        assert stored["is_superuser"] is True and stored["updated_at"] > stored["created_at"]
        assert await sync_accounts(database, instance, changed, at=THIRD) == SyncCounts(found=1, unchanged=1)

    async def test_both_are_two_entries(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, BOB)
        changed = replace(BOB, is_locked=True, permissions=FoundPermissions(roles=["dba"]))
        await sync_accounts(database, instance, changed, at=SECOND)
        assert await logs(database, instance) == [
            ("privileges_changed", "bob", "+ role dba"),
            ("attributes_changed", "bob", "is_locked: no -> yes"),
        ]

    async def test_attributes_back_to_nothing(self, database: Database, instance: int) -> None:
        found = account("a", authentication_method="md5", connection_limit=1, attributes={"x": 1})
        await sync_accounts(database, instance, found)
        await sync_accounts(database, instance, account("a"), at=SECOND)
        stored = (await accounts(database, instance))["a", ""]
        assert (stored["authentication_method"], stored["connection_limit"], stored["attributes"]) == (None, None, None)

    async def test_of_an_account_whose_rights_were_never_read(
        self, database: Database, registry: Registry, instance: int
    ) -> None:
        await registry.insert("instance_accounts", instance_id=instance, username="bob", host="10.0.0.%")
        bob = replace(BOB, permissions=FoundPermissions(roles=["dba"]))
        assert (await sync_accounts(database, instance, bob)).updated == 1
        assert await logs(database, instance) == [("privileges_changed", "bob", "+ role dba")]
        assert len(await snapshots(database, instance)) == 1


class TestRemoved:
    async def test_stays_as_it_was_last_seen(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        before, rights = await accounts(database, instance), await snapshots(database, instance)
        assert await sync_accounts(database, instance, BOB, at=SECOND) == SyncCounts(found=1, removed=1, unchanged=1)
        after = await accounts(database, instance)
        alice = after["alice", "%"]
        assert alice == before["alice", "%"] | {"is_present": False, "updated_at": alice["updated_at"]}
        assert after["bob", "10.0.0.%"]["last_seen_at"] == SECOND
        assert await snapshots(database, instance) == rights

    async def test_is_logged_once_with_what_it_could(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, replace(ALICE, permissions=on_objects(shop__orders=["SELECT"])), BOB)
        await sync_accounts(database, instance, BOB, at=SECOND)
        assert await sync_accounts(database, instance, BOB, at=THIRD) == SyncCounts(found=1, unchanged=1)
        assert await logs(database, instance) == [("removed", "alice", "- account alice@%\n- SELECT on shop.orders")]

    async def test_is_in_no_class_any_more(self, database: Database, registry: Registry, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        space = await registry.default_space()
        class_id = await registry.insert("account_classifications", space_id=space, name="all", rule={"all": []})
        for snapshot in await rows(database, "account_permissions", instance):
            await registry.insert(
                "account_classification_assignments",
                instance_id=instance,
                permission_id=snapshot["id"],
                classification_id=class_id,
                rule_version=1,
            )
        await sync_accounts(database, instance, BOB, at=SECOND)
        bob = (await accounts(database, instance))["bob", "10.0.0.%"]["id"]
        by_account = await snapshots(database, instance)
        left = await rows(database, "account_classification_assignments", instance)
        assert [row["permission_id"] for row in left] == [by_account[bob]["id"]]

    async def test_all_of_them(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        assert await sync_accounts(database, instance, at=SECOND) == SyncCounts(removed=2)
        assert [kind for kind, *_ in await logs(database, instance)] == ["removed", "removed"]


class TestBack:
    async def test_is_the_same_account_and_logged_as_added(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        before = await accounts(database, instance)
        await sync_accounts(database, instance, ALICE, at=SECOND)
        back = replace(BOB, is_locked=True, permissions=FoundPermissions(roles=["dba"]))
        assert await sync_accounts(database, instance, ALICE, back, at=THIRD) == SyncCounts(
            found=2, created=1, unchanged=1
        )
        bob = (await accounts(database, instance))["bob", "10.0.0.%"]
        assert bob["id"] == before["bob", "10.0.0.%"]["id"]
        assert (bob["is_present"], bob["is_locked"], bob["last_seen_at"]) == (True, True, THIRD)
        assert bob["first_seen_at"] == FIRST
        assert (await snapshots(database, instance))[bob["id"]]["roles"] == ["dba"]
        assert (await logs(database, instance))[1:] == [
            ("added", "bob", "+ account bob@10.0.0.%\n+ role dba\nis_locked: no -> yes")
        ]

    async def test_unchanged(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, ALICE, BOB)
        await sync_accounts(database, instance, ALICE, at=SECOND)
        assert (await sync_accounts(database, instance, ALICE, BOB, at=THIRD)).created == 1
        assert (await accounts(database, instance))["bob", "10.0.0.%"]["is_present"] is True
        assert (await logs(database, instance))[1:] == [("added", "bob", "+ account bob@10.0.0.%")]


class TestTwice:
    async def test_the_first_stands(self, database: Database, instance: int) -> None:
        twice = [account("a", is_superuser=True), account("a", is_locked=True)]
        assert await sync_accounts(database, instance, *twice) == SyncCounts(found=1, created=1)
        stored = (await accounts(database, instance))["a", ""]
        assert (stored["is_superuser"], stored["is_locked"]) == (True, False)


class TestOtherInstances:
    async def test_are_left_alone(self, database: Database, registry: Registry, instance: int) -> None:
        other = await registry.instance()
        await sync_accounts(database, instance, ALICE, BOB)
        await sync_accounts(database, other, ALICE, BOB)
        before = [await accounts(database, other), await snapshots(database, other)]
        await sync_accounts(database, instance, replace(ALICE, is_locked=True), at=SECOND)
        assert [await accounts(database, other), await snapshots(database, other)] == before
        assert await logs(database, other) == []

    async def test_one_that_is_not_there(self, database: Database) -> None:
        with pytest.raises(NotFound):
            await sync_accounts(database, 999_999, ALICE)

    async def test_of_another_space_are_not_there(self, database: Database, registry: Registry, instance: int) -> None:
        await sync_accounts(database, instance, ALICE)
        elsewhere = Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.space()}))
        with calling(elsewhere), pytest.raises(NotFound):
            await sync_accounts(database, instance, ALICE, BOB, at=SECOND)
        assert (await accounts(database, instance))["alice", "%"]["last_seen_at"] == FIRST

    async def test_of_the_callers_space_are_written(
        self, database: Database, registry: Registry, instance: int
    ) -> None:
        """Whoever asked for a sync reaches some spaces only: each statement must be one that can be told so."""
        here = Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.default_space()}))
        with calling(here):
            await sync_accounts(database, instance, ALICE, BOB)
            changed = replace(BOB, is_locked=True, permissions=on_objects(a=["SELECT"]))
            assert (await sync_accounts(database, instance, changed, at=SECOND)).updated == 1
            await sync_accounts(database, instance, changed, at=THIRD)
        assert [kind for kind, *_ in await logs(database, instance)] == [
            "privileges_changed",
            "attributes_changed",
            "removed",
        ]


class TestAtOnce:
    async def test_one_finds_what_the_other_has_written(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, BOB)
        counts = await asyncio.gather(*(sync_accounts(database, instance, BOB, ALICE, at=SECOND) for _ in range(4)))
        assert sorted(each.created for each in counts) == [0, 0, 0, 1]
        assert [kind for kind, *_ in await logs(database, instance)] == ["added"]
        assert len(await rows(database, "account_permissions", instance)) == 2

    async def test_first_syncs(self, database: Database, instance: int) -> None:
        counts = await asyncio.gather(*(sync_accounts(database, instance, BOB, ALICE) for _ in range(4)))
        assert sorted(each.created for each in counts) == [0, 0, 0, 2]
        assert await logs(database, instance) == []

    async def test_the_second_waits(self, database: Database, instance: int) -> None:
        await sync_accounts(database, instance, BOB)
        async with database.writers.begin() as session:
            await AccountSync(session).apply(instance, [BOB, ALICE], SECOND)
            second = asyncio.create_task(sync_accounts(database, instance, BOB, ALICE, at=THIRD))
            done, _ = await asyncio.wait([second], timeout=0.2)
            assert not done
        assert await second == SyncCounts(found=2, unchanged=2)
