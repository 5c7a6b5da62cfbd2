"""Where a call comes from: what a proxy says, if it is one of ours."""

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from sqlalchemy import select

from app.access.rate_limits import RateLimits
from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent
from tests.signing_in import signed_in_as


async def address_of(app: FastAPI, admin: int, peer: str, forwarded: list[str] | str) -> str | None:
    """What the audit trail says of a call from `peer` with these `X-Forwarded-For`."""
    transport = httpx.ASGITransport(app, client=(peer, 1234))
    values = [forwarded] if isinstance(forwarded, str) else forwarded
    headers = [*(await signed_in_as(app, admin)).items(), *(("X-Forwarded-For", value) for value in values)]
    async with httpx.AsyncClient(transport=transport, base_url="http://muster.test", headers=headers) as client:
        assert (await client.post("/api/v1/tags", json={"name": "core"})).status_code == 201
    database: Database = app.state.database
    async with database.readers() as session:
        return (
            await session.execute(select(AuditEvent.client_address).order_by(AuditEvent.id.desc()).limit(1))
        ).scalar_one()


class TestByDefault:
    @pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.1", "::1"])
    async def test_nobody_is_believed(self, app: FastAPI, admin: int, peer: str) -> None:
        assert await address_of(app, admin, peer, "203.0.113.9") == peer

    async def test_nor_about_the_scheme(self, stranger: httpx.AsyncClient) -> None:
        answer = await stranger.get("/health/live", headers={"X-Forwarded-Proto": "https"})
        assert "strict-transport-security" not in answer.headers


class TestBehindProxies:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"trusted_proxies": "10.0.0.0/8,192.0.2.1,fd00::/8"})

    @pytest.mark.parametrize(
        ("peer", "forwarded", "expected"),
        [
            ("10.0.0.5", "203.0.113.9", "203.0.113.9"),
            ("192.0.2.1", "203.0.113.9", "203.0.113.9"),
            ("fd00::1", "2001:db8::9", "2001:db8::9"),
            # Each proxy adds whom it heard from; what the client had written stands before it.
            ("10.0.0.5", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.5", "203.0.113.9, 10.0.0.7, 192.0.2.1", "203.0.113.9"),
            ("10.0.0.5", ["198.51.100.1", "203.0.113.9, 10.0.0.7"], "203.0.113.9"),
            ("10.0.0.5", "203.0.113.9:4711", "203.0.113.9"),
            ("10.0.0.5", "[2001:db8::9]:4711", "2001:db8::9"),
            ("10.0.0.5", "10.0.0.7", "10.0.0.7"),
        ],
    )
    async def test_theirs_is_the_word(
        self, app: FastAPI, admin: int, peer: str, forwarded: list[str] | str, expected: str
    ) -> None:
        assert await address_of(app, admin, peer, forwarded) == expected

    @pytest.mark.parametrize("peer", ["203.0.113.1", "192.0.2.2", "::1", "11.0.0.1"])
    async def test_others_are_not_believed(self, app: FastAPI, admin: int, peer: str) -> None:
        assert await address_of(app, admin, peer, "198.51.100.1") == peer

    @pytest.mark.parametrize(
        "rubbish",
        ["", ",", "unknown", "<script>", "'; DROP TABLE users", "1.2.3.4.5", "a" * 500, "203.0.113.9, nonsense"],
    )
    async def test_what_is_no_address_is_not_taken_for_one(self, app: FastAPI, admin: int, rubbish: str) -> None:
        assert await address_of(app, admin, "10.0.0.5", rubbish) == "10.0.0.5"

    async def test_the_limits_see_the_client(self, app: FastAPI) -> None:
        """A stranger who makes up where they come from is counted all the same."""
        app.state.gate._limits = RateLimits(
            app.state.settings.model_copy(update={"rate_limits": "on", "rate_limit_requests": 2})
        )
        transport = httpx.ASGITransport(app, client=("10.0.0.5", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://muster.test") as client:
            forwarded = [f"198.51.100.{number}, 203.0.113.9" for number in range(3)]
            found = [await client.get("/api/v1/tags", headers={"X-Forwarded-For": each}) for each in forwarded]
            other = await client.get("/api/v1/tags", headers={"X-Forwarded-For": "203.0.113.10"})
        assert [each.status_code for each in found] == [401, 401, 429]
        assert other.status_code == 401

    async def test_they_tell_the_scheme(self, app: FastAPI) -> None:
        transport = httpx.ASGITransport(app, client=("10.0.0.5", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://muster.test") as client:
            answer = await client.get("/health/live", headers={"X-Forwarded-Proto": "https"})
        assert "strict-transport-security" in answer.headers


class TestSetting:
    @pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1;10.0.0.2"])
    def test_what_is_no_network_is_refused(self, value: str) -> None:
        with pytest.raises(ValidationError, match="trusted_proxies"):
            Settings(trusted_proxies=value)

    def test_addresses_and_networks_are_taken(self) -> None:
        assert Settings(trusted_proxies=" 10.0.0.0/8, 192.0.2.1 ,").trusted_proxies == "10.0.0.0/8,192.0.2.1/32"
