"""Which classes accounts are in after whatever they follow from has changed, and that nobody is judged without need."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, func, select, update

from app.classifications import assignment, class_digest
from app.classifications.assignment import STEP_ACCOUNTS, RuleApplication
from app.classifications.evaluation import JudgedAccount, Population
from app.database import Database
from app.inventory.records import FoundAccount, FoundPermissions
from app.models.instance import Instance
from app.models.inventory import (
    AccountClassification,
    AccountClassificationAssignment,
    AccountPermission,
    InstanceAccount,
)
from tests.classifications.classifying import SUPERUSERS, URL, assigned, classify, create, sync, sync_in
from tests.conftest import client_of
from tests.factories import Registry
from tests.inventory.syncing import statements_of
from tests.signing_in import signed_in_as

ROOT, VERA = FoundAccount("root", is_superuser=True), FoundAccount("vera")
BROKEN = {"is_super": True}


class Crash(Exception):
    """The service ends before a rule that was saved is applied."""


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of accounts that rules were held against."""
    names: list[str] = []

    class Recording(Population):
        def __init__(self, accounts: list[JudgedAccount]) -> None:
            super().__init__(accounts)
            names.extend(each.username for each in accounts)

    monkeypatch.setattr(assignment, "Population", Recording)
    return names


@pytest.fixture
async def instance(registry: Registry) -> int:
    return int(await registry.instance())


@pytest.fixture
async def superusers(client: httpx.AsyncClient) -> int:
    """The id of a class."""
    return int((await create(client))["id"])


async def change(client: httpx.AsyncClient, classification_id: int, **values: Any) -> None:
    answer = await client.patch(f"{URL}/{classification_id}", json=values)
    assert answer.status_code == 200, answer.text


