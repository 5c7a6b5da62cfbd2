"""Too many requests: counted by caller, refused with a time to come back."""

import time
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.access.rate_limits import RateLimits
from app.caller import Caller
from app.config import Settings
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import key_of, signed_in_as

TAGS = "/api/v1/tags"
LOGIN = "/api/v1/auth/login"
BATCH = "/api/v1/instances/batch-delete/precheck"
LIMITS = {"rate_limits": "on", "rate_limit_requests": 5, "rate_limit_batches": 2, "rate_limit_sign_ins": 2}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=LIMITS)


async def statuses(client: httpx.AsyncClient, count: int, method: str = "GET", url: str = TAGS) -> list[int]:
    return [(await client.request(method, url)).status_code for _ in range(count)]


async def sign_in(client: httpx.AsyncClient, username: str) -> int:
    return (await client.post(LOGIN, data={"username": username, "password": "wrong horse battery"})).status_code


def from_address(app: FastAPI, address: str, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://muster.test", headers=headers)


@pytest.fixture
async def elsewhere(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with from_address(app, "192.0.2.9") as client:
        yield client


class TestRequests:
    async def test_more_are_refused_until_the_minute_is_over(self, client: httpx.AsyncClient) -> None:
        assert await statuses(client, 5) == [200] * 5
        answer = await client.get(TAGS)
        assert (answer.status_code, answer.json()["code"]) == (429, 25022)
        assert answer.headers["content-type"] == "application/problem+json"
        assert 0 < int(answer.headers["retry-after"]) <= 60

    async def test_a_new_minute_begins(self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        await statuses(client, 6)
        later = time.time() + int((await client.get(TAGS)).headers["retry-after"])

        class Clock:
            @staticmethod
            def time() -> float:
                return later

        monkeypatch.setattr("app.access.rate_counters.time", Clock)
        assert (await client.get(TAGS)).status_code == 200

    async def test_each_user_by_themselves(self, app: FastAPI, client: httpx.AsyncClient, registry: Registry) -> None:
        await statuses(client, 6)
        other = await signed_in_as(app, await registry.user(role="admin"))
        async with client_of(app, other) as another:
            assert (await another.get(TAGS)).status_code == 200

    async def test_a_user_is_the_same_from_everywhere(
        self, app: FastAPI, client: httpx.AsyncClient, admin: int
    ) -> None:
        await statuses(client, 5)
        async with from_address(app, "192.0.2.9", await signed_in_as(app, admin)) as same:
            assert (await same.get(TAGS)).status_code == 429

    async def test_each_api_key_by_itself(self, app: FastAPI, client: httpx.AsyncClient, admin: int) -> None:
        await statuses(client, 6)
        async with (
            client_of(app, await key_of(app, admin)) as first,
            client_of(app, await key_of(app, admin)) as second,
        ):
            assert await statuses(first, 6) == [200] * 5 + [429]
            assert await statuses(second, 1) == [200]

    async def test_what_is_refused_for_want_of_permission_counts(self, app: FastAPI, registry: Registry) -> None:
        async with client_of(app, await signed_in_as(app, await registry.user())) as client:
            assert await statuses(client, 6) == [403] * 5 + [429]

    async def test_probes_are_never_refused(self, stranger: httpx.AsyncClient) -> None:
        assert await statuses(stranger, 8, url="/health/ready") == [200] * 8


class TestStrangers:
    async def test_are_counted_by_address(self, stranger: httpx.AsyncClient, elsewhere: httpx.AsyncClient) -> None:
        assert await statuses(stranger, 6) == [401] * 5 + [429]
        assert await statuses(elsewhere, 1) == [401]

    async def test_by_network_where_everybody_has_many(self, app: FastAPI) -> None:
        for number in range(5):
            async with from_address(app, f"2001:db8::{number}") as client:
                assert await statuses(client, 1) == [401]
        async with from_address(app, "2001:db8::abc") as client:
            assert await statuses(client, 1) == [429]

    async def test_who_guesses_too_often_is_not_even_heard(
        self, app: FastAPI, admin: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guesses = {"X-API-Key": "mst_guess"}
        async with client_of(app, guesses) as client:
            assert await statuses(client, 5) == [401] * 5

            async def look_up(_: str) -> None:
                raise AssertionError("it was looked up")

            monkeypatch.setattr(app.state.identities, "of_key", look_up)
            assert await statuses(client, 1) == [429]

    async def test_do_not_lock_out_who_has_signed_in_at_the_same_address(
        self, client: httpx.AsyncClient, stranger: httpx.AsyncClient
    ) -> None:
        await statuses(stranger, 6)
        assert (await client.get(TAGS)).status_code == 200

    async def test_those_who_sign_in_count_too(self, stranger: httpx.AsyncClient) -> None:
        assert [await sign_in(stranger, f"user {number}") for number in range(6)] == [401] * 5 + [429]


class TestBatches:
    @pytest.mark.parametrize(
        "url",
        [
            "/api/v1/instances/batch-create",
            "/api/v1/instances/batch-delete",
            "/api/v1/instances/batch-delete/precheck",
            "/api/v1/instances/batch-tags",
        ],
    )
    async def test_have_a_limit_of_their_own(self, client: httpx.AsyncClient, url: str) -> None:
        assert await statuses(client, 3, "POST", url) == [422, 422, 429]
        assert await statuses(client, 1) == [200]

    async def test_share_it(self, client: httpx.AsyncClient) -> None:
        assert await statuses(client, 2, "POST", BATCH) == [422] * 2
        assert await statuses(client, 1, "POST", "/api/v1/instances/batch-tags") == [429]


class TestSignIns:
    """By address and account; the limit of requests is out of the way."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"rate_limit_requests": 1_000})

    async def test_of_one_account_from_one_address(
        self, stranger: httpx.AsyncClient, elsewhere: httpx.AsyncClient
    ) -> None:
        assert [await sign_in(stranger, "ann") for _ in range(3)] == [401, 401, 429]
        assert await sign_in(stranger, "bob") == 401
        assert await sign_in(elsewhere, "ann") == 401

    async def test_of_one_account_however_it_is_written(self, stranger: httpx.AsyncClient) -> None:
        names = ["ann", "ANN", " Ann "]
        assert [await sign_in(stranger, name) for name in names][-1] == 429

    async def test_of_many_accounts_from_one_address(self, stranger: httpx.AsyncClient) -> None:
        assert [await sign_in(stranger, f"user-{number}") for number in range(13)] == [401] * 12 + [429]


class TestOff:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"rate_limits": "off"})

    async def test_nothing_is_refused(self, client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
        assert await statuses(client, 7) == [200] * 7
        assert await statuses(stranger, 7) == [401] * 7


class TestDefaults:
    def test_are_those_of_the_contract(self) -> None:
        settings = Settings()
        assert settings.rate_limits == "on"
        limits = (settings.rate_limit_requests, settings.rate_limit_batches, settings.rate_limit_sign_ins)
        assert limits == (1_200, 60, 10)

    async def test_each_process_counts_for_itself(self, settings: Settings) -> None:
        for limits in (RateLimits(settings), RateLimits(settings)):
            for _ in range(5):
                await limits.count_call(Caller(1, "ann"), is_batch=False)
