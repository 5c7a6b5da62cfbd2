"""SQL about instances whose sync policy is due."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import or_, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import dialect_name
from app.models.base import table_of
from app.models.instance import Instance, SyncPolicy, is_synced
from app.models.space import Space
from app.models.sync import InstanceSyncPlan

_instances = table_of(Instance)
_plans = table_of(InstanceSyncPlan)
_spaces = table_of(Space)

# Any number will do, as long as nobody else locks it: the letters SYNCPLAN.
POLICY_LOCK = 0x53594E43504C414E


class DueInstance(NamedTuple):
    id: int
    space_id: int
    policy: SyncPolicy


async def take_turn(session: AsyncSession) -> bool:
    """Whether nobody else starts what is due, until the transaction ends."""
    if dialect_name(session) != "postgresql":
        # Whoever writes to SQLite is alone.
        return True
    return bool(await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": POLICY_LOCK}))


async def due(session: AsyncSession, now: datetime, limit: int) -> Sequence[DueInstance]:
    """In order of space and id, those that were never planned, were planned for another policy, or whose time has
    come; not those of archived spaces."""
    columns = _instances.c
    statement = (
        select(columns.id, columns.space_id, columns.sync_policy)
        .join(_spaces, _spaces.c.id == columns.space_id)
        .outerjoin(_plans, _plans.c.instance_id == columns.id)
        .where(
            # In the words of the index, which lists nobody else.
            is_synced,
            _spaces.c.archived_at.is_(None),
            or_(
                _plans.c.instance_id.is_(None),
                _plans.c.policy != columns.sync_policy,
                _plans.c.next_sync_at <= now,
            ),
        )
        .order_by(columns.space_id, columns.id)
        .limit(limit)
    )
    return [DueInstance._make(row) for row in await session.execute(statement)]


async def plan(session: AsyncSession, planned: Iterable[dict[str, Any]]) -> None:
    """Notes when each of these (instance_id, policy, next_sync_at) is due next."""
    dialect = postgresql if dialect_name(session) == "postgresql" else sqlite
    statement = dialect.insert(_plans).values(list(planned))
    changed = {name: statement.excluded[name] for name in ("policy", "next_sync_at")}
    await session.execute(statement.on_conflict_do_update(index_elements=[_plans.c.instance_id], set_=changed))