async def change_and_crash(
    monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient, classification_id: int, **values: Any
) -> None:
    """The rule is saved and not applied."""

    async def apply(*arguments: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(RuleApplication, "apply", apply)
        answer = await client.patch(f"{URL}/{classification_id}", json=values)
    assert answer.status_code == 500


async def execute(database: Database, statement: Any) -> None:
    async with database.writers.begin() as session:
        await session.execute(statement)


class TestNothingNew:
    async def test_nobody_is_judged(
        self, database: Database, instance: int, superusers: int, judged: list[str]
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        assert sorted(judged) == ["root", "vera"]
        judged.clear()
        await sync(database, instance, ROOT, VERA)
        assert (judged, await assigned(database, superusers)) == ([], {"root": 1})

    async def test_what_no_rule_can_see_is_nothing_new(
        self, database: Database, instance: int, superusers: int, judged: list[str]
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        judged.clear()
        await sync(database, instance, replace(ROOT, is_locked=True), VERA)
        assert judged == []

    async def test_two_statements_tell(self, database: Database, instance: int, superusers: int) -> None:
        await sync(database, instance, ROOT, VERA)
        with statements_of(database) as statements:
            await classify(database, instance)
        assert [each.split()[0] for each in statements if not each.startswith("BEGIN")] == ["SELECT", "SELECT"]

    async def test_to_the_instance_nothing_happened(
        self, client: httpx.AsyncClient, database: Database, instance: int, superusers: int
    ) -> None:
        before = (await client.get(f"/api/v1/instances/{instance}")).json()
        await sync(database, instance, ROOT, VERA)
        assert (await client.get(f"/api/v1/instances/{instance}")).json() == before

    async def test_trying_a_rule_changes_nothing(
        self, client: httpx.AsyncClient, database: Database, instance: int, superusers: int, judged: list[str]
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        answer = await client.post(f"{URL}/evaluate", json={"rule": {"name_matches": "*"}})
        assert answer.json()["matched"] == 2
        judged.clear()
        await classify(database, instance)
        assert (judged, await assigned(database, superusers)) == ([], {"root": 1})


class TestAccountsChange:
    """Each sync finds what is told, after one that found root, a superuser, and vera."""

    @pytest.mark.parametrize(
        ("found", "rule", "expected"),
        [
            ((ROOT, VERA, FoundAccount("new", is_superuser=True)), SUPERUSERS, {"root", "new"}),
            ((VERA,), SUPERUSERS, set()),
            ((), SUPERUSERS, set()),
            ((ROOT, replace(VERA, is_superuser=True)), SUPERUSERS, {"root", "vera"}),
            ((replace(ROOT, is_superuser=False), VERA), SUPERUSERS, set()),
            ((replace(ROOT, host="%"), VERA), {"name_matches": "r*"}, {"root"}),
            ((ROOT, replace(VERA, permissions=FoundPermissions(roles=["dba"]))), {"has_role": "dba"}, {"vera"}),
            (
                (ROOT, replace(VERA, permissions=FoundPermissions(global_privileges=["SELECT"]))),
                {"has_privilege": {"privilege": "select", "on": "shop"}},
                {"vera"},
            ),
            (
                (ROOT, replace(VERA, permissions=FoundPermissions(database_privileges={"shop": ["SELECT"]}))),
                {"has_privilege": {"privilege": "select", "on": "shop"}},
                {"vera"},
            ),
            (
                (ROOT, replace(VERA, permissions=FoundPermissions(object_privileges={"shop.orders": ["SELECT"]}))),
                {"not": {"has_privilege": "SELECT"}},
                {"root"},
            ),
        ],
    )
    async def test_their_classes_follow(
        self,
        client: httpx.AsyncClient,
        database: Database,
        instance: int,
        found: tuple[FoundAccount, ...],
        rule: dict[str, Any],
        expected: set[str],
    ) -> None:
        made = await create(client, rule=rule)
        await sync(database, instance, ROOT, VERA)
        await sync(database, instance, *found)
        assert (await assigned(database, made["id"])).keys() == expected

    async def test_who_is_back_is_in_the_class_again(self, database: Database, instance: int, superusers: int) -> None:
        for found, expected in (((ROOT, VERA), {"root": 1}), ((VERA,), {}), ((ROOT, VERA), {"root": 1})):
            await sync(database, instance, *found)
            assert await assigned(database, superusers) == expected

    async def test_another_type_of_database(self, client: httpx.AsyncClient, database: Database, instance: int) -> None:
        made = await create(client, rule={"db_type_in": ["oracle"]})
        await sync(database, instance, ROOT)
        assert await assigned(database, made["id"]) == {}
        await execute(database, update(Instance).values(db_type="oracle"))
        await sync(database, instance, ROOT)
        assert await assigned(database, made["id"]) == {"root": 1}

    async def test_a_sync_that_was_undone_leaves_no_digest_behind(
        self, database: Database, instance: int, superusers: int
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        other = (ROOT, replace(VERA, is_superuser=True))
        with pytest.raises(Crash):
            async with database.writers.begin() as session:
                await sync_in(session, instance, *other)
                raise Crash
        assert await assigned(database, superusers) == {"root": 1}
        await sync(database, instance, *other)
        assert await assigned(database, superusers) == {"root": 1, "vera": 1}

    async def test_syncs_at_once_leave_what_the_last_one_found(
        self, database: Database, instance: int, superusers: int
    ) -> None:
        finds = [(replace(ROOT, is_superuser=bool(number % 2)), VERA) for number in range(8)]
        await asyncio.gather(*(sync(database, instance, *found) for found in finds))
        async with database.readers() as session:
            stored = list(
                await session.scalars(select(InstanceAccount.username).where(InstanceAccount.is_superuser.is_(True)))
            )
        assert sorted(await assigned(database, superusers)) == stored


class TestManyAccounts:
    async def test_those_that_are_gone_are_in_no_class_wherever_they_stand(
        self, client: httpx.AsyncClient, database: Database, instance: int
    ) -> None:
        made = await create(client, rule={"has_role": "r"})
        count = 2 * STEP_ACCOUNTS + 10
        holds = FoundPermissions(roles=["r"])
        await sync(database, instance, *(FoundAccount(f"u-{number}", permissions=holds) for number in range(count)))
        assert len(await assigned(database, made["id"])) == count
        gone = {f"u-{number}" for number in (0, 1, STEP_ACCOUNTS - 1, STEP_ACCOUNTS, STEP_ACCOUNTS + 7, count - 1)}
        # Not by a sync, which takes the classes of accounts that are gone by itself.
        await execute(
            database, update(InstanceAccount).where(InstanceAccount.username.in_(gone)).values(is_present=False)
        )
        await classify(database, instance)
        left = await assigned(database, made["id"])
        assert (len(left), gone & left.keys()) == (count - len(gone), set())
        await execute(database, update(InstanceAccount).values(is_present=False))
        await classify(database, instance)
        assert await assigned(database, made["id"]) == {}

    async def test_each_is_in_its_own_classes(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, instance: int
    ) -> None:
        """Of two instances, whose accounts take turns, and some of which have equal rights."""
        other = await registry.instance()
        classes = {role: (await create(client, role, rule={"has_role": role}))["id"] for role in ("r-0", "r-1", "r-2")}
        found = [
            FoundAccount(f"u-{number}", permissions=FoundPermissions(roles=[f"r-{number % 3}"]))
            for number in range(STEP_ACCOUNTS + 50)
        ]
        for first in (0, 100):
            await sync(database, instance, *found[: first + 100])
            await sync(database, other, *found[: first + 50])
        await sync(database, instance, *found)
        for role, class_id in classes.items():
            expected = {each.username for each in found if each.permissions.roles == [role]}
            assert (await assigned(database, class_id)).keys() == expected
            async with database.readers() as session:
                of_other = select(func.count()).where(
                    AccountClassificationAssignment.instance_id == other,
                    AccountClassificationAssignment.classification_id == class_id,
                )
                assert await session.scalar(of_other) == 50


class TestRulesChange:
    async def test_a_new_one(
        self, client: httpx.AsyncClient, database: Database, instance: int, superusers: int
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        made = await create(client, "all", rule={"name_matches": "*"})
        await sync(database, instance, ROOT, VERA)
        assert await assigned(database, made["id"]) == {"root": 1, "vera": 1}
        assert await assigned(database, superusers) == {"root": 1}

    async def test_another_rule(
        self, client: httpx.AsyncClient, database: Database, instance: int, superusers: int, judged: list[str]
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        await change(client, superusers, rule={"is_superuser": False})
        assert await assigned(database, superusers) == {"vera": 2}
        judged.clear()
        await sync(database, instance, ROOT, VERA)
        assert (sorted(judged), await assigned(database, superusers)) == (["root", "vera"], {"vera": 2})

    async def test_disabled_enabled_again_and_deleted(
        self, client: httpx.AsyncClient, database: Database, instance: int, superusers: int
    ) -> None:
        other = (await create(client, "all", rule={"name_matches": "*"}))["id"]
        everybody = {"root": 1, "vera": 1}
        for is_enabled in (True, False, True):
            await change(client, superusers, is_enabled=is_enabled)
            await sync(database, instance, ROOT, VERA)
            assert await assigned(database, superusers) == ({"root": 1} if is_enabled else {})
            assert await assigned(database, other) == everybody
        assert (await client.delete(f"{URL}/{superusers}")).status_code == 204
        await sync(database, instance, ROOT, VERA)
        assert (await assigned(database, superusers), await assigned(database, other)) == ({}, everybody)

    async def test_without_any_that_is_enabled(
        self, client: httpx.AsyncClient, database: Database, instance: int, superusers: int
    ) -> None:
        await sync(database, instance, ROOT)
        await change(client, superusers, is_enabled=False)
        await sync(database, instance, ROOT)
        assert await assigned(database, superusers) == {}
        await change(client, superusers, is_enabled=True)
        await sync(database, instance, ROOT)
        assert await assigned(database, superusers) == {"root": 1}

    async def test_another_spaces_rule_is_nothing_new(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, superusers: int, judged: list[str]
    ) -> None:
        instance = await registry.instance()
        await sync(database, instance, ROOT)
        judged.clear()
        await create(client, "elsewhere", space_id=await registry.space())
        await sync(database, instance, ROOT)
        assert judged == []

    @pytest.mark.parametrize("is_changed_while_deleted", [True, False])
    async def test_of_an_instance_that_is_restored(
        self,
        client: httpx.AsyncClient,
        database: Database,
        instance: int,
        superusers: int,
        judged: list[str],
        is_changed_while_deleted: bool,
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        await client.delete(f"/api/v1/instances/{instance}")
        if is_changed_while_deleted:
            await change(client, superusers, rule={"is_superuser": False})
            await change(client, superusers, is_enabled=False)
            await change(client, superusers, is_enabled=True)
        assert await assigned(database, superusers) == {"root": 1}
        assert (await client.post(f"/api/v1/instances/{instance}/restore")).status_code == 200
        judged.clear()
        await sync(database, instance, ROOT, VERA)
        if is_changed_while_deleted:
            assert await assigned(database, superusers) == {"vera": 2}
        else:
            assert (judged, await assigned(database, superusers)) == ([], {"root": 1})

    async def test_another_way_of_judging(
        self,
        database: Database,
        instance: int,
        superusers: int,
        judged: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await sync(database, instance, ROOT)
        judged.clear()
        monkeypatch.setattr(class_digest, "_HOW", "another version of the service")
        await sync(database, instance, ROOT)
        assert judged == ["root"]


class TestStoppedHalfWay:
    """A rule was saved, and what it should have done to assignments was not: the next sync makes it good."""

    async def test_another_rule(
        self,
        client: httpx.AsyncClient,
        database: Database,
        instance: int,
        superusers: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await sync(database, instance, ROOT, VERA)
        await change_and_crash(monkeypatch, client, superusers, rule={"is_superuser": False})
        await sync(database, instance, ROOT, VERA)
        assert await assigned(database, superusers) == {"vera": 2}

    async def test_enabled_again(
        self,
        client: httpx.AsyncClient,
        database: Database,
        instance: int,
        superusers: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """All is as it was when the accounts were judged last, but for the assignments."""
        await sync(database, instance, ROOT, VERA)
        await change(client, superusers, is_enabled=False)
        await change_and_crash(monkeypatch, client, superusers, is_enabled=True)
        assert await assigned(database, superusers) == {}
        await sync(database, instance, ROOT, VERA)
        assert await assigned(database, superusers) == {"root": 1}

    async def test_enabled_and_disabled_again(
        self,
        client: httpx.AsyncClient,
        database: Database,
        instance: int,
        superusers: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The rules that are enabled are the same as when the accounts were judged last."""
        other = (await create(client, "all", rule={"name_matches": "*"}, is_enabled=False))["id"]
        await sync(database, instance, ROOT)
        await change(client, other, is_enabled=True)
        await change_and_crash(monkeypatch, client, other, is_enabled=False)
        assert await assigned(database, other) == {"root": 1}
        await sync(database, instance, ROOT)
        assert (await assigned(database, other), await assigned(database, superusers)) == ({}, {"root": 1})


class TestNotUnderstood:
    async def test_is_asked_about_each_time_until_it_is(
        self, database: Database, registry: Registry, instance: int, judged: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space_id = await registry.default_space()
        broken = await registry.insert("account_classifications", space_id=space_id, name="broken", rule=BROKEN)
        good = await registry.insert("account_classifications", space_id=space_id, name="good", rule=SUPERUSERS)
        for _ in range(2):
            judged.clear()
            await sync(database, instance, ROOT, VERA)
            assert judged == ["root", "vera"]
            assert (await assigned(database, broken), await assigned(database, good)) == ({}, {"root": 1})
        # A later version of the service knows the condition; nothing that is stored has changed.
        parse = assignment.parse
        monkeypatch.setattr(assignment, "parse", lambda rule: parse(SUPERUSERS if rule == BROKEN else rule))
        await sync(database, instance, ROOT, VERA)
        assert (await assigned(database, broken), await assigned(database, good)) == ({"root": 1}, {"root": 1})

    @pytest.mark.parametrize("values", [{"rule": BROKEN}, {"is_enabled": False}])
    async def test_what_was_noted_before_it_holds_no_more(
        self, database: Database, instance: int, superusers: int, values: dict[str, Any]
    ) -> None:
        """By hand a rule can be what it was once, revision and all."""
        await sync(database, instance, ROOT)
        await execute(database, update(AccountClassification).values(**values))
        await sync(database, instance, ROOT)
        assert await assigned(database, superusers) == {}
        await execute(database, update(AccountClassification).values(rule=SUPERUSERS, is_enabled=True))
        await sync(database, instance, ROOT)
        assert await assigned(database, superusers) == {"root": 1}


class TestApplying:
    @pytest.mark.parametrize(
        "rule",
        [
            {"db_type_in": ["mysql"]},
            {"is_superuser": True},
            {"name_matches": "r*"},
            {"has_role": "dba"},
            {"has_privilege": "RELOAD"},
            {"has_privilege": {"privilege": "SELECT", "on": "shop"}},
            {"has_privilege": {"privilege": "INSERT", "on": "shop.orders"}},
            {"not": {"has_role": "staff"}},
            {"all": [{"has_role": "dba"}, {"has_privilege": "INSERT"}]},
        ],
    )
    async def test_every_condition_sees_what_is_stored(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, instance: int, rule: dict[str, Any]
    ) -> None:
        """Of rights only those are read that the rule looks at."""
        rights = FoundPermissions(
            roles=["dba"],
            global_privileges=["RELOAD"],
            database_privileges={"shop": ["SELECT"]},
            object_privileges={"shop.orders": ["INSERT"]},
        )
        await sync(database, instance, replace(ROOT, permissions=rights))
        other = await registry.instance(db_type="redis")
        await sync(database, other, replace(VERA, permissions=FoundPermissions(roles=["staff"])))
        made = await create(client, rule=rule)
        assert await assigned(database, made["id"]) == {"root": 1}
        await execute(database, delete(AccountClassificationAssignment))
        await execute(database, update(Instance).values(classes_digest=None))
        await classify(database, instance)
        await classify(database, other)
        assert await assigned(database, made["id"]) == {"root": 1}

    async def test_rights_that_were_never_stored_are_none(
        self, client: httpx.AsyncClient, database: Database, instance: int
    ) -> None:
        await sync(database, instance, ROOT)
        names = ("roles", "global_privileges", "database_privileges", "object_privileges")
        await execute(database, update(AccountPermission).values(**dict.fromkeys(names)))
        rule = {"not": {"any": [{"has_role": "*"}, {"has_privilege": "SELECT"}]}}
        assert await assigned(database, (await create(client, rule=rule))["id"]) == {"root": 1}

    async def test_waits_for_a_sync_and_sees_what_it_found(
        self, database: Database, instance: int, superusers: int
    ) -> None:
        """It has been told all that will change: were the rule applied to what was before, nobody would come back."""
        await sync(database, instance, ROOT, VERA)
        space_id = await _space_of(database, instance)
        async with database.writers.begin() as session:
            await sync_in(session, instance, replace(ROOT, is_superuser=False), replace(VERA, is_superuser=True))
            applying = asyncio.create_task(RuleApplication(database).apply(superusers, space_id))
            done, _ = await asyncio.wait([applying], timeout=0.2)
            assert not done
        await applying
        assert await assigned(database, superusers) == {"vera": 1}
        await sync(database, instance, replace(ROOT, is_superuser=False), replace(VERA, is_superuser=True))
        assert await assigned(database, superusers) == {"vera": 1}

    async def test_by_a_caller_who_reaches_one_space(
        self, app: FastAPI, database: Database, registry: Registry, instance: int
    ) -> None:
        space_id = await registry.space()
        await sync(database, await registry.instance(space_id=space_id), replace(ROOT, username="root-there"))
        await sync(database, instance, ROOT)
        operator = await registry.user(role="operator", space_id=space_id)
        async with client_of(app, await signed_in_as(app, operator)) as client:
            made = await create(client, space_id=space_id)
            assert await assigned(database, made["id"]) == {"root-there": 1}
            answer = await client.post(f"{URL}/evaluate", json={"rule": {"has_role": "*"}, "space_id": space_id})
            assert (answer.json()["accounts"], answer.json()["matched"]) == (1, 0)
            await change(client, made["id"], rule={"is_superuser": False})
            assert await assigned(database, made["id"]) == {}


async def _space_of(database: Database, instance_id: int) -> int:
    async with database.readers() as session:
        return (await session.execute(select(Instance.space_id).where(Instance.id == instance_id))).scalar_one()
