"""What other parts ask of grants: the last administrator, members of a space, who may do more than whom."""

import asyncio

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.access.identities import Identities
from app.access.permissions import Permission
from app.caller import Call, Caller, calling
from app.database import Database
from app.errors import Conflict, Forbidden, NotFound, SpaceNotFound
from app.pagination import PageRequest
from app.users.grant_service import GrantService
from tests.factories import Registry

WAIT_SECONDS = 0.5
FIRST_PAGE = PageRequest(limit=50, cursor=None, include_total=True)


@pytest.fixture
def identities(app: FastAPI) -> Identities:
    return app.state.identities


class TestLastAdmin:
    async def test_a_second_one_who_goes_waits_for_the_first(
        self, database: Database, registry: Registry, identities: Identities
    ) -> None:
        """The second sees what the first has left, whichever began first."""
        alice, bob = await registry.user(role="admin"), await registry.user(role="admin")

        async def demote(user_id: int) -> None:
            async with database.writers.begin() as session:
                await GrantService(session, identities).replace_all(user_id, [])

        async with database.writers.begin() as session:
            await GrantService(session, identities).replace_all(bob, [])
            second = asyncio.create_task(demote(alice))
            await asyncio.wait({second}, timeout=WAIT_SECONDS)
        with pytest.raises(Conflict):
            await second

    async def test_disabling_waits_too(self, database: Database, registry: Registry, identities: Identities) -> None:
        alice, bob = await registry.user(role="admin"), await registry.user(role="admin")

        async def demote() -> None:
            async with database.writers.begin() as session:
                await GrantService(session, identities).replace_all(alice, [])

        async with database.writers.begin() as session:
            await GrantService(session, identities).require_other_admin(bob)
            await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": bob})
            second = asyncio.create_task(demote())
            await asyncio.wait({second}, timeout=WAIT_SECONDS)
        with pytest.raises(Conflict):
            await second

    async def test_others_give_the_role_meanwhile(
        self, database: Database, registry: Registry, identities: Identities
    ) -> None:
        alice, carol = await registry.user(role="admin"), await registry.user()
        await registry.user(role="admin")
        if database.is_sqlite:
            pytest.skip("there is one writer at a time")
        async with database.writers.begin() as session:
            await GrantService(session, identities).require_other_admin(alice)
            async with database.writers.begin() as other:
                admin_role = await registry.role_id("admin")
                await asyncio.wait_for(GrantService(other, identities).grant(carol, admin_role, None), 5)

    async def test_who_is_none_may_go_even_if_nobody_is(
        self, database: Database, registry: Registry, identities: Identities
    ) -> None:
        user_id = await registry.user(role="viewer")
        async with database.writers.begin() as session:
            await GrantService(session, identities).require_other_admin(user_id)


class TestGrant:
    async def test_adds_to_what_is_held(self, database: Database, registry: Registry, identities: Identities) -> None:
        user_id, space_id = await registry.user(role="viewer"), await registry.space()
        async with database.writers.begin() as session:
            service = GrantService(session, identities)
            operator = await service.role_named("operator")
            for _ in range(2):
                await service.grant(user_id, operator.id, space_id)
            assert [(held.role, held.space_id) for held in await service.of_user(user_id)] == [
                ("viewer", None),
                ("operator", space_id),
            ]

    async def test_of_what_does_not_exist(self, database: Database, registry: Registry, identities: Identities) -> None:
        user_id, viewer = await registry.user(), await registry.role_id("viewer")
        async with database.writers() as session:
            service = GrantService(session, identities)
            with pytest.raises(NotFound):
                await service.role_named("king")
            with pytest.raises(NotFound):
                await service.grant(user_id, 999, None)
            with pytest.raises(NotFound):
                await service.grant(999, viewer, None)
            with pytest.raises(SpaceNotFound):
                await service.grant(user_id, viewer, 999)


class TestMembers:
    async def test_are_those_who_hold_a_role_in_the_space(
        self, database: Database, registry: Registry, identities: Identities
    ) -> None:
        space_id, other_space = await registry.space(), await registry.space()
        bob, alice = [await registry.user(name) for name in ("bob", "alice")]
        await registry.user(role="viewer", space_id=other_space)
        await registry.user(role="admin")
        operator, viewer = await registry.role_id("operator"), await registry.role_id("viewer")
        async with database.writers.begin() as session:
            service = GrantService(session, identities)
            await service.set_member(bob, space_id, [viewer])
            member = await service.set_member(alice, space_id, [viewer, operator])
            assert [role.name for role in member.roles] == ["operator", "viewer"]
            page = await service.members(space_id, "username", FIRST_PAGE)
        assert [(each.user_id, each.username, len(each.roles)) for each in page.items] == [
            (alice, "alice", 2),
            (bob, "bob", 1),
        ]
        assert (page.total, page.next_cursor) == (2, None)

    async def test_setting_one_leaves_what_is_held_elsewhere(
        self, database: Database, registry: Registry, identities: Identities
    ) -> None:
        space_id, user_id = await registry.space(), await registry.user(role="viewer")
        await registry.grant(user_id, await registry.role_id("operator"), space_id)
        async with database.writers.begin() as session:
            service = GrantService(session, identities)
            await service.set_member(user_id, space_id, [await registry.role_id("viewer")])
            assert [(held.role, held.space_id) for held in await service.of_user(user_id)] == [
                ("viewer", None),
                ("viewer", space_id),
            ]

    async def test_removing_one(self, database: Database, registry: Registry, identities: Identities) -> None:
        space_id, user_id = await registry.space(), await registry.user(role="viewer")
        await registry.grant(user_id, await registry.role_id("operator"), space_id)
        async with database.writers.begin() as session:
            service = GrantService(session, identities)
            await service.remove_member(user_id, space_id)
            assert [held.space_id for held in await service.of_user(user_id)] == [None]
            with pytest.raises(NotFound):
                await service.remove_member(user_id, space_id)


class TestWithinCaller:
    """A caller with `user:update` everywhere and `tag:read` in one space."""

    async def may_be_changed(self, session_user: tuple[Database, Identities], user_id: int, space_id: int) -> bool:
        database, identities = session_user
        rights = {Permission.USER_UPDATE: None, Permission.TAG_READ: frozenset({space_id})}
        async with database.writers.begin() as session:
            with calling(Call(caller=Caller(1, "someone"), rights=rights, spaces=None)):
                try:
                    await GrantService(session, identities).require_within_caller(user_id)
                except Forbidden:
                    return False
                return True

    async def test_compares_each_permission_where_it_is_held(
        self, database: Database, registry: Registry, identities: Identities
    ) -> None:
        space_id = await registry.space()
        role_id = await registry.role(permissions=[Permission.TAG_READ])
        inside, everywhere, nothing = [await registry.user() for _ in range(3)]
        await registry.grant(inside, role_id, space_id)
        await registry.grant(everywhere, role_id)
        here = (database, identities)
        assert await self.may_be_changed(here, nothing, space_id)
        assert await self.may_be_changed(here, inside, space_id)
        assert not await self.may_be_changed(here, everywhere, space_id)
