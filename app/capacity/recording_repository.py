"""SQL that writes a measurement: sizes of its day, and the aggregations of the periods with that day in them.

Few statements, because syncs of whole fleets wait for them: on PostgreSQL what does not build on each other goes
together as one. Each is made once, with parameters, and is the same for any number of databases and tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    CompoundSelect,
    Date,
    FromClause,
    String,
    Table,
    bindparam,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.capacity.periods import DayRange
from app.capacity.records import DatabaseSize, StoredSizes, TableSize
from app.capacity.size_statements import is_named, named, names, rows_of, summed_up
from app.database.statements import dialect_name
from app.models.base import Base, UtcDateTime, table_of
from app.models.capacity import (
    AggregationPeriod,
    DatabaseSizeAggregation,
    DatabaseSizeStat,
    DatabaseTableSizeStat,
    InstanceSizeAggregation,
    InstanceSizeStat,
)

_totals, _databases, _tables = (
    table_of(model) for model in (InstanceSizeStat, DatabaseSizeStat, DatabaseTableSizeStat)
)
_summaries = (
    "average_bytes", "maximum_bytes", "minimum_bytes", "growth_bytes", "growth_percent", "trend", "sample_count",
)  # fmt: skip
_parameters: dict[str, ColumnElement[Any]] = {
    "instance_id": bindparam("instance_id", type_=BigInteger()),
    "collected_on": bindparam("collected_on", type_=Date()),
    "collected_at": bindparam("collected_at", type_=UtcDateTime()),
}
_Insert = postgresql.Insert | sqlite.Insert


@dataclass(frozen=True, slots=True)
class Measured:
    """Whose sizes they are, and when they were measured: the moment, and its day in UTC."""

    instance_id: int
    moment: datetime
    day: date

    @property
    def values(self) -> dict[str, Any]:
        return {"instance_id": self.instance_id, "collected_at": self.moment, "collected_on": self.day}


async def stored_sizes(session: AsyncSession, measured: Measured, databases: Sequence[str]) -> StoredSizes:
    """Of the databases named."""
    dialect = dialect_name(session)
    values = measured.values | {"names": names(dialect, databases)}
    found = await session.execute(_stored_sizes(dialect), values, execution_options=SPACES_CHECKED)
    measured_at: datetime | None = None
    total: int | None = None
    of_day: dict[str, DatabaseSize] = {}
    last: dict[str, DatabaseSize] = {}
    for name, day, moment, *sizes in found:
        if name is not None:
            last[name] = DatabaseSize(name, *sizes)
            if day == measured.day:
                of_day[name] = last[name]
        elif day is not None:
            measured_at, total = moment, sizes[0]
    return StoredSizes(measured_at, total, of_day, last)


@lru_cache
def _stored_sizes(dialect: str) -> CompoundSelect[Any]:
    """The day's total, which has no name, and the last size of each database up to the day; all is null for one that
    has none: by an inner join SQLite would look the names up for every day of the instance's."""
    total = select(
        cast(null(), String).label("name"), _totals.c.collected_on, _totals.c.collected_at, _totals.c.total_bytes,
        cast(null(), BigInteger), cast(null(), BigInteger),
    ).where(
        _totals.c.instance_id == _parameters["instance_id"], _totals.c.collected_on == _parameters["collected_on"]
    )  # fmt: skip
    given, earlier = named(dialect, "names"), _databases.alias("earlier")
    # By the primary key, at its last entry for each name.
    last_day = (
        select(func.max(earlier.c.collected_on))
        .where(
            earlier.c.instance_id == _parameters["instance_id"],
            earlier.c.database_name == given.c.value,
            earlier.c.collected_on <= _parameters["collected_on"],
        )
        .scalar_subquery()
    )
    sizes = (_databases.c.size_bytes, _databases.c.data_bytes, _databases.c.index_bytes)
    is_last = (
        (_databases.c.instance_id == _parameters["instance_id"])
        & (_databases.c.database_name == given.c.value)
        & (_databases.c.collected_on == last_day)
    )
    last = select(_databases.c.database_name, _databases.c.collected_on, _databases.c.collected_at, *sizes).join_from(
        given, _databases, is_last, isouter=True
    )
    return union_all(total, last)


async def write_sizes(
    session: AsyncSession,
    measured: Measured,
    total_bytes: int,
    database_count: int,
    changed: Sequence[DatabaseSize],
    tables: Sequence[TableSize],
) -> None:
    """Each row replaces the one that the day has of the same object."""
    dialect = dialect_name(session)
    values = measured.values | {"total_bytes": total_bytes, "database_count": database_count}
    statements = [_total_upsert(dialect)]
    if changed:
        statements.append(_database_upsert(dialect))
        values["databases"] = _json(
            sorted((each.name, each.size_bytes, each.data_bytes, each.index_bytes) for each in changed)
        )
    if tables:
        statements.append(_table_upsert(dialect))
        values["tables"] = _json(sorted(_table_values(each) for each in tables))
    await _execute_together(session, tuple(statements), values)


def _table_values(table: TableSize) -> tuple[Any, ...]:
    sizes = (table.size_bytes, table.data_bytes, table.index_bytes, table.row_estimate)
    return (table.database_name, table.schema_name, table.table_name, *sizes)


