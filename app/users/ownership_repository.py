"""SQL about what belongs to a user, derived from the tables as they are declared: a new one cannot be forgotten.

A table whose foreign key leads to `users` by ON DELETE CASCADE, directly or over others, holds what goes with a user.
"""

from collections.abc import Iterator, Mapping

from sqlalchemy import ColumnElement, Table, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Base
from app.models.audit import AuditEvent
from app.models.base import Id, table_of
from app.models.user import User

# By table, what tells a user's rows in it.
Conditions = Mapping[str, ColumnElement[bool]]

_tables = Base.metadata.tables
_user_id = bindparam("user_id", type_=Id)


def _owned() -> Conditions:
    """`users` itself is not among them."""
    conditions: dict[str, ColumnElement[bool]] = {User.__tablename__: table_of(User).c.id == _user_id}
    # Parents come before their children.
    for table in Base.metadata.sorted_tables:
        links = list(_links(table, conditions))
        if links:
            conditions[table.name] = or_(*links)
    del conditions[User.__tablename__]
    return conditions


def _links(table: Table, conditions: Conditions) -> Iterator[ColumnElement[bool]]:
    for key in table.foreign_keys:
        parent = key.column.table
        if (key.ondelete or "").upper() == "CASCADE" and parent.name in conditions and parent is not table:
            yield key.parent.in_(select(key.column).where(conditions[parent.name]))


# What goes with a user, what stays and forgets whose work it is, and what stays with the name as text.
OWNED = _owned()
TRACED: Conditions = {
    name: or_(table.c.created_by == _user_id, table.c.updated_by == _user_id)
    for name, table in sorted(_tables.items())
    if "created_by" in table.c
}
KEPT: Conditions = {AuditEvent.__tablename__: table_of(AuditEvent).c.actor_id == _user_id}


async def count(session: AsyncSession, conditions: Conditions, user_id: int) -> dict[str, int]:
    """Rows of the user's by table; tables without any are left out."""
    counts = {}
    for name, condition in conditions.items():
        statement = select(func.count()).select_from(_tables[name]).where(condition)
        counts[name] = (await session.execute(statement, {"user_id": user_id})).scalar_one()
    return {name: rows for name, rows in counts.items() if rows}
