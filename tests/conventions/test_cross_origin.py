"""Pages of other origins: nobody's, unless it is configured."""

import httpx
import pytest
from pydantic import ValidationError

from app.config import Settings

ADMIN = "https://admin.example.com"
URL = "/api/v1/tags"


def preflight(origin: str, method: str = "POST", headers: str = "authorization,idempotency-key") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


class TestByDefault:
    async def test_no_page_may_read_an_answer(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(URL, headers={"Origin": ADMIN})
        assert not [name for name in answer.headers if name.startswith("access-control")]

    async def test_no_page_may_ask(self, client: httpx.AsyncClient) -> None:
        answer = await client.options(URL, headers=preflight(ADMIN))
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


class TestConfigured:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"cors_origins": f"{ADMIN}, http://localhost:5173"})

    @pytest.mark.parametrize("origin", [ADMIN, "http://localhost:5173"])
    async def test_a_listed_page_may_ask_and_read(self, client: httpx.AsyncClient, origin: str) -> None:
        asked = await client.options(URL, headers=preflight(origin))
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == origin
        answer = await client.post(URL, json={"name": "core"}, headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert {"ETag", "Location", "Retry-After", "X-Request-ID", "Idempotency-Replayed"} <= exposed
        assert "access-control-allow-credentials" not in answer.headers

    async def test_it_may_read_refusals_too(self, stranger: httpx.AsyncClient) -> None:
        answer = await stranger.get(URL, headers={"Origin": ADMIN})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ADMIN)

    @pytest.mark.parametrize(
        "asked",
        [
            preflight("https://evil.example"),
            preflight("https://admin.example.com.evil.example"),
            preflight("http://admin.example.com"),
            preflight("null"),
            preflight(ADMIN, method="TRACE"),
            preflight(ADMIN, headers="x-forwarded-for"),
        ],
    )
    async def test_anything_else_is_refused_with_a_problem(
        self, client: httpx.AsyncClient, asked: dict[str, str]
    ) -> None:
        answer = await client.options(URL, headers=asked)
        assert (answer.status_code, answer.json()["code"]) == (400, 25000)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "access-control-allow-origin" not in answer.headers

    async def test_another_page_may_not_read(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(URL, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


class TestSetting:
    @pytest.mark.parametrize(
        "value",
        ["*", "null", "admin.example.com", "https://*.example.com", "https://admin.example.com/", "https://a b"],
    )
    def test_what_is_no_origin_is_refused(self, value: str) -> None:
        with pytest.raises(ValidationError, match="no origin"):
            Settings(cors_origins=value)
