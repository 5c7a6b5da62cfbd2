"""Users who can really sign in, and signing in as them."""

from typing import Any

import httpx
from sqlalchemy import select

from app.database import Database
from app.models.audit import AuditEvent
from tests.factories import Registry

LOGIN, REFRESH, LOGOUT = "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/logout"
ME, OWN_PASSWORD = "/api/v1/auth/me", "/api/v1/auth/password"
PASSWORD = "seven quiet lighthouses"
# With the parameters of tests.quick_hashes.
PASSWORD_HASH = "$argon2id$v=19$m=8,t=1,p=1$GeZbVXJSSpaPp3NvvnFj9g$s1DXqd0tmkrw/U9WD/avjnwvOeuxMom3U1aXwlaU3tg"


async def account(registry: Registry, name: str = "jane", **values: Any) -> int:
    """The id of a user whose password is PASSWORD."""
    return await registry.user(name, password_hash=PASSWORD_HASH, **values)


async def login(client: httpx.AsyncClient, username: str = "jane", password: str = PASSWORD) -> httpx.Response:
    return await client.post(LOGIN, data={"username": username, "password": password})


async def tokens(client: httpx.AsyncClient, username: str = "jane", password: str = PASSWORD) -> dict[str, Any]:
    answer = await login(client, username, password)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def bearer(issued: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {issued['access_token']}"}


async def is_let_in(client: httpx.AsyncClient, issued: dict[str, Any]) -> bool:
    return (await client.get(ME, headers=bearer(issued))).status_code == 200


async def refreshed(client: httpx.AsyncClient, issued: dict[str, Any]) -> httpx.Response:
    return await client.post(REFRESH, json={"refresh_token": issued["refresh_token"]})


async def audited(database: Database, *actions: str) -> list[AuditEvent]:
    """Those entries, in order; without actions all of them."""
    statement = select(AuditEvent).order_by(AuditEvent.id)
    if actions:
        statement = statement.where(AuditEvent.action.in_(actions))
    async with database.readers() as session:
        return list(await session.scalars(statement))
