"""How large a body may be: little where little is expected."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.config import Settings

KIB_64, MIB = 64 * 1024, 1024 * 1024
AS_JSON = {"content-type": "application/json"}


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 64 * 1024):
        yield b" " * min(64 * 1024, size)


class TestLimits:
    @pytest.mark.parametrize(
        ("path", "limit"),
        [
            ("/api/v1/tags", MIB),
            ("/api/v1/instances", MIB),
            ("/api/v1/users", MIB),
            ("/api/v1/auth/refresh", KIB_64),
            ("/api/v1/auth/login", KIB_64),
        ],
    )
    async def test_more_is_refused_and_as_much_is_not(self, client: httpx.AsyncClient, path: str, limit: int) -> None:
        over = await client.post(path, content=b" " * (limit + 1), headers=AS_JSON)
        assert (over.status_code, over.json()["code"]) == (413, 25000)
        assert str(limit) in over.json()["detail"]
        assert (await client.post(path, content=b" " * limit, headers=AS_JSON)).status_code == 422

    async def test_a_body_of_undeclared_length_is_counted(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/v1/tags", content=pieces(2 * MIB), headers=AS_JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, 25000)

    async def test_also_where_it_is_read_for_a_key(self, client: httpx.AsyncClient) -> None:
        headers = AS_JSON | {"Idempotency-Key": "k"}
        answer = await client.post("/api/v1/tags", content=pieces(2 * MIB), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, 25000)

    @pytest.mark.parametrize("path", ["/api/v1/instances/batch-delete", "/api/v1/instances/batch-tags"])
    async def test_lists_of_ids_may_be_long(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.post(path, content=b" " * (2 * MIB), headers=AS_JSON)).status_code == 422

    async def test_a_file_may_be_larger(self, client: httpx.AsyncClient) -> None:
        content = b"name,db_type,host\nn,pg,h\n" + b"\n" * (2 * MIB)
        answer = await client.post("/api/v1/instances/batch-create", files={"file": content})
        assert answer.status_code == 200

    async def test_a_length_that_is_none_changes_nothing(self, client: httpx.AsyncClient) -> None:
        headers = AS_JSON | {"content-length": "-1"}
        answer = await client.post("/api/v1/tags", content=b" " * (MIB + 1), headers=headers)
        assert answer.status_code == 413


class TestConfigured:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_body_bytes": 2048})

    @pytest.mark.parametrize("path", ["/api/v1/tags", "/api/v1/instances/batch-delete", "/api/v1/auth/login"])
    async def test_nothing_may_be_larger_than_what_is_configured(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.post(path, content=b" " * 2049, headers=AS_JSON)).status_code == 413
