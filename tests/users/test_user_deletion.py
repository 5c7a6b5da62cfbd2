"""What a user owns goes with the user; what was done stays, with the name as text."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import selectinload
from sqlalchemy.pool import NullPool

from app.config import Settings
from app.database import Database
from app.models import Base
from app.models.audit import AuditEvent
from app.models.base import utc_now
from app.models.operation import Operation
from app.models.user import User, UserSession
from app.users.ownership_repository import OWNED, TRACED
from tests.conftest import client_of
from tests.factories import Registry
from tests.operations.rows import operation_of
from tests.signing_in import signed_in_as
from tests.users.accounts import audited

URL = "/api/v1/users"
tables = Base.metadata.tables
OWNED_ROWS = {
    "api_keys": 1,
    "idempotency_keys": 1,
    "notifications": 1,
    "operation_items": 2,
    "operations": 1,
    "refresh_tokens": 2,
    "role_grants": 1,
    "user_sessions": 1,
}
TRACED_ROWS = {"credentials": 1, "instances": 1, "roles": 1, "spaces": 1, "tags": 1, "users": 1}


async def with_belongings(registry: Registry, name: str) -> int:
    """A user with a row, or two, in every table that holds what is a user's own, and as its author in every other."""
    user_id = await registry.user(name, role="viewer")
    session_id = await registry.user_session(user_id)
    for number in range(2):
        token_hash = f"{user_id}-{number}"
        await registry.insert("refresh_tokens", session_id=session_id, token_hash=token_hash, expires_at=utc_now())
    await registry.insert("api_keys", user_id=user_id, name="ci", prefix="mst_", key_hash=f"{user_id}", scopes=[])
    await registry.insert("notifications", user_id=user_id, kind="x", title="x")
    await registry.insert(
        "idempotency_keys",
        user_id=user_id,
        key="k",
        fingerprint="f",
        attempt="a",
        lease_until=utc_now() + timedelta(minutes=10),
    )
    await operation_of(registry, user_id, ("deleted", "failed"))
    author = {"created_by": user_id, "updated_by": user_id}
    space_id = await registry.insert("spaces", name=f"{name}'s", **author)
    await registry.insert("roles", name=f"{name}'s", **author)
    await registry.insert("tags", name=f"{name}'s", space_id=space_id, **author)
    await registry.credential(space_id=space_id, **author)
    await registry.instance(space_id=space_id, **author)
    await registry.user(f"{name}-friend", **author)
    return user_id


async def counts(database: Database, conditions: Any, user_id: int) -> dict[str, int]:
    async with database.readers() as session:
        return {
            name: (
                await session.execute(
                    select(func.count()).select_from(tables[name]).where(condition), {"user_id": user_id}
                )
            ).scalar_one()
            for name, condition in conditions.items()
        }


async def total(database: Database, table_name: str) -> int:
    async with database.readers() as session:
        return (await session.execute(select(func.count()).select_from(tables[table_name]))).scalar_one()


@pytest.fixture
async def jane(registry: Registry) -> int:
    return await with_belongings(registry, "jane")


@pytest.fixture
async def joan(registry: Registry) -> int:
    """Who must lose nothing."""
    return await with_belongings(registry, "joan")


