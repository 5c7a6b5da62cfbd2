"""Access tokens that are not ours, or not any more, or not quite."""

import base64
import json
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from app.access.tokens import ALGORITHM, AUDIENCE, ISSUER
from tests.factories import Registry
from tests.users.accounts import ME


@pytest.fixture
async def claims(registry: Registry) -> dict[str, Any]:
    """Those of a token that would be good."""
    user_id = await registry.user("jane")
    session_id = await registry.user_session(user_id)
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": str(user_id), "sid": session_id, "iat": now, "exp": now + 60}


def signed(app: FastAPI, claims: dict[str, Any], algorithm: str = ALGORITHM) -> str:
    return jwt.encode({"alg": algorithm}, claims, app.state.tokens._key, algorithms=[algorithm])


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


async def status(client: httpx.AsyncClient, token: str) -> int:
    answer = await client.get(ME, headers={"Authorization": f"Bearer {token}"})
    if answer.status_code == 401:
        assert answer.json()["code"] == 25020
        assert answer.headers["www-authenticate"] == "Bearer"
    return answer.status_code


class TestForged:
    async def test_one_that_is_good_is_let_in(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any]
    ) -> None:
        """Without which the others would prove nothing."""
        assert await status(stranger, signed(app, claims)) == 200

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
    async def test_without_a_signature(
        self, stranger: httpx.AsyncClient, claims: dict[str, Any], algorithm: str
    ) -> None:
        for signature in ("", "AAAA"):
            token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}.{signature}"
            assert await status(stranger, token) == 401

    async def test_that_says_none_over_a_good_signature(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any]
    ) -> None:
        _, payload, signature = signed(app, claims).split(".")
        assert await status(stranger, f"{part({'alg': 'none'})}.{payload}.{signature}") == 401

    async def test_with_another_key(self, stranger: httpx.AsyncClient, claims: dict[str, Any]) -> None:
        other = OctKey.import_key(b"k" * 64)
        assert await status(stranger, jwt.encode({"alg": ALGORITHM}, claims, other)) == 401

    async def test_with_another_algorithm(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any]
    ) -> None:
        for algorithm in ("HS384", "HS512"):
            assert await status(stranger, signed(app, claims, algorithm)) == 401
        key = RSAKey.generate_key(2048)
        assert await status(stranger, jwt.encode({"alg": "RS256"}, claims, key, algorithms=["RS256"])) == 401

    async def test_with_a_key_of_its_own_in_the_header(
        self, stranger: httpx.AsyncClient, claims: dict[str, Any]
    ) -> None:
        other = OctKey.import_key(b"k" * 64)
        header = {"alg": ALGORITHM, "jwk": {"kty": "oct", "k": other.as_dict(private=True)["k"]}}
        assert await status(stranger, jwt.encode(header, claims, other)) == 401

    async def test_with_claims_changed_under_the_signature(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any], admin: int
    ) -> None:
        header, _, signature = signed(app, claims).split(".")
        assert await status(stranger, f"{header}.{part({**claims, 'sub': str(admin)})}.{signature}") == 401

    @pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "e30.e30.", "Bearer", "é" * 20, "x" * 5000])
    async def test_rubbish(self, stranger: httpx.AsyncClient, token: str) -> None:
        answer = await stranger.get(ME, headers=[(b"Authorization", b"Bearer " + token.encode("latin-1"))])
        assert answer.status_code == 401


class TestSigned:
    """By us, and worth nothing all the same."""

    @pytest.mark.parametrize(
        "change",
        [
            {"exp": 1},
            {"exp": None},
            {"exp": "soon"},
            {"aud": "another"},
            {"aud": None},
            {"iss": "another"},
            {"iss": None},
            {"sub": None},
            {"sub": "jane"},
            {"sid": None},
            {"sid": "x"},
            {"sid": 999_999},
        ],
    )
    async def test_with_claims_that_are_missing_or_wrong(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any], change: dict[str, Any]
    ) -> None:
        changed = {name: value for name, value in (claims | change).items() if value is not None}
        assert await status(stranger, signed(app, changed)) == 401

    async def test_that_has_just_expired(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any]
    ) -> None:
        assert await status(stranger, signed(app, claims | {"exp": int(time.time()) - 1})) == 401

    async def test_with_the_session_of_another_user(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any], registry: Registry, admin: int
    ) -> None:
        others = await registry.user_session(admin)
        assert await status(stranger, signed(app, claims | {"sid": others})) == 401
        assert await status(stranger, signed(app, claims | {"sub": str(admin)})) == 401


class TestWhereItStands:
    async def test_nowhere_but_in_the_header(
        self, app: FastAPI, stranger: httpx.AsyncClient, claims: dict[str, Any]
    ) -> None:
        token = signed(app, claims)
        for answer in (
            await stranger.get(ME, params={"access_token": token, "token": token}),
            await stranger.get(ME, headers={"Cookie": f"access_token={token}; Authorization=Bearer {token}"}),
            await stranger.get(ME, headers={"Authorization": token}),
            await stranger.get(ME, headers={"Authorization": f"Basic {token}"}),
            await stranger.get(ME, headers={"Authorization": f"Bearer {token}, Bearer {token}"}),
        ):
            assert answer.status_code == 401
