"""Clients that may do just what a test says, and what the audit trail has of it."""

from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import select

from app.access.permissions import Permission
from app.database import Database
from app.models.audit import AuditEvent
from tests.conftest import client_of
from tests.factories import Registry
from tests.signing_in import signed_in_as


async def user_with(registry: Registry, *permissions: Permission, space_id: int | None = None) -> int:
    """A user who holds these in the space, or everywhere."""
    user_id = await registry.user()
    await registry.grant(user_id, await registry.role(permissions=permissions), space_id)
    return user_id


async def client_with(
    app: FastAPI, registry: Registry, *permissions: Permission, space_id: int | None = None
) -> httpx.AsyncClient:
    return await client_as(app, await user_with(registry, *permissions, space_id=space_id))


async def client_as(app: FastAPI, user_id: int) -> httpx.AsyncClient:
    return client_of(app, await signed_in_as(app, user_id))


async def audited(database: Database, action: str) -> list[AuditEvent]:
    async with database.readers() as session:
        found = await session.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id))
        return list(found)


def problem(answer: httpx.Response) -> tuple[int, int]:
    """Status and code of an answer that is not a success."""
    body: dict[str, Any] = answer.json()
    return answer.status_code, body["code"]
