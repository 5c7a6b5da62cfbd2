"""Liveness, readiness, pool."""

import httpx


class TestHealth:
    async def test_live(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/live")
        assert (answer.status_code, answer.json()) == (200, {"status": "live"})

    async def test_ready_on_a_migrated_database(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})

    async def test_pool_counts_connections(self, client: httpx.AsyncClient) -> None:
        body = (await client.get("/health/pool")).json()
        assert body == {"size": 20, "checked_out": 0, "available": 40, "overflow": 0, "utilization": 0.0}