class TestDeclarations:
    """So that a table that comes later cannot be forgotten."""

    def test_every_reference_to_a_user_cascades(self) -> None:
        assert [
            f"{table.name}.{key.parent.name}"
            for table in tables.values()
            for key in table.foreign_keys
            if key.column.table.name == "users" and key.ondelete != "CASCADE"
        ] == []

    def test_every_table_below_has_a_relationship_that_deletes(self) -> None:
        """From its parent, with the database left to do it for rows that are not loaded."""
        related = {
            (relation.parent.local_table.name, relation.mapper.local_table.name): relation
            for mapper in Base.registry.mappers
            for relation in mapper.relationships
        }
        for table in tables.values():
            for key in table.foreign_keys:
                parent = key.column.table.name
                if table.name in OWNED and (parent in OWNED or parent == "users"):
                    relation = related[parent, table.name]
                    assert relation.cascade.delete, table.name
                    assert relation.cascade.delete_orphan, table.name
                    assert relation.passive_deletes is True, table.name
                    assert relation.lazy == "raise", table.name

    def test_what_belongs_to_a_user_is_found_in_the_tables(self) -> None:
        assert {"user_sessions", "refresh_tokens", "api_keys", "role_grants", "notifications"} <= OWNED.keys()
        assert "users" not in OWNED
        assert "audit_events" not in OWNED

    def test_these_tests_fill_every_table(self) -> None:
        assert OWNED_ROWS.keys() == OWNED.keys()
        assert TRACED_ROWS.keys() == TRACED.keys()

    async def test_the_trigger_knows_every_table_that_tells_its_author(self, database: Database) -> None:
        source = {
            "sqlite": "SELECT sql FROM sqlite_schema WHERE name = 'muster_forget_user'",
            "postgresql": "SELECT prosrc FROM pg_proc WHERE proname = 'muster_forget_user'",
        }
        async with database.readers() as session:
            program = await session.scalar(text(source["sqlite" if database.is_sqlite else "postgresql"]))
        covered = set(re.findall(r"UPDATE (\w+) SET (\w+) = NULL WHERE \2 = OLD\.id", program))
        assert covered == {
            (table.name, column)
            for table in tables.values()
            for column in ("created_by", "updated_by")
            if column in table.c
        }


class TestDryRun:
    async def test_tells_what_goes_and_what_stays_and_does_nothing(
        self, client: httpx.AsyncClient, database: Database, registry: Registry, jane: int, joan: int
    ) -> None:
        await registry.insert("audit_events", action="x", resource_type="user", outcome="succeeded", actor_id=jane)
        answer = await client.delete(f"{URL}/{jane}", params={"dry_run": True})
        assert answer.status_code == 200
        assert answer.json() == {
            "user_id": jane,
            "username": "jane",
            "dry_run": True,
            "deleted": OWNED_ROWS,
            "cleared": TRACED_ROWS,
            "kept": {"audit_events": 1},
        }
        assert await counts(database, OWNED, jane) == OWNED_ROWS
        assert await audited(database, "user:delete") == []
        assert (await client.get(f"{URL}/{jane}")).status_code == 200

    async def test_of_somebody_with_nothing(self, client: httpx.AsyncClient, registry: Registry) -> None:
        body = (await client.delete(f"{URL}/{await registry.user()}", params={"dry_run": True})).json()
        assert (body["deleted"], body["cleared"], body["kept"]) == ({}, {}, {})


