"""Refresh tokens, signing out, and what is worth nothing afterwards."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update

from app.database import Database
from app.models.audit import AuditOutcome
from app.models.base import utc_now
from app.models.user import RefreshToken, SessionEnd, User, UserSession
from tests.factories import Registry
from tests.signing_in import key_of
from tests.users.accounts import LOGOUT, REFRESH, account, audited, bearer, is_let_in, refreshed, tokens


@pytest.fixture
async def jane(registry: Registry) -> int:
    return await account(registry)


async def ends(database: Database) -> list[SessionEnd | None]:
    """Why the sessions ended, in the order in which they began."""
    async with database.readers() as session:
        return list(await session.scalars(select(UserSession.end_reason).order_by(UserSession.id)))


class TestRefresh:
    async def test_answers_new_tokens_of_the_same_session(
        self, app: FastAPI, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        first = await tokens(stranger)
        answer = await refreshed(stranger, first)
        second = answer.json()
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert second.keys() == first.keys()
        assert second["refresh_token"] != first["refresh_token"]
        of = app.state.tokens.verify
        assert of(first["access_token"]).session_id == of(second["access_token"]).session_id
        assert await is_let_in(stranger, first)
        assert await is_let_in(stranger, second)
        assert (await refreshed(stranger, second)).status_code == 200

    async def test_prolongs_the_session(self, stranger: httpx.AsyncClient, jane: int, database: Database) -> None:
        issued = await tokens(stranger)
        soon = utc_now() + timedelta(minutes=1)
        async with database.writers.begin() as session:
            await session.execute(update(UserSession).values(expires_at=soon))
            await session.execute(update(RefreshToken).values(expires_at=soon))
        assert (await refreshed(stranger, issued)).status_code == 200
        async with database.readers() as session:
            expires_at = (await session.scalars(select(UserSession.expires_at))).one()
        assert abs(expires_at - utc_now() - timedelta(days=7)) < timedelta(minutes=1)

    async def test_a_token_used_again_ends_the_whole_session(
        self, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        first = await tokens(stranger)
        second = (await refreshed(stranger, first)).json()
        assert await is_let_in(stranger, second)
        answer = await refreshed(stranger, first)
        assert (answer.status_code, answer.json()["code"]) == (401, 25020)
        assert await ends(database) == [SessionEnd.REUSE]
        for issued in (first, second):
            assert not await is_let_in(stranger, issued)
            assert (await refreshed(stranger, issued)).status_code == 401

    async def test_ends_no_other_session(self, stranger: httpx.AsyncClient, jane: int, database: Database) -> None:
        first, other = await tokens(stranger), await tokens(stranger)
        await refreshed(stranger, first)
        await refreshed(stranger, first)
        assert await ends(database) == [SessionEnd.REUSE, None]
        assert await is_let_in(stranger, other)
        assert (await refreshed(stranger, other)).status_code == 200

    async def test_reuse_is_audited_once(self, stranger: httpx.AsyncClient, jane: int, database: Database) -> None:
        first = await tokens(stranger)
        await refreshed(stranger, first)
        await refreshed(stranger, first)
        (entry,) = await audited(database, "auth:refresh", "request:denied")
        assert (entry.action, entry.outcome, entry.status) == ("auth:refresh", AuditOutcome.DENIED, 401)
        assert (entry.actor_id, entry.resource_id) == (jane, jane)
        assert entry.changes is not None
        assert entry.changes["reason"] == "reused"

    async def test_of_several_at_once_one_wins_and_the_session_ends(
        self, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        issued = await tokens(stranger)
        answers = await asyncio.gather(*(refreshed(stranger, issued) for _ in range(5)))
        assert sorted(each.status_code for each in answers) == [200, 401, 401, 401, 401]
        assert await ends(database) == [SessionEnd.REUSE]
        (won,) = (each.json() for each in answers if each.status_code == 200)
        assert not await is_let_in(stranger, won)
        assert (await refreshed(stranger, won)).status_code == 401

    @pytest.mark.parametrize("token", ["", "x", "msr_" + "A" * 43, "x" * 201, "\x00", "\ud800", None, 7])
    async def test_what_was_never_one_is_refused(
        self, stranger: httpx.AsyncClient, jane: int, database: Database, token: object
    ) -> None:
        await tokens(stranger)
        body = b'{"refresh_token": "\\ud800"}' if token == "\ud800" else None
        answer = (
            await stranger.post(REFRESH, content=body, headers={"Content-Type": "application/json"})
            if body
            else await stranger.post(REFRESH, json={"refresh_token": token})
        )
        assert answer.status_code in (401, 422)
        assert await ends(database) == [None]

    async def test_an_access_token_is_none(self, stranger: httpx.AsyncClient, jane: int) -> None:
        issued = await tokens(stranger)
        answer = await stranger.post(REFRESH, json={"refresh_token": issued["access_token"]})
        assert answer.status_code in (401, 422)

    async def test_a_refresh_token_is_no_access_token(self, stranger: httpx.AsyncClient, jane: int) -> None:
        issued = await tokens(stranger)
        assert not await is_let_in(stranger, {"access_token": issued["refresh_token"]})

    async def test_an_expired_token_is_refused_and_ends_nothing(
        self, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        issued = await tokens(stranger)
        async with database.writers.begin() as session:
            await session.execute(update(RefreshToken).values(expires_at=utc_now()))
        assert (await refreshed(stranger, issued)).status_code == 401
        assert await ends(database) == [None]

    async def test_of_an_expired_session_is_refused(
        self, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        issued = await tokens(stranger)
        async with database.writers.begin() as session:
            await session.execute(update(UserSession).values(expires_at=utc_now()))
        assert (await refreshed(stranger, issued)).status_code == 401

    async def test_of_a_user_disabled_by_hand_is_refused(
        self, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        issued = await tokens(stranger)
        async with database.writers.begin() as session:
            await session.execute(update(User).values(is_active=False))
        assert (await refreshed(stranger, issued)).status_code == 401

    async def test_tokens_that_have_expired_are_removed(
        self, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        issued = await tokens(stranger)
        for _ in range(2):
            issued = (await refreshed(stranger, issued)).json()
        async with database.writers.begin() as session:
            used = update(RefreshToken).where(RefreshToken.used_at.is_not(None))
            await session.execute(used.values(expires_at=utc_now() - timedelta(seconds=1)))
        await refreshed(stranger, issued)
        async with database.readers() as session:
            assert await session.scalar(select(func.count(RefreshToken.id))) == 2


class TestLogout:
    async def test_ends_this_session_at_once_and_no_other(
        self, stranger: httpx.AsyncClient, jane: int, database: Database
    ) -> None:
        issued, other = await tokens(stranger), await tokens(stranger)
        # Known by now, so that it must be forgotten.
        assert await is_let_in(stranger, issued)
        assert (await stranger.post(LOGOUT, headers=bearer(issued))).status_code == 204
        assert not await is_let_in(stranger, issued)
        assert (await refreshed(stranger, issued)).status_code == 401
        assert (await stranger.post(LOGOUT, headers=bearer(issued))).status_code == 401
        assert await is_let_in(stranger, other)
        assert await ends(database) == [SessionEnd.LOGOUT, None]

    async def test_is_audited(self, stranger: httpx.AsyncClient, jane: int, database: Database) -> None:
        await stranger.post(LOGOUT, headers=bearer(await tokens(stranger)))
        (entry,) = await audited(database, "auth:logout")
        assert (entry.outcome, entry.status, entry.actor_id) == (AuditOutcome.SUCCEEDED, 204, jane)

    async def test_is_nothing_for_an_api_key(self, app: FastAPI, stranger: httpx.AsyncClient, jane: int) -> None:
        answer = await stranger.post(LOGOUT, headers=await key_of(app, jane))
        assert (answer.status_code, answer.json()["code"]) == (403, 25020)
        assert "revoke the key" in answer.json()["detail"]
