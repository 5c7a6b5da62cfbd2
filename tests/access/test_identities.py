"""Who presents a token or a key: how long that is kept, and when it is not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, update

from app.access import identities as identities_module
from app.access import repository
from app.access.identities import TIME_TO_LIVE_SECONDS, Identities, Identity
from app.access.permissions import Permission
from app.access.tokens import AccessTokens
from app.database import Database
from app.models.base import utc_now
from app.models.role import RoleGrant
from app.models.user import ApiKey, User, UserSession
from tests.factories import Registry
from tests.signing_in import key_of

LIFETIME_SECONDS = 900


class Clock:
    """The time, which a test can move on; for what is kept, not for the database's rows."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp()

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(identities_module, "time", SimpleNamespace(time=clock.time))
    return clock


@pytest.fixture
def tokens() -> AccessTokens:
    return AccessTokens(b"k" * 32, LIFETIME_SECONDS)


@pytest.fixture
async def identities(clock: Clock, database: Database, tokens: AccessTokens) -> AsyncIterator[Identities]:
    made = Identities(database, tokens)
    yield made
    await made.close()


@pytest.fixture
async def user(registry: Registry) -> int:
    return await registry.user("alice", role="viewer")


@pytest.fixture
async def token(user: int, registry: Registry, tokens: AccessTokens) -> str:
    return tokens.issue(user, await registry.user_session(user))


async def key(app: FastAPI, user_id: int, *scopes: Permission) -> str:
    return (await key_of(app, user_id, scopes or tuple(Permission)))["X-API-Key"]


async def take_everything(database: Database) -> None:
    """Behind everybody's back."""
    async with database.engine.begin() as connection:
        await connection.execute(delete(RoleGrant))


async def by_token(identities: Identities, token: str) -> Identity:
    found = await identities.of_token(token)
    assert found is not None
    return found


class TestRights:
    async def test_are_those_of_every_role_where_it_is_held(
        self, identities: Identities, registry: Registry, tokens: AccessTokens
    ) -> None:
        one, two = await registry.space(), await registry.space()
        user_id = await registry.user("bob", role="viewer", space_id=one)
        tags = await registry.role(permissions=[Permission.TAG_READ, Permission.TAG_CREATE])
        everywhere = await registry.role(permissions=[Permission.TAG_CREATE])
        await registry.grant(user_id, tags, two)
        await registry.grant(user_id, everywhere)
        session_id = await registry.user_session(user_id)
        found = await by_token(identities, tokens.issue(user_id, session_id))
        assert (found.caller.user_id, found.caller.name) == (user_id, "bob")
        assert (found.caller.session_id, found.caller.api_key_prefix) == (session_id, None)
        assert found.rights[Permission.TAG_READ] == {one, two}
        assert found.rights[Permission.INSTANCE_READ] == {one}
        assert found.rights[Permission.TAG_CREATE] is None
        assert Permission.TAG_DELETE not in found.rights

    async def test_of_a_key_are_what_its_owner_holds_of_its_scopes(
        self, app: FastAPI, identities: Identities, user: int
    ) -> None:
        presented = await key(app, user, Permission.TAG_READ, Permission.TAG_DELETE)
        found = await identities.of_key(presented)
        assert found is not None
        assert found.rights == {Permission.TAG_READ: None}
        assert (found.caller.user_id, found.caller.api_key_prefix) == (user, presented[:12])


