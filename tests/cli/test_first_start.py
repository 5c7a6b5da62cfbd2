"""What the first start makes, on both databases; how it is shown is told in test_server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from app.access.api_key_format import digest
from app.access.permissions import BUILT_IN_ROLES, OPERATOR
from app.caller import SERVICE_NAME
from app.commands.first_start import FirstStart, start_first
from app.config import Settings
from app.database import Database
from app.errors import ParameterError
from app.models.audit import AuditEvent
from app.models.role import Role, RoleGrant
from app.models.user import ApiKey, User
from app.users.passwords import verify_password

GOOD_PASSWORD = "a password for tests"


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = Database(settings)
    yield opened
    await opened.dispose()


async def rows(database: Database, *columns: Any) -> Sequence[Any]:
    async with database.readers() as session:
        return (await session.execute(select(*columns))).all()


async def started(database: Database, password: str | None = None) -> FirstStart:
    first = await start_first(database, password)
    assert first is not None
    return first


class TestAdministrator:
    async def test_holds_admin_everywhere(self, database: Database) -> None:
        await started(database)
        assert await rows(database, User.username, User.is_active) == [("admin", True)]
        async with database.readers() as session:
            held = await session.execute(select(Role.name, RoleGrant.space_id).join(Role, Role.id == RoleGrant.role_id))
            assert held.all() == [("admin", None)]

    async def test_has_the_password_that_is_shown(self, database: Database) -> None:
        first = await started(database)
        ((stored,),) = await rows(database, User.password_hash)
        assert first.password is not None
        assert await verify_password(first.password, stored)

    async def test_has_the_configured_password_and_then_nothing_is_shown(self, database: Database) -> None:
        first = await started(database, GOOD_PASSWORD)
        assert (first.password, first.api_key) == (None, None)
        ((stored,),) = await rows(database, User.password_hash)
        assert await verify_password(GOOD_PASSWORD, stored)
        assert await rows(database, ApiKey.id) == []

    def test_what_is_shown_once_is_not_in_its_representation(self) -> None:
        assert repr(FirstStart("a-secret", "another")) == "FirstStart()"

    async def test_a_password_that_is_refused_makes_nobody(self, database: Database) -> None:
        with pytest.raises(ParameterError, match="at least 12 characters"):
            await start_first(database, "short")
        assert await rows(database, User.id) == []

    async def test_the_audit_trail_has_it_as_the_services_own_work(self, database: Database) -> None:
        first = await started(database)
        entries = await rows(database, AuditEvent.action, AuditEvent.actor_id, AuditEvent.actor_name)
        assert {entry.action for entry in entries} == {"user:create", "role:grant", "api_key:create"}
        assert {(entry.actor_id, entry.actor_name) for entry in entries} == {(None, SERVICE_NAME)}
        changes = str(await rows(database, AuditEvent.changes))
        assert first.password is not None
        assert first.password not in changes
        assert first.api_key is not None
        assert first.api_key not in changes


class TestKey:
    async def test_does_the_daily_work_for_a_day(self, database: Database) -> None:
        first = await started(database)
        assert first.api_key is not None
        ((name, key_hash, scopes, expires_at),) = await rows(
            database, ApiKey.name, ApiKey.key_hash, ApiKey.scopes, ApiKey.expires_at
        )
        assert (name, key_hash) == ("first-start", digest(first.api_key))
        assert set(scopes) == {permission.value for permission in BUILT_IN_ROLES[OPERATOR]}
        assert timedelta(hours=23, minutes=50) < expires_at - datetime.now(UTC) <= timedelta(hours=24)


class TestOnce:
    async def test_a_later_start_makes_nothing(self, database: Database) -> None:
        await started(database)
        assert await start_first(database, None) is None
        assert len(await rows(database, User.id)) == 1
        assert len(await rows(database, ApiKey.id)) == 1

    async def test_whoever_is_there_is_enough(self, database: Database) -> None:
        async with database.writers.begin() as session:
            session.add(User(username="somebody", password_hash="!", is_active=False))
        assert await start_first(database, GOOD_PASSWORD) is None
        assert await rows(database, User.username) == [("somebody",)]

    async def test_of_servers_that_start_at_once_one_makes_it(self, settings: Settings) -> None:
        servers = [Database(settings) for _ in range(4)]
        found = await asyncio.gather(*(start_first(server, None) for server in servers))
        made = [first for first in found if first is not None]
        ((stored,),) = await rows(servers[0], User.password_hash)
        assert len(made) == 1
        assert made[0].password is not None
        assert await verify_password(made[0].password, stored)
        assert len(await rows(servers[0], ApiKey.id)) == 1
        for server in servers:
            await server.dispose()


class TestOutage:
    async def test_a_database_that_is_not_there_does_not_stop_the_start(self, settings: Settings) -> None:
        away = Database(
            Settings(database_url="postgresql://muster:hunter2@127.0.0.1:1/none", connect_timeout_seconds=1)
        )
        with structlog.testing.capture_logs() as logs:
            assert await start_first(away, None) is None
        assert "cannot be told yet" in logs[0]["event"]
        assert "hunter2" not in str(logs)
        await away.dispose()
