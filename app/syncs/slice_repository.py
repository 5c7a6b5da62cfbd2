"""SQL about the instances of a sync session, some hundred to a row.

A filter can select a whole fleet: its ids go from table to table inside the database, and whoever works on them reads
one slice after the other. No statement, no answer and no list of the service's grows with the fleet.
"""

from collections.abc import Sequence

import orjson
from sqlalchemy import BigInteger, ColumnElement, Integer, bindparam, func, insert, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.bulk_loads import insert_rows
from app.database.statements import dialect_name
from app.instances.records import InstanceFilter
from app.instances.selection import FilterShape, conditions, instances, parameters
from app.models.base import table_of
from app.models.sync import SyncSlice
from app.syncs.records import InstanceSlice

# Of one slice: looked at, or refused, in one go.
SLICE_IDS = 500

_slices = table_of(SyncSlice)
_COLUMNS = ("session_id", "first_position", "instance_ids")


async def put(session: AsyncSession, session_id: int, instance_ids: Sequence[int]) -> None:
    """Of a session that has none yet."""
    rows = (
        (session_id, start + 1, orjson.dumps(instance_ids[start : start + SLICE_IDS]).decode())
        for start in range(0, len(instance_ids), SLICE_IDS)
    )
    await insert_rows(session, _slices, _COLUMNS, rows)


async def put_selected(session: AsyncSession, session_id: int, wanted: InstanceFilter) -> int:
    """The same of the instances that the filter selects, in order of id; how many."""
    dialect = dialect_name(session)
    place = func.row_number(type_=Integer).over(order_by=instances.c.id).label("place")
    chosen = (
        # In order, because SQLite makes arrays in the order of what they are made from.
        select(instances.c.id, place)
        .where(*conditions(FilterShape.of(wanted)))
        .order_by(instances.c.id)
        .subquery("chosen")
    )
    sliced = select(
        bindparam("session_id", session_id, type_=BigInteger()),
        func.min(chosen.c.place),
        _array(dialect, chosen.c.id),
    ).group_by((chosen.c.place - 1) // SLICE_IDS)
    statement = insert(_slices).from_select(_COLUMNS, sliced).returning(_length(dialect))
    return sum(await session.scalars(statement, parameters(wanted)))


async def following(session: AsyncSession, session_id: int, position: int) -> InstanceSlice | None:
    """The first of the slices that begin behind the position; None when there is none."""
    statement = (
        select(_slices.c.first_position, _slices.c.instance_ids)
        .where(_slices.c.session_id == session_id, _slices.c.first_position > position)
        .order_by(_slices.c.first_position)
        .limit(1)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else InstanceSlice._make(row)


def _array(dialect: str, ids: ColumnElement[int]) -> ColumnElement[str]:
    if dialect == "postgresql":
        return func.jsonb_agg(aggregate_order_by(ids, ids))
    return func.json_group_array(ids)


def _length(dialect: str) -> ColumnElement[int]:
    if dialect == "postgresql":
        return func.jsonb_array_length(_slices.c.instance_ids)
    return func.json_array_length(_slices.c.instance_ids)
