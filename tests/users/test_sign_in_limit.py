"""How often signing in may fail, and how often it may be tried."""

import asyncio
import hashlib
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.config import Settings
from app.database import Database
from app.models.audit import AuditOutcome
from app.models.base import utc_now
from app.models.user import SignInFailure
from tests.conftest import client_of
from tests.factories import Registry
from tests.users.accounts import (
    account,
    audited,
    login,
    tokens,
)


def kept(username: str) -> str:
    return hashlib.sha256(username.encode()).hexdigest()


async def failures(database: Database) -> dict[tuple[str, str], tuple[int, bool]]:
    """Count and whether it is locked, by what is kept of the name, and address."""
    async with database.readers() as session:
        return {
            (each.username, each.address): (each.failures, each.locked_until is not None)
            for each in await session.scalars(select(SignInFailure))
        }


async def let_time_pass(database: Database, passed: timedelta) -> None:
    """By making what has happened so much older."""
    async with database.writers.begin() as session:
        for each in (await session.scalars(select(SignInFailure))).all():
            each.first_failed_at -= passed
            each.locked_until = None if each.locked_until is None else each.locked_until - passed


async def fail(client: httpx.AsyncClient, times: int = 5, username: str = "jane") -> list[int]:
    return [(await login(client, username, "wrong")).status_code for _ in range(times)]


class TestLock:
    async def test_five_failures_lock_even_the_right_password_out(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database, verified: list[str]
    ) -> None:
        await account(registry)
        assert await fail(stranger) == [401] * 5
        verified.clear()
        answer = await login(stranger)
        assert (answer.status_code, answer.json()["code"]) == (429, 25022)
        assert 890 <= int(answer.headers["retry-after"]) <= 900
        assert verified == []
        assert await failures(database) == {(kept("jane"), "127.0.0.1"): (5, True)}

    async def test_four_do_not_and_are_forgotten_by_success(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await account(registry)
        await fail(stranger, 4)
        await tokens(stranger)
        assert await failures(database) == {}
        await fail(stranger, 4)
        await tokens(stranger)

    async def test_is_of_this_account_and_this_address(self, app: FastAPI, registry: Registry) -> None:
        await account(registry, "jane")
        await account(registry, "joan")
        async with client_of(app) as client:
            await fail(client)
            assert (await login(client, "joan")).status_code == 200
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://muster.test") as elsewhere:
            assert (await login(elsewhere)).status_code == 200

    async def test_other_forms_of_the_name_count_together(
        self, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        await account(registry)
        for username in ("jane", "JANE", "Jane ", "ｊａｎｅ", "jAne"):
            assert (await login(stranger, username, "wrong")).status_code == 401
        assert (await login(stranger)).status_code == 429

    async def test_names_that_nobody_can_have_are_locked_like_others(
        self, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        await account(registry)
        assert await fail(stranger, 6, "ja\x00ne") == [401] * 5 + [429]
        await tokens(stranger)

    async def test_ends_after_15_minutes(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await account(registry)
        await fail(stranger)
        await let_time_pass(database, timedelta(minutes=14, seconds=50))
        assert (await login(stranger)).status_code == 429
        await let_time_pass(database, timedelta(seconds=11))
        assert await fail(stranger, 4) == [401] * 4
        await tokens(stranger)

    async def test_failures_older_than_15_minutes_do_not_count(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await account(registry)
        await fail(stranger, 4)
        await let_time_pass(database, timedelta(minutes=15, seconds=1))
        assert await fail(stranger, 4) == [401] * 4
        assert await failures(database) == {(kept("jane"), "127.0.0.1"): (4, False)}

    @pytest.mark.parametrize("username", ["jane", "nobody"])
    async def test_many_guesses_at_once_are_no_more_guesses(
        self, stranger: httpx.AsyncClient, registry: Registry, verified: list[str], username: str
    ) -> None:
        await account(registry)
        answers = await asyncio.gather(*(login(stranger, username, "wrong") for _ in range(20)))
        assert sorted(each.status_code for each in answers) == [401] * 5 + [429] * 15
        assert len(verified) == 5

    async def test_many_right_ones_at_once_are_all_let_in(
        self, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        await account(registry)
        answers = await asyncio.gather(*(login(stranger) for _ in range(8)))
        assert [each.status_code for each in answers] == [200] * 8

    async def test_is_audited(self, stranger: httpx.AsyncClient, registry: Registry, database: Database) -> None:
        user_id = await account(registry)
        await fail(stranger)
        await login(stranger)
        entries = await audited(database)
        assert [each.action for each in entries] == ["auth:login"] * 5 + ["auth:locked", "auth:login"]
        assert {(each.resource_id, each.resource_name) for each in entries} == {(user_id, "jane")}
        assert entries[5].changes == {"failures": 5, "seconds": 900}
        assert (entries[6].outcome, entries[6].status) == (AuditOutcome.DENIED, 429)
        assert entries[6].changes == {"reason": "locked"}

    async def test_old_failures_are_removed(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        for minutes, name in ((31, "old"), (29, "recent")):
            await registry.insert(
                "sign_in_failures",
                username=kept(name),
                address="192.0.2.1",
                failures=1,
                first_failed_at=utc_now() - timedelta(minutes=minutes),
            )
        await fail(stranger, 1)
        assert {username for username, _ in await failures(database)} == {kept("recent"), kept("jane")}


class TestRate:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"rate_limits": "on"})

    async def test_is_limited_for_an_account_even_with_the_right_password(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database, verified: list[str]
    ) -> None:
        await account(registry)
        await account(registry, "joan")
        answers = [(await login(stranger, name)).status_code for name in ["jane"] * 10 + ["JANE", "joan"]]
        assert answers == [200] * 10 + [429, 200]
        assert len(verified) == 11
