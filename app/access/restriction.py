"""Rewrites a statement so that it reaches only rows of some spaces; one where that cannot be done is refused.

Every SELECT in it gets the condition, however deep it stands (subqueries, CTEs, the arms of a union, what an INSERT is
fed from), for each table that it reads, under whatever alias; so do UPDATE and DELETE for what they change and read.

A table belongs to spaces by its `space_id`, or by the instance that its `instance_id` refers to. Where a join may give
nulls, rows without a partner stay.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ClauseElement,
    ColumnElement,
    CompoundSelect,
    Delete,
    Executable,
    FromClause,
    Insert,
    Join,
    Select,
    SelectBase,
    Table,
    TableClause,
    Text,
    TextClause,
    Update,
    any_,
    bindparam,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql.dml import OnConflictDoUpdate as PostgresqlUpsert
from sqlalchemy.dialects.sqlite.dml import OnConflictDoUpdate as SqliteUpsert
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import AliasedReturnsRows, FromGrouping, ReturnsRows

from app.models import Base
from app.models.instance import Instance
from app.models.operation import Operation
from app.models.role import RoleGrant
from app.models.space import Space

# Grants are read to find out what a caller may reach; operations are their owner's, wherever they work.
_exempt: Final = {RoleGrant.__tablename__, Operation.__tablename__}
_by_instance: Final = "instance_id"


class UnrestrictedStatement(Exception):
    """A statement over rows that belong to spaces has no place for the condition; a mistake of ours."""


def _belongs_by(table: Table) -> str | None:
    """The column by which the table's rows belong to a space; None where they belong to none."""
    if table.name == Space.__tablename__:
        return "id"
    if table.name in _exempt:
        return None
    if "space_id" in table.c:
        return "space_id"
    is_below = _by_instance in table.c and any(
        key.column.table.name == Instance.__tablename__ for key in table.c[_by_instance].foreign_keys
    )
    return _by_instance if is_below else None


OWNED: Final = {
    table.name: column for table in Base.metadata.tables.values() if (column := _belongs_by(table)) is not None
}
# SQL as text that names one of the tables in a place where it reads or changes rows; commands such as ANALYZE or LOCK
# show nobody anything.
_rows_in_text = re.compile(
    rf"(\b(select|from|join|update|into|using|copy)\b|^\s*table\b).*\b({'|'.join(OWNED)})\b", re.IGNORECASE | re.DOTALL
)


def is_one_of(dialect: str, column: ColumnElement[int], spaces: Any) -> ColumnElement[bool]:
    """`spaces` is a parameter, as `as_parameter` makes its value: one, whatever the number of spaces."""
    if dialect == "postgresql":
        return column == any_(spaces)
    return column.in_(select(func.json_each(spaces).table_valued("value").c.value))


def parameter_type(dialect: str) -> Any:
    return ARRAY(BigInteger()) if dialect == "postgresql" else Text()


def as_parameter(dialect: str, spaces: Iterable[int]) -> list[int] | str:
    in_order = sorted(spaces)
    return in_order if dialect == "postgresql" else orjson.dumps(in_order).decode()


def restricted(statement: Executable, dialect: str, spaces: Iterable[int]) -> Executable:
    """The statement over rows of these spaces only. Raises UnrestrictedStatement."""
    return _Restriction(dialect, as_parameter(dialect, spaces)).of(statement)


