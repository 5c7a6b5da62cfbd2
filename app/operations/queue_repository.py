"""SQL about the queue's own tables (PostgreSQL), where the library has none that fits."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

SCHEMA = "muster_queue"
JOBS = f"{SCHEMA}.pgqueuer"

# What the library calls a job's handler.
ENTRYPOINT = "operation"
LOG_RETENTION_DAYS = 30

_stranded = f"""
    FROM operations
    WHERE state IN ('queued', 'running') AND NOT EXISTS (
        SELECT FROM {JOBS} WHERE entrypoint = '{ENTRYPOINT}' AND payload = convert_to(operations.id::text, 'UTF8')
    )
"""

# Of the driver's: what a worker claimed ($1) in a statement whose answer was lost is in none of its jobs ($2), and
# would count against the number that it may do at once for as long as it lives.
RELEASE_LOST_CLAIMS = f"""
    UPDATE {JOBS} SET status = 'queued', queue_manager_id = NULL, updated = now()
    WHERE queue_manager_id = $1 AND status = 'picked' AND NOT id = ANY($2::bigint[])
"""  # noqa: S608 - names of ours
OWNERS = f"SELECT id, queue_manager_id FROM {JOBS} WHERE id = ANY($1::bigint[])"  # noqa: S608 - names of ours


def payload_of(operation_id: int) -> bytes:
    return str(operation_id).encode()


async def has_waiting_job(session: AsyncSession, operation_id: int) -> bool:
    """Whether a job waits for the operation. (One that is being worked on may be about to end.)"""
    statement = text(
        f"SELECT 1 FROM {JOBS} WHERE entrypoint = :entrypoint AND payload = :payload"  # noqa: S608 - names of ours
        " AND status = 'queued' LIMIT 1"
    )
    values = {"entrypoint": ENTRYPOINT, "payload": payload_of(operation_id)}
    return await session.scalar(statement, values) is not None


async def stranded_ids(session: AsyncSession) -> Sequence[int]:
    """Unfinished operations that no job is for, the oldest first."""
    return (await session.scalars(text(f"SELECT id {_stranded} ORDER BY id"))).all()


async def lock_stranded(session: AsyncSession, operation_id: int) -> bool:
    """Locks the operation; False when somebody else has it locked, or when it is not stranded any more."""
    locked = text("SELECT id FROM operations WHERE id = :id FOR UPDATE SKIP LOCKED")
    if await session.scalar(locked, {"id": operation_id}) is None:
        return False
    # A second statement, which sees what was committed until the lock was had.
    return await session.scalar(text(f"SELECT id {_stranded} AND id = :id"), {"id": operation_id}) is not None


async def forget_old_jobs(session: AsyncSession) -> None:
    """What the library noted of jobs that ended long ago."""
    for table in ("pgqueuer_log", "pgqueuer_statistics"):
        statement = text(f"DELETE FROM {SCHEMA}.{table} WHERE created < now() - make_interval(days => :days)")  # noqa: S608 - names of ours
        await session.execute(statement, {"days": LOG_RETENTION_DAYS})