@lru_cache
def _total_upsert(dialect: str) -> _Insert:
    given = {name: bindparam(name, type_=BigInteger()) for name in ("total_bytes", "database_count")}
    return _replacing(_insert(dialect, _totals).values(**_parameters, **given), _totals)


@lru_cache
def _database_upsert(dialect: str) -> _Insert:
    return _measurement_upsert(dialect, _databases, "databases")


@lru_cache
def _table_upsert(dialect: str) -> _Insert:
    return _measurement_upsert(dialect, _tables, "tables")


def _measurement_upsert(dialect: str, table: Table, parameter: str) -> _Insert:
    """Of rows that hold the table's columns in their order, but for those that all rows have in common."""
    own = [column for column in table.columns if column.name not in _parameters]
    rows = rows_of(dialect, parameter, own)
    # SQLite takes ON CONFLICT for a join's condition where nothing stands between.
    selected = select(*(*_parameters.values(), *rows.c)).where(literal(value=True))
    return _replacing(_insert(dialect, table).from_select([*_parameters, *rows.c.keys()], selected), table)


async def aggregate(
    session: AsyncSession,
    measured: Measured,
    databases: Sequence[str],
    periods: Mapping[AggregationPeriod, DayRange],
) -> None:
    """Sums the periods up again: the instance's totals, and the databases named."""
    dialect = dialect_name(session)
    values: dict[str, Any] = {"instance_id": measured.instance_id, **_bounds(periods)}
    statements = [_total_aggregation(dialect)]
    if databases:
        statements.append(_database_aggregation(dialect))
        values["names"] = names(dialect, databases)
    await _execute_together(session, tuple(statements), values)


def _bounds(periods: Mapping[AggregationPeriod, DayRange]) -> dict[str, date | None]:
    """Of every period, and of all together. One that is left out has none, and no day is in it."""
    bounds: dict[str, date | None] = {
        "first": min(days.first for days in periods.values()),
        "last": max(days.last for days in periods.values()),
    }
    for period in AggregationPeriod:
        days = periods.get(period)
        bounds[f"{period}_first"], bounds[f"{period}_last"] = (days.first, days.last) if days else (None, None)
    return bounds


@lru_cache
def _total_aggregation(dialect: str) -> _Insert:
    return _aggregation(dialect, InstanceSizeAggregation, _totals, _totals.c.total_bytes)


@lru_cache
def _database_aggregation(dialect: str) -> _Insert:
    return _aggregation(dialect, DatabaseSizeAggregation, _databases, _databases.c.size_bytes)


def _aggregation(dialect: str, model: type[Base], measurements: Table, size: Column[int]) -> _Insert:
    target = table_of(model)
    keys = [name for name in ("database_name", "period", "period_start") if name in target.c]
    summed = summed_up(_in_periods(dialect, measurements, size), keys).subquery("summed")
    columns = [*keys, *_summaries]
    selected = select(_parameters["instance_id"], *(summed.c[name] for name in columns)).where(literal(value=True))
    return _replacing(_insert(dialect, target).from_select(["instance_id", *columns], selected), target)


def _in_periods(dialect: str, measurements: Table, size: Column[int]) -> FromClause:
    """The measurements of each period, so that one is there once for each period that it is in."""
    day, periods = measurements.c.collected_on, _periods()
    selected = (
        select(periods.c.period, periods.c.period_start, day.label("day"), size.label("size"))
        .join_from(measurements, periods, day.between(periods.c.period_start, periods.c.period_end))
        # The bounds of all periods are for the index, which knows nothing of the join.
        .where(measurements.c.instance_id == _parameters["instance_id"], day.between(_day("first"), _day("last")))
    )
    if "database_name" in measurements.c:
        name = measurements.c.database_name
        selected = selected.add_columns(name).where(is_named(dialect, name, "names"))
    return selected.subquery("measured")


def _periods() -> FromClause:
    return union_all(
        *(
            select(
                literal(period.value, String).label("period"),
                _day(f"{period}_first").label("period_start"),
                _day(f"{period}_last").label("period_end"),
            )
            for period in AggregationPeriod
        )
    ).subquery("periods")


def _day(parameter: str) -> BindParameter[date]:
    return bindparam(parameter, type_=Date())


def _insert(dialect: str, table: Table) -> _Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _replacing(statement: _Insert, table: Table) -> _Insert:
    """The row with the same key, if there is one, gets every other value of the new one."""
    keys = [column.name for column in table.primary_key]
    others = {name: statement.excluded[name] for name in table.c.keys() if name not in keys}  # noqa: SIM118
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


async def _execute_together(session: AsyncSession, statements: tuple[_Insert, ...], values: Mapping[str, Any]) -> None:
    """Statements of which none needs to see what another does."""
    if dialect_name(session) == "postgresql":
        await session.execute(_as_one(statements), values, execution_options=SPACES_CHECKED)
        return
    for statement in statements:
        await session.execute(statement, values, execution_options=SPACES_CHECKED)


@lru_cache
def _as_one(statements: tuple[_Insert, ...]) -> _Insert:
    *others, last = statements
    return last.add_cte(*(statement.cte(f"also_{place}") for place, statement in enumerate(others)))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
