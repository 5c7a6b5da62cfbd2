"""Keeps every statement of a call inside the spaces that its caller may reach; the one place where that happens.

Whatever a session executes comes by here. A statement over a table whose rows belong to spaces gets the condition; one
in which there is no place for it is refused, unless it says by `SPACES_CHECKED` that what it names has been looked up
by a statement that had the condition. Statements that go straight to the driver use `condition` and `parameter`.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ClauseElement,
    ColumnElement,
    Delete,
    FromClause,
    Join,
    Select,
    SelectBase,
    Table,
    Text,
    Update,
    any_,
    bindparam,
    event,
    func,
    select,
)
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import visitors

from app.caller import current_call
from app.database import ServiceSession
from app.models import Base
from app.models.role import RoleGrant
from app.models.space import Space

# An execution option: the ids in the statement are of rows that the caller may reach.
SPACES_CHECKED: Final = {"muster_spaces_checked": True}
PARAMETER = "reachable_spaces"

# Grants are read to find out what a caller may reach.
_exempt = {RoleGrant.__tablename__}


def owning_column(table: Table) -> ColumnElement[int] | None:
    """The column that tells whose the table's rows are; None for tables whose rows belong to no space."""
    if table.name == Space.__tablename__:
        return table.c.id
    return table.c.space_id if "space_id" in table.c and table.name not in _exempt else None


_owned = {table.name for table in Base.metadata.tables.values() if owning_column(table) is not None}


class UnrestrictedStatement(Exception):
    """A statement over rows that belong to spaces has no place for the condition; a mistake of ours."""


@event.listens_for(ServiceSession, "do_orm_execute")
def _restrict(state: ORMExecuteState) -> None:
    spaces = current_call().spaces
    if spaces is None or state.execution_options.get("muster_spaces_checked"):
        return
    statement = state.statement
    if isinstance(statement, Select | Update | Delete) and (columns := list(_owning_columns(statement))):
        state.statement = statement.where(*(column.in_(sorted(spaces)) for column in columns))
    elif isinstance(statement, SelectBase | Update | Delete) and _names_owned_table(statement):
        raise UnrestrictedStatement(str(statement))


def _names_owned_table(statement: ClauseElement) -> bool:
    return any(isinstance(part, Table) and part.name in _owned for part in visitors.iterate(statement))


def _owning_columns(statement: Select[Any] | Update | Delete) -> Iterator[ColumnElement[int]]:
    tables = statement.get_final_froms() if isinstance(statement, Select) else [statement.table]
    for table in tables:
        column = _leftmost_owning_column(table)
        if column is not None:
            yield column


def _leftmost_owning_column(source: FromClause) -> ColumnElement[int] | None:
    """Of a join, whose rows are of one space, the first table's that has one; others may be null in an outer join."""
    if isinstance(source, Join):
        left = _leftmost_owning_column(source.left)
        return left if left is not None or source.isouter else _leftmost_owning_column(source.right)
    return owning_column(source) if isinstance(source, Table) else None


def is_restricted() -> bool:
    return current_call().spaces is not None


def condition(dialect: str, column: ColumnElement[int]) -> ColumnElement[bool]:
    """For a statement that is compiled once and given to the driver with `parameter()` under the name PARAMETER."""
    if dialect == "postgresql":
        return column == any_(bindparam(PARAMETER, None, type_=ARRAY(BigInteger())))
    spaces = func.json_each(bindparam(PARAMETER, None, type_=Text())).table_valued("value")
    return column.in_(select(spaces.c.value))


def parameter(dialect: str) -> list[int] | str:
    spaces = sorted(current_call().spaces or ())
    return spaces if dialect == "postgresql" else orjson.dumps(spaces).decode()
