"""Signing in by user name and password."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import func, select, update

from app.access.api_key_format import digest
from app.database import Database
from app.models.audit import AuditOutcome
from app.models.base import Base, utc_now
from app.models.user import RefreshToken, User, UserSession
from app.users import passwords
from tests.conftest import client_of
from tests.factories import Registry
from tests.users.accounts import (
    LOGIN,
    ME,
    PASSWORD,
    PASSWORD_HASH,
    account,
    audited,
    bearer,
    is_let_in,
    login,
    tokens,
)


def comparable(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """What of an answer may tell anything."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, answer.json() | {"request_id": None}, headers


class TestLogin:
    async def test_answers_tokens_that_work(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await account(registry)
        answer = await login(stranger)
        body = answer.json()
        assert answer.status_code == 200
        assert body == {
            "access_token": body["access_token"],
            "token_type": "bearer",
            "expires_in": 900,
            "refresh_token": body["refresh_token"],
            "refresh_expires_in": 7 * 24 * 3600,
        }
        assert answer.headers["cache-control"] == "no-store"
        assert (await stranger.get(ME, headers=bearer(body))).json()["id"] == user_id

    async def test_keeps_the_refresh_token_only_as_its_hash(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        await account(registry)
        issued = await tokens(stranger)
        async with database.readers() as session:
            kept = (await session.scalars(select(RefreshToken))).one()
        assert kept.token_hash == digest(issued["refresh_token"])
        assert kept.used_at is None
        assert abs(kept.expires_at - utc_now() - timedelta(days=7)) < timedelta(minutes=1)

    @pytest.mark.parametrize("username", ["JANE", " jane ", "Ｊane"])
    async def test_takes_any_form_of_the_name(
        self, stranger: httpx.AsyncClient, registry: Registry, username: str
    ) -> None:
        await account(registry)
        await tokens(stranger, username)

    async def test_takes_what_the_documentation_page_sends(
        self, stranger: httpx.AsyncClient, registry: Registry
    ) -> None:
        await account(registry)
        form = {
            "grant_type": "password",
            "username": "jane",
            "password": PASSWORD,
            "scope": "",
            "client_id": "",
            "client_secret": "",
        }
        answer = await stranger.post(LOGIN, data=form, headers={"Authorization": "Basic Og=="})
        assert answer.status_code == 200

    async def test_notes_when_and_changes_nothing_else_of_the_user(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await account(registry, updated_by=17)
        async with database.readers() as session:
            before = await session.get_one(User, user_id)
        await tokens(stranger)
        async with database.readers() as session:
            after = await session.get_one(User, user_id)
        assert before.last_login_at is None
        assert after.last_login_at is not None
        assert (after.updated_at, after.updated_by, after.revision) == (before.updated_at, 17, before.revision)

    async def test_renews_a_hash_with_old_parameters(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
        user_id = await registry.user("jane", password_hash=old)
        await tokens(stranger)
        async with database.readers() as session:
            assert not passwords._argon2.check_needs_rehash((await session.get_one(User, user_id)).password_hash)
        await tokens(stranger)

    async def test_is_audited(self, stranger: httpx.AsyncClient, registry: Registry, database: Database) -> None:
        user_id = await account(registry)
        await tokens(stranger)
        (entry,) = await audited(database)
        assert (entry.action, entry.outcome, entry.status) == ("auth:login", AuditOutcome.SUCCEEDED, 200)
        assert (entry.actor_id, entry.actor_name, entry.resource_id) == (user_id, "jane", user_id)
        assert entry.client_address == "127.0.0.1"

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"username": "jane"},
            {"password": PASSWORD},
            {"username": "", "password": PASSWORD},
            {"username": "j" * 201, "password": PASSWORD},
            {"username": "jane", "password": "p" * 1001},
            {"username": "jane", "password": PASSWORD, "grant_type": "client_credentials"},
        ],
    )
    async def test_refuses_a_form_that_is_none(
        self, stranger: httpx.AsyncClient, registry: Registry, form: dict[str, str]
    ) -> None:
        await account(registry)
        answer = await stranger.post(LOGIN, data=form)
        assert (answer.status_code, answer.json()["code"]) == (422, 25000)
        assert PASSWORD not in answer.text

    async def test_refuses_json(self, stranger: httpx.AsyncClient, registry: Registry) -> None:
        await account(registry)
        answer = await stranger.post(LOGIN, json={"username": "jane", "password": PASSWORD})
        assert answer.status_code == 422
        assert PASSWORD not in answer.text

    async def test_sweeps_sessions_that_have_expired(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await account(registry)
        old = await registry.user_session(user_id, expires_at=utc_now() - timedelta(seconds=1))
        await registry.insert("refresh_tokens", session_id=old, token_hash="0" * 64, expires_at=utc_now())
        still = await registry.user_session(user_id)
        await tokens(stranger)
        async with database.readers() as session:
            ids = set(await session.scalars(select(UserSession.id)))
            assert await session.scalar(select(func.count(RefreshToken.id))) == 1
        assert old not in ids
        assert still in ids


class TestRefusal:
    async def test_is_the_same_whatever_the_reason(self, app: FastAPI, registry: Registry, verified: list[str]) -> None:
        """Answer, and work done: one verification each."""
        await account(registry, "jane")
        await account(registry, "off", is_active=False)
        attempts = [
            ("jane", "wrong"), ("off", PASSWORD), ("off", "wrong"), ("nobody", PASSWORD), ("no such!", "x"),
            ("ja\x00ne", PASSWORD), ("\x00", "x"), ("jane\r\n\u2028", "x"),
        ]  # fmt: skip
        answers = []
        for username, password in attempts:
            verified.clear()
            async with client_of(app) as client:
                answers.append(comparable(await login(client, username, password)))
            assert len(verified) == 1, username
        assert answers == [answers[0]] * len(attempts)
        assert answers[0][0] == 401

    async def test_is_the_same_at_the_lock_and_after_it(
        self, app: FastAPI, registry: Registry, verified: list[str]
    ) -> None:
        await account(registry, "jane")
        answers: dict[str, list[Any]] = {"jane": [], "nobody": []}
        for username, seen in answers.items():
            async with client_of(app) as client:
                seen.extend([comparable(await login(client, username, "wrong")) for _ in range(6)])
            statuses = [status for status, *_ in seen]
            assert statuses == [401] * 5 + [429]
            # How many seconds are left depends on when one asks.
            seen[5][1]["detail"] = seen[5][2]["retry-after"] = seen[5][2]["content-length"] = ""
        assert answers["jane"] == answers["nobody"]
        assert len(verified) == 10

    async def test_is_audited_with_its_reason(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        user_id = await account(registry, "jane")
        off_id = await account(registry, "off", is_active=False)
        await login(stranger, "Jane", "my-secret-mistake")
        await login(stranger, "off")
        await login(stranger, "nobody")
        entries = await audited(database)
        assert [(each.action, each.resource_name, each.resource_id, each.changes) for each in entries] == [
            ("auth:login", "jane", user_id, {"reason": "wrong password"}),
            ("auth:login", "off", off_id, {"reason": "disabled"}),
            ("auth:login", None, None, {"reason": "unknown user"}),
        ]
        for each in entries:
            assert (each.outcome, each.status, each.actor_id) == (AuditOutcome.DENIED, 401, None)
            assert "my-secret-mistake" not in str(each.changes)

    async def test_keeps_nothing_of_a_name_that_nobody_has(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        """Somebody may have typed the password into the field above it. Failures, the lock and being locked out are
        recorded all the same."""
        await account(registry)
        for _ in range(6):
            await login(stranger, PASSWORD, "wrong")
        entries = await audited(database)
        assert [each.action for each in entries] == ["auth:login"] * 5 + ["auth:locked", "auth:login"]
        assert {(each.resource_type, each.resource_id, each.resource_name) for each in entries} == {
            ("user", None, None)
        }
        async with database.engine.connect() as connection:
            for table in Base.metadata.sorted_tables:
                for row in await connection.execute(select(table)):
                    assert PASSWORD not in str(row), table.name

    async def test_when_the_password_changes_while_the_old_one_is_checked(
        self, stranger: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise a session could begin after all sessions have been ended."""
        user_id = await account(registry)
        check = passwords.check_password

        async def overtaken(*arguments: Any) -> Any:
            found = await check(*arguments)
            async with database.writers.begin() as session:
                await session.execute(update(User).where(User.id == user_id).values(password_hash="!"))
            return found

        monkeypatch.setattr("app.users.sign_in.check_password", overtaken)
        assert (await login(stranger)).status_code == 401
        async with database.readers() as session:
            assert (await session.scalars(select(UserSession))).all() == []


class TestSessionFixation:
    async def test_a_session_is_always_a_new_one(
        self, app: FastAPI, stranger: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        """Whatever the client sends along: the attacker's token, cookies, or an id."""
        await account(registry, "mallory")
        planted = await tokens(stranger, "mallory")
        await account(registry, "jane")
        answer = await stranger.post(
            LOGIN,
            data={"username": "jane", "password": PASSWORD, "session_id": "1", "sid": "1", "user_id": "1", "id": "1"},
            headers=bearer(planted) | {"Cookie": "session=1; sid=1"},
        )
        issued = answer.json()
        async with database.readers() as session:
            ids = list(await session.scalars(select(UserSession.id).order_by(UserSession.id)))
        assert len(ids) == 2
        assert app.state.tokens.verify(issued["access_token"]).session_id == ids[1]
        assert issued["refresh_token"] != planted["refresh_token"]
        assert (await stranger.get(ME, headers=bearer(planted))).json()["username"] == "mallory"
        assert "set-cookie" not in answer.headers


class TestDisabled:
    async def test_is_let_in_again_when_enabled(
        self, stranger: httpx.AsyncClient, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        user_id = await account(registry)
        issued = await tokens(stranger)
        url = f"/api/v1/users/{user_id}"
        assert (await client.patch(url, json={"is_active": False})).status_code == 200
        assert (await login(stranger)).status_code == 401
        assert (await client.patch(url, json={"is_active": True})).status_code == 200
        assert not await is_let_in(stranger, issued)
        assert await is_let_in(stranger, await tokens(stranger))


async def test_the_password_of_these_tests_is_what_they_say() -> None:
    assert await passwords.verify_password(PASSWORD, PASSWORD_HASH)