class TestWorthNothing:
    async def test_a_token_that_is_not_ours(self, identities: Identities, user: int, registry: Registry) -> None:
        foreign = AccessTokens(b"x" * 32, LIFETIME_SECONDS).issue(user, await registry.user_session(user))
        assert await identities.of_token(foreign) is None
        assert await identities.of_token("rubbish") is None

    @pytest.mark.parametrize(
        "values",
        [
            {"ended_at": datetime(2026, 1, 1, tzinfo=UTC)},
            {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)},
        ],
        ids=["ended", "expired"],
    )
    async def test_a_token_of_a_session_that_is_over(
        self, identities: Identities, token: str, database: Database, values: dict[str, datetime]
    ) -> None:
        async with database.engine.begin() as connection:
            await connection.execute(update(UserSession).values(**values))
        assert await identities.of_token(token) is None

    async def test_a_token_of_somebody_elses_session(
        self, identities: Identities, user: int, registry: Registry, tokens: AccessTokens
    ) -> None:
        other = await registry.user()
        assert await identities.of_token(tokens.issue(user, await registry.user_session(other))) is None

    async def test_what_a_disabled_user_has(
        self, app: FastAPI, identities: Identities, token: str, user: int, database: Database
    ) -> None:
        presented = await key(app, user)
        async with database.engine.begin() as connection:
            await connection.execute(update(User).values(is_active=False))
        assert await identities.of_token(token) is None
        assert await identities.of_key(presented) is None

    async def test_a_key_that_has_expired(
        self, app: FastAPI, identities: Identities, user: int, database: Database
    ) -> None:
        presented = await key(app, user)
        async with database.engine.begin() as connection:
            await connection.execute(update(ApiKey).values(expires_at=utc_now()))
        assert await identities.of_key(presented) is None

    async def test_what_only_begins_like_a_key(self, app: FastAPI, identities: Identities, user: int) -> None:
        presented = await key(app, user)
        assert await identities.of_key(presented[:-1]) is None
        assert await identities.of_key(presented + "x") is None


class TestKept:
    async def test_for_the_time_to_live(self, identities: Identities, token: str, clock: Clock) -> None:
        assert identities.known(token) is None
        found = await by_token(identities, token)
        clock.now += TIME_TO_LIVE_SECONDS - 1
        assert identities.known(token) is found
        clock.now += 1
        assert identities.known(token) is None

    async def test_not_longer_than_a_token_is_good(
        self, identities: Identities, token: str, tokens: AccessTokens, clock: Clock
    ) -> None:
        expires_at = (await by_token(identities, token)).expires_at
        assert expires_at is not None
        clock.now = expires_at - 10
        await by_token(identities, token)
        clock.now = expires_at - 0.001
        assert identities.known(token) is not None
        clock.now = expires_at
        assert identities.known(token) is None

    async def test_not_longer_than_a_key_is_good(
        self, app: FastAPI, identities: Identities, user: int, database: Database, clock: Clock
    ) -> None:
        presented = await key(app, user)
        async with database.engine.begin() as connection:
            await connection.execute(update(ApiKey).values(expires_at=utc_now() + timedelta(seconds=10)))
        found = await identities.of_key(presented)
        assert found is not None
        assert found.expires_at is not None
        clock.now = found.expires_at - 0.001
        assert identities.known(presented) is found
        clock.now = found.expires_at
        assert identities.known(presented) is None

    async def test_not_what_is_worth_nothing(self, identities: Identities) -> None:
        assert await identities.of_token("rubbish") is None
        assert identities.known("rubbish") is None


class TestChanged:
    async def test_forgets_everybody_at_the_commit_and_not_before(
        self, identities: Identities, token: str, database: Database
    ) -> None:
        found = await by_token(identities, token)
        async with database.writers.begin() as session:
            await identities.changed(session)
            assert identities.known(token) is found
        assert identities.known(token) is None

    async def test_that_is_undone_forgets_nobody(self, identities: Identities, token: str, database: Database) -> None:
        found = await by_token(identities, token)
        async with database.writers() as session:
            await identities.changed(session)
            await session.rollback()
        assert identities.known(token) is found

    async def test_while_somebody_is_looked_up_what_was_read_is_not_kept(
        self, identities: Identities, token: str, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The look-up has read the old rights when the change is committed, and ends after it."""
        read = repository.held_permissions

        async def overtaken(*arguments: object) -> list[tuple[str, int | None]]:
            held = await read(*arguments)  # type: ignore[arg-type]
            await take_everything(database)
            identities.forget()
            return held

        monkeypatch.setattr(repository, "held_permissions", overtaken)
        assert (await by_token(identities, token)).rights != {}
        assert identities.known(token) is None
        monkeypatch.setattr(repository, "held_permissions", read)
        assert (await by_token(identities, token)).rights == {}
