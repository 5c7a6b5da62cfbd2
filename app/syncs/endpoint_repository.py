"""SQL about endpoints that cannot be reached."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name
from app.models.base import table_of
from app.models.sync import SyncEndpoint
from app.syncs.records import UnreachableEndpoint

_endpoints = table_of(SyncEndpoint)
_columns = [_endpoints.c[name] for name in UnreachableEndpoint._fields]


async def find(session: AsyncSession, host: str, port: int) -> UnreachableEndpoint | None:
    """None: nothing is known against it."""
    row = (await session.execute(select(*_columns).where(_is(host, port)))).one_or_none()
    return None if row is None else UnreachableEndpoint._make(row)


async def claim_probe(session: AsyncSession, host: str, port: int, now: datetime, retry_at: datetime) -> bool:
    """Has everybody else wait until `retry_at`; False when somebody was faster."""
    statement = (
        update(_endpoints)
        .where(_is(host, port), _endpoints.c.retry_at <= now)
        .values(retry_at=retry_at)
        .returning(_endpoints.c.port)
    )
    return await session.scalar(statement) is not None


async def note_failure(
    session: AsyncSession, host: str, port: int, now: datetime, error_kind: str
) -> UnreachableEndpoint:
    """One more in a row; the row is locked until the transaction ends."""
    dialect = postgresql if dialect_name(session) == "postgresql" else sqlite
    first = {"failures": 1, "unreachable_since": now, "error_kind": error_kind}
    statement = (
        dialect.insert(_endpoints)
        .values(host=host, port=port, **first)
        .on_conflict_do_update(
            index_elements=[_endpoints.c.host, _endpoints.c.port],
            set_={"failures": _endpoints.c.failures + 1, "error_kind": error_kind},
        )
        .returning(*_columns)
    )
    return UnreachableEndpoint._make((await session.execute(statement)).one())


async def hold_back(session: AsyncSession, host: str, port: int, retry_at: datetime) -> None:
    await session.execute(update(_endpoints).where(_is(host, port)).values(retry_at=retry_at))


async def forget(session: AsyncSession, host: str, port: int) -> None:
    await session.execute(delete(_endpoints).where(_is(host, port)))


def _is(host: str, port: int) -> ColumnElement[bool]:
    return and_(_endpoints.c.host == host, _endpoints.c.port == port)
