"""Entries to seal and to check, and the hands of somebody who tampers with them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text

from app.audit.chain import Sealing
from app.audit.sealer import AuditSealer
from app.audit.verification import AuditVerifier, Verification
from app.database import Database
from app.models import Base

KEY = b"k" * 32
SEALING = Sealing(KEY)
events = Base.metadata.tables["audit_events"]
MOMENT = datetime(2026, 11, 22, 19, 36, 3, 120045, tzinfo=UTC)

# Every column has a value, so that each can be changed into another.
FULL: dict[str, Any] = {
    "occurred_at": MOMENT,
    "space_id": 1,
    "action": "instance:create",
    "resource_type": "instance",
    "resource_id": 17,
    "resource_name": "pg-01 \u6570\u636e \U0001f418",
    "outcome": "succeeded",
    "batch_id": UUID("12345678-1234-5678-1234-567812345678"),
    "actor_id": 3,
    "actor_name": "ada",
    "api_key_prefix": "mk_abcdef",
    "client_address": "192.0.2.7",
    "method": "POST",
    "path": "/api/v1/instances",
    "status": 201,
    "duration_ms": 12,
    "request_id": "abc-123",
    "changes": {"after": {"port": 5432, "share": 0.5, "tags": ["b", "a"], "host": "h", "description": None}},
}


async def add(database: Database, count: int = 1, **values: Any) -> None:
    """Unsealed entries, each with all its columns."""
    async with database.engine.begin() as connection:
        await connection.execute(insert(events), [FULL | values] * count)


async def seal(database: Database) -> int:
    return await AuditSealer(database, SEALING).seal()


async def sealed(database: Database, count: int) -> None:
    await add(database, count)
    assert await seal(database) == count


async def verify(database: Database, *arguments: Any) -> Verification:
    return await AuditVerifier(database, SEALING).verify(*arguments)


def kinds(found: Verification) -> list[tuple[str, int]]:
    return [(finding.kind.value, finding.sequence) for finding in found.findings]


async def tamper(database: Database, statement: str, **values: Any) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement), values)


async def places(database: Database) -> Sequence[tuple[int, int | None]]:
    """(id, sequence), in order of id."""
    async with database.read_engine.connect() as connection:
        found = await connection.execute(select(events.c.id, events.c.sequence).order_by(events.c.id))
        return [(row.id, row.sequence) for row in found]


async def newest(database: Database, **wanted: Any) -> list[dict[str, Any]]:
    """Entries that are as wanted, newest first."""
    async with database.read_engine.connect() as connection:
        statement = select(events).filter_by(**wanted).order_by(events.c.id.desc())
        return [dict(row._mapping) for row in await connection.execute(statement)]


async def count(database: Database, table: str = "audit_events") -> int:
    async with database.read_engine.connect() as connection:
        statement = select(func.count()).select_from(Base.metadata.tables[table])
        return (await connection.execute(statement)).scalar_one()
