"""The gate: what a caller may present, and how."""

import httpx
import pytest
from fastapi import FastAPI

from app.access.api_key_format import MAX_CHARACTERS, PREFIX
from app.access.gate import MAX_TOKEN_CHARACTERS, narrow_to
from app.access.identities import Identities, Identity
from app.access.permissions import Permission
from app.caller import NOWHERE, Call, Caller, Spaces, calling
from app.errors import Forbidden
from tests.conftest import client_of
from tests.signing_in import key_of, signed_in_as

URL = "/api/v1/tags"


async def refusal(client: httpx.AsyncClient, headers: dict[str, str]) -> str:
    """Why it is a 401."""
    answer = await client.get(URL, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, 25020), answer.text
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    return str(answer.json()["detail"])


class TestCredentials:
    async def test_a_token_or_a_key(self, app: FastAPI, stranger: httpx.AsyncClient, admin: int) -> None:
        for headers in (await signed_in_as(app, admin), await key_of(app, admin)):
            assert (await stranger.get(URL, headers=headers)).status_code == 200

    async def test_none(self, stranger: httpx.AsyncClient) -> None:
        assert "sign in" in await refusal(stranger, {})

    async def test_both(self, app: FastAPI, stranger: httpx.AsyncClient, admin: int) -> None:
        """Which of the two is meant would be a guess, and whose rights count another."""
        both = await signed_in_as(app, admin) | await key_of(app, admin)
        assert "not both" in await refusal(stranger, both)

    @pytest.mark.parametrize("scheme", ["Basic", "Token", "bearer,", ""])
    async def test_another_scheme(self, app: FastAPI, stranger: httpx.AsyncClient, admin: int, scheme: str) -> None:
        token = (await signed_in_as(app, admin))["Authorization"].removeprefix("Bearer ")
        await refusal(stranger, {"Authorization": f"{scheme} {token}"})

    async def test_the_scheme_in_any_case(self, app: FastAPI, stranger: httpx.AsyncClient, admin: int) -> None:
        token = (await signed_in_as(app, admin))["Authorization"].removeprefix("Bearer ")
        assert (await stranger.get(URL, headers={"Authorization": f"bearer {token}"})).status_code == 200

    @pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Bearer \t", "Bearer  x", "Bearer x y"])
    async def test_no_token(self, stranger: httpx.AsyncClient, authorization: str) -> None:
        await refusal(stranger, {"Authorization": authorization})

    async def test_a_key_as_a_token_and_a_token_as_a_key(
        self, app: FastAPI, stranger: httpx.AsyncClient, admin: int
    ) -> None:
        key = (await key_of(app, admin))["X-API-Key"]
        token = (await signed_in_as(app, admin))["Authorization"].removeprefix("Bearer ")
        # Known to the cache already, which both share.
        assert (await stranger.get(URL, headers={"X-API-Key": key})).status_code == 200
        assert (await stranger.get(URL, headers={"Authorization": f"Bearer {token}"})).status_code == 200
        await refusal(stranger, {"Authorization": f"Bearer {key}"})
        await refusal(stranger, {"X-API-Key": token})

    async def test_in_the_address(self, app: FastAPI, stranger: httpx.AsyncClient, admin: int) -> None:
        """Addresses are logged."""
        key = (await key_of(app, admin))["X-API-Key"]
        answer = await stranger.get(URL, params={"X-API-Key": key, "api_key": key, "access_token": key})
        assert answer.status_code == 401

    @pytest.mark.parametrize("key", [PREFIX, f"{PREFIX}{43 * 'x'}", "rubbish"])
    async def test_a_key_that_nobody_has(self, stranger: httpx.AsyncClient, key: str) -> None:
        assert key not in await refusal(stranger, {"X-API-Key": key})

    async def test_an_empty_key(self, stranger: httpx.AsyncClient) -> None:
        await refusal(stranger, {"X-API-Key": ""})


class TestTooLong:
    """What cannot be a credential is not looked up: not hashed, not verified, not kept."""

    @pytest.fixture(autouse=True)
    def no_look_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def refuse(_: Identities, presented: str) -> Identity | None:
            raise AssertionError("looked up")

        monkeypatch.setattr(Identities, "of_key", refuse)
        monkeypatch.setattr(Identities, "of_token", refuse)

    async def test_a_key(self, stranger: httpx.AsyncClient) -> None:
        await refusal(stranger, {"X-API-Key": PREFIX + "x" * (MAX_CHARACTERS - len(PREFIX) + 1)})

    async def test_a_token(self, stranger: httpx.AsyncClient) -> None:
        await refusal(stranger, {"Authorization": "Bearer " + "x" * (MAX_TOKEN_CHARACTERS + 1)})


class TestNarrowing:
    """`narrow_to`: what a route asks for first, and services for more."""

    @pytest.mark.parametrize(
        ("before", "held", "after"),
        [
            (None, None, None),
            (None, frozenset({1, 2}), frozenset({1, 2})),
            (frozenset({1, 3}), None, frozenset({1, 3})),
            (frozenset({1, 3}), frozenset({1, 2}), frozenset({1})),
        ],
    )
    def test_leaves_the_spaces_in_which_both_are_held(self, before: Spaces, held: Spaces, after: Spaces) -> None:
        call = Call(caller=Caller(1, "alice"), rights={Permission.TAG_READ: held}, spaces=before)
        with calling(call):
            narrow_to(Permission.TAG_READ)
        assert call.spaces == after

    @pytest.mark.parametrize(("before", "held"), [(None, NOWHERE), (NOWHERE, None), (frozenset({1}), frozenset({2}))])
    def test_to_nothing_is_refused(self, before: Spaces, held: Spaces) -> None:
        with (
            calling(Call(caller=Caller(1, "alice"), rights={Permission.TAG_READ: held}, spaces=before)),
            pytest.raises(Forbidden),
        ):
            narrow_to(Permission.TAG_READ)

    def test_to_what_is_not_held_at_all_is_refused(self) -> None:
        with calling(Call(caller=Caller(1, "alice"), spaces=None)), pytest.raises(Forbidden):
            narrow_to(Permission.TAG_READ)

    def test_everywhere_is_not_satisfied_by_some_spaces(self) -> None:
        rights = {Permission.TAG_READ: frozenset({1, 2})}
        with calling(Call(caller=Caller(1, "alice"), rights=rights, spaces=None)), pytest.raises(Forbidden):
            narrow_to(Permission.TAG_READ, everywhere=True)

    def test_the_service_itself_may_do_everything(self) -> None:
        narrow_to(Permission.TAG_READ, everywhere=True)


class TestOfCallers:
    async def test_a_call_knows_nothing_of_the_one_before(self, app: FastAPI, admin: int) -> None:
        async with client_of(app) as client:
            assert (await client.get(URL, headers=await key_of(app, admin))).status_code == 200
            assert (await client.get(URL)).status_code == 401
