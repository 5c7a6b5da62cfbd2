"""Alembic's entry: runs migrations over the service's own async engine, or over a connection that a caller hands in."""

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import Settings
from app.models import Base
from app.models.base import UtcDateTime

# Any number will do, as long as nobody else locks it: the letters MUSTER.
MIGRATION_LOCK = 0x4D5553544552

config = context.config


def render_item(kind: str, item: object, _: object) -> str | bool:
    """Migrations name no type of ours: those may change, and a migration may not."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite alters a table by copying it.
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=render_item,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # Two processes that start at once both migrate: the second waits, and then finds nothing left to do.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()


async def run_on_own_engine() -> None:
    settings = Settings()
    engine = create_async_engine(settings.resolved_database_url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


handed_in = config.attributes.get("connection")
if handed_in is not None:
    run(handed_in)
else:
    asyncio.run(run_on_own_engine())