class TestDelete:
    async def test_removes_what_the_dry_run_told(
        self, client: httpx.AsyncClient, database: Database, jane: int, joan: int
    ) -> None:
        told = (await client.delete(f"{URL}/{jane}", params={"dry_run": True})).json()
        answer = await client.delete(f"{URL}/{jane}")
        assert answer.status_code == 200
        assert answer.json() == told | {"dry_run": False}
        assert (await client.get(f"{URL}/{jane}")).status_code == 404
        assert set((await counts(database, OWNED, jane)).values()) == {0}
        assert set((await counts(database, TRACED, jane)).values()) == {0}
        assert await counts(database, OWNED, joan) == OWNED_ROWS
        assert await counts(database, TRACED, joan) == TRACED_ROWS

    async def test_what_they_had_made_stays(
        self, client: httpx.AsyncClient, database: Database, jane: int, joan: int
    ) -> None:
        before = {name: await total(database, name) for name in TRACED}
        await client.delete(f"{URL}/{jane}")
        after = {name: await total(database, name) for name in TRACED}
        assert after == before | {"users": before["users"] - 1}

    async def test_the_audit_trail_stays_with_the_name(
        self, app: FastAPI, client: httpx.AsyncClient, database: Database, registry: Registry, admin: int
    ) -> None:
        user_id = await registry.user("jane", role="operator")
        async with client_of(app, await signed_in_as(app, user_id)) as of_jane:
            assert (await of_jane.post("/api/v1/tags", json={"name": "hers"})).status_code == 201
        await client.delete(f"{URL}/{user_id}")
        made, deleted = await audited(database, "tag:create", "user:delete")
        assert (made.actor_id, made.actor_name) == (user_id, "jane")
        assert (deleted.actor_id, deleted.resource_id, deleted.resource_name) == (admin, user_id, "jane")
        assert deleted.changes == {"rows": {"role_grants": 1, "user_sessions": 1}}

    async def test_signs_them_out_at_once(
        self, app: FastAPI, client: httpx.AsyncClient, stranger: httpx.AsyncClient, jane: int
    ) -> None:
        headers = await signed_in_as(app, jane)
        assert (await stranger.get("/api/v1/auth/me", headers=headers)).status_code == 200
        await client.delete(f"{URL}/{jane}")
        assert (await stranger.get("/api/v1/auth/me", headers=headers)).status_code == 401

    async def test_not_oneself(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        await registry.user(role="admin")
        for dry_run in (True, False):
            answer = await client.delete(f"{URL}/{admin}", params={"dry_run": dry_run})
            assert (answer.status_code, answer.json()["code"]) == (409, 25016)

    async def test_honours_if_match(self, client: httpx.AsyncClient, jane: int) -> None:
        assert (await client.delete(f"{URL}/{jane}", headers={"If-Match": '"7"'})).status_code == 412
        assert (await client.delete(f"{URL}/{jane}", headers={"If-Match": '"1"'})).status_code == 200

    async def test_an_id_is_never_used_again(self, client: httpx.AsyncClient, registry: Registry, jane: int) -> None:
        """Or the trail of one user would be another's."""
        last = await registry.user()
        await client.delete(f"{URL}/{last}")
        assert await registry.user() > last


class TestDatabasesHalf:
    async def test_a_bare_deletion_takes_everything_along(
        self, database: Database, registry: Registry, jane: int, joan: int
    ) -> None:
        await registry.insert("audit_events", action="x", resource_type="user", outcome="succeeded", actor_id=jane)
        before = {name: await total(database, name) for name in TRACED}
        async with database.engine.begin() as connection:
            await connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": jane})
        assert set((await counts(database, OWNED, jane)).values()) == {0}
        assert set((await counts(database, TRACED, jane)).values()) == {0}
        assert await counts(database, OWNED, joan) == OWNED_ROWS
        assert await counts(database, TRACED, joan) == TRACED_ROWS
        after = {name: await total(database, name) for name in TRACED}
        assert after == before | {"users": before["users"] - 1}
        async with database.readers() as session:
            assert await session.scalar(select(func.count()).where(AuditEvent.actor_id == jane)) == 1


class TestOrmsHalf:
    @pytest.fixture
    async def unaided(self, database: Database, settings: Settings) -> AsyncIterator[AsyncSession]:
        """A session in whose database foreign keys do nothing."""
        engine = create_async_engine(settings.resolved_database_url, poolclass=NullPool)
        off = "PRAGMA foreign_keys=OFF" if database.is_sqlite else "SET session_replication_role = replica"
        async with engine.connect() as connection:
            await connection.execute(text(off))
            await connection.commit()
            async with AsyncSession(connection) as session:
                yield session
        await engine.dispose()

    async def test_loaded_children_go_with_the_user(
        self, database: Database, unaided: AsyncSession, jane: int, joan: int
    ) -> None:
        loading = [selectinload(getattr(User, relation.key)) for relation in inspect(User).relationships]
        loading.append(selectinload(User.sessions).selectinload(UserSession.refresh_tokens))
        loading.append(selectinload(User.operations).selectinload(Operation.items))
        user = (await unaided.scalars(select(User).where(User.id == jane).options(*loading))).one()
        await unaided.delete(user)
        await unaided.commit()
        assert set((await counts(database, OWNED, jane)).values()) == {0}
        for grandchildren in ("refresh_tokens", "operation_items"):
            assert await total(database, grandchildren) == OWNED_ROWS[grandchildren]
        assert await counts(database, OWNED, joan) == OWNED_ROWS

    async def test_without_children_loaded_the_database_is_needed(
        self, database: Database, unaided: AsyncSession, jane: int
    ) -> None:
        """Which shows that the test above sees the mapper's work, and that nothing is loaded only to be deleted."""
        await unaided.delete(await unaided.get_one(User, jane))
        await unaided.commit()
        assert await total(database, "user_sessions") == 1

    async def test_a_child_that_is_taken_away_is_deleted(
        self, database: Database, unaided: AsyncSession, jane: int
    ) -> None:
        loading = selectinload(User.api_keys)
        user = (await unaided.scalars(select(User).where(User.id == jane).options(loading))).one()
        user.api_keys.clear()
        await unaided.commit()
        assert await total(database, "api_keys") == 0
