"""The names that the server answers to."""

import httpx
import pytest

from app.config import Settings


async def status(client: httpx.AsyncClient, host: str) -> int:
    return (await client.get("/health/live", headers={"Host": host})).status_code


class TestByDefault:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"allowed_hosts": ""})

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1:8000",
            "localhost",
            "LOCALHOST:80",
            "app.localhost",
            "[::1]:8000",
            "192.0.2.7",
            "api",
            "testserver",
            "",
        ],
    )
    async def test_nobody_elses_name_is_welcome(self, stranger: httpx.AsyncClient, host: str) -> None:
        assert await status(stranger, host) == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example.",
            "evil.example:80@localhost",
            "localhost/../evil.example",
            "[::1].evil.example",
            "localhost evil.example",
            "1.2.3",
            "a" * 300,
        ],
    )
    async def test_names_that_somebody_else_may_have_are_not(self, stranger: httpx.AsyncClient, host: str) -> None:
        answer = await stranger.get("/health/live", headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (400, 25000)
        assert answer.headers["content-type"] == "application/problem+json"


class TestConfigured:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"allowed_hosts": "Muster.example.com, *.fleet.example"})

    @pytest.mark.parametrize("host", ["muster.example.com", "MUSTER.example.com:443", "a.fleet.example", "127.0.0.1"])
    async def test_listed_names_are_added(self, stranger: httpx.AsyncClient, host: str) -> None:
        assert await status(stranger, host) == 200

    @pytest.mark.parametrize("host", ["example.com", "a.muster.example.com", "fleet.example", "notfleet.example"])
    async def test_no_others(self, stranger: httpx.AsyncClient, host: str) -> None:
        assert await status(stranger, host) == 400


class TestOpen:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"allowed_hosts": "*"})

    async def test_every_name_is_welcome(self, stranger: httpx.AsyncClient) -> None:
        assert await status(stranger, "anything.example") == 200


class TestWhereItIsNot:
    async def test_answers_name_no_host(self, client: httpx.AsyncClient) -> None:
        """Whatever a caller says that the server is called, it does not come back as an address to follow."""
        forged = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "Host": "muster.test"}
        answer = await client.post("/api/v1/tags", json={"name": "core"}, headers=forged)
        assert answer.headers["location"].startswith("/api/v1/tags/")
        assert "evil" not in answer.text + str(answer.headers)