class _Restriction:
    def __init__(self, dialect: str, spaces: list[int] | str) -> None:
        self._dialect = dialect
        self._spaces = spaces

    def of(self, statement: Executable) -> Executable:
        assert isinstance(statement, ClauseElement)
        if not isinstance(statement, Select | CompoundSelect | Update | Delete | Insert):
            _refuse_owned(statement)
            return statement
        visiting = {
            "select": self._restrict_select,
            "update": self._restrict_change,
            "delete": self._restrict_change,
            "insert": _refuse_upsert,
            "textclause": _refuse_owned,
        }
        return visitors.cloned_traverse(statement, {}, visiting)

    def _restrict_select(self, statement: Select[Any]) -> None:
        for source in statement.get_final_froms():
            for table, is_nullable in _leaves(source, is_nullable=False):
                self._add(statement, table, is_nullable=is_nullable)

    def _restrict_change(self, statement: Update | Delete) -> None:
        for source in dict.fromkeys((statement.table, *_read_by(statement))):
            # The traversal does not come to a subquery that an UPDATE names by its columns only.
            if isinstance(source, AliasedReturnsRows) and _table_of(source) is None:
                _refuse_owned(source)
            for table, is_nullable in _leaves(source, is_nullable=False):
                self._add(statement, table, is_nullable=is_nullable)

    def _add(self, statement: Select[Any] | Update | Delete, source: FromClause, *, is_nullable: bool) -> None:
        condition = self._condition(source)
        if condition is not None:
            if is_nullable:
                condition = or_(_without_row(source), condition)
            statement._where_criteria += (condition,)

    def _condition(self, source: FromClause) -> ColumnElement[bool] | None:
        """That a row of the source is of the spaces; None where rows belong to none."""
        table = _table_of(source)
        name = None if table is None else OWNED.get(table.name)
        if name is None:
            return None
        if name not in source.c:
            raise UnrestrictedStatement(f"{source} is named without its column {name}")
        if name == _by_instance:
            return source.c[name].in_(self._reachable_instances())
        return self._is_reachable(source.c[name])

    def _reachable_instances(self) -> Select[int]:
        instances = Base.metadata.tables[Instance.__tablename__].alias("reachable_instances")
        return select(instances.c.id).where(self._is_reachable(instances.c.space_id)).correlate(None)

    def _is_reachable(self, column: ColumnElement[int]) -> ColumnElement[bool]:
        return is_one_of(self._dialect, column, bindparam(None, self._spaces, type_=parameter_type(self._dialect)))


def _leaves(source: FromClause, *, is_nullable: bool) -> Iterator[tuple[FromClause, bool]]:
    """The tables and their aliases in a FROM, and whether all their columns can be null for lack of a partner.

    What a subquery reads is its own matter: it is a SELECT that gets its own conditions.
    """
    if isinstance(source, Join):
        yield from _leaves(source.left, is_nullable=is_nullable or source.full)
        yield from _leaves(source.right, is_nullable=is_nullable or source.full or source.isouter)
    elif isinstance(source, FromGrouping):
        yield from _leaves(source.element, is_nullable=is_nullable)
    elif _table_of(source) is not None:
        yield source, is_nullable


def _table_of(source: FromClause) -> TableClause | None:
    """The table, if that is what the source is, under whatever alias."""
    element: ReturnsRows = source
    while isinstance(element, AliasedReturnsRows):
        element = element.element
    return element if isinstance(element, TableClause) else None


def _without_row(source: FromClause) -> ColumnElement[bool]:
    """That an outer join found no partner."""
    for key in source.primary_key:
        return key.is_(None)
    raise UnrestrictedStatement(f"{source} is joined without a primary key to tell a missing row by")


def _read_by(statement: Update | Delete) -> Iterator[FromClause]:
    """What an UPDATE … FROM or a DELETE … USING reads beside its own table: whatever its columns are of, outside of
    SELECTs."""
    left: list[Any] = [child for child in statement.get_children() if child is not statement.table]
    while left:
        part = left.pop()
        if isinstance(part, SelectBase):
            continue
        source = getattr(part, "table", None)
        if isinstance(source, FromClause) and source is not statement.table:
            yield source
        left += part.get_children()


def _refuse_upsert(statement: Insert) -> None:
    """The row that is in the way may be another space's."""
    does_update = isinstance(statement._post_values_clause, PostgresqlUpsert | SqliteUpsert)
    if does_update and statement.table.name in OWNED:
        raise UnrestrictedStatement(str(statement.table))


def _refuse_owned(statement: ClauseElement) -> None:
    """For what has no place for a condition: it must not name a table whose rows belong to spaces."""
    for part in visitors.iterate(statement):
        source = part if isinstance(part, FromClause) else getattr(part, "table", None)
        table = _table_of(source) if isinstance(source, FromClause) else None
        names_one = table is not None and table.name in OWNED
        if names_one or (isinstance(part, TextClause) and _rows_in_text.search(part.text)):
            raise UnrestrictedStatement(str(statement))
