"""What a statistic of sizes is, as SQL that is the same for everything that is summed up, on both databases.

- The average is rounded to whole bytes.
- Growth is the last size less the first. With one day measured there is none.
- Its percentage is of the first size; where that is 0, there is none.
- The trend is growing or shrinking where the growth is *more* than 5 % of the first size; exactly 5 % is stable. From 0
  every size is growth.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Date,
    Float,
    FromClause,
    Integer,
    Select,
    String,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    null,
    select,
    type_coerce,
)

from app.models.capacity import AggregationPeriod, Trend

# Of the first size: 5 %.
STABLE_FRACTION = 20


def summed_up(source: FromClause, keys: Sequence[str] = ()) -> Select[Any]:
    """Statistics of the source's column `size` over its column `day`, for each value of the keys.

    The columns are the keys, those of an aggregation in the tables' order, and `first_bytes`, `last_bytes`, `last_day`.
    Without keys it is one row, with a `sample_count` of 0 where the source is empty.
    """
    each = _placed(source, keys)
    first, last, samples = func.max(each.c.first), func.max(each.c.last), func.count()
    lowest = func.min(each.c.size)
    growth = last - first
    has_growth = samples > 1
    percent = cast(growth, Float) * 100.0 / cast(first, Float)
    return select(
        *(each.c[key] for key in keys),
        # The differences are small where sizes are huge, so that floating-point numbers, which SQLite averages in, do.
        (lowest + cast(func.round(func.avg(each.c.size - each.c.lowest)), BigInteger)).label("average_bytes"),
        func.max(each.c.size).label("maximum_bytes"),
        lowest.label("minimum_bytes"),
        case((has_growth, growth), else_=null()).label("growth_bytes"),
        case((and_(has_growth, first > 0), percent), else_=null()).label("growth_percent"),
        _trend(growth, first).label("trend"),
        samples.label("sample_count"),
        first.label("first_bytes"),
        last.label("last_bytes"),
        func.max(each.c.day).label("last_day"),
    ).group_by(*(each.c[key] for key in keys))


def _placed(source: FromClause, keys: Sequence[str]) -> FromClause:
    """Each size with the first, the last and the lowest of those that it is summed up with."""
    size, day = source.c.size, source.c.day
    partition = [source.c[key] for key in keys]
    in_order: dict[str, Any] = {"partition_by": partition, "order_by": day, "rows": (None, None)}
    return select(
        *partition,
        day,
        size,
        func.first_value(size).over(**in_order).label("first"),
        func.last_value(size).over(**in_order).label("last"),
        func.min(size).over(**in_order).label("lowest"),
    ).subquery("placed")


def _trend(growth: ColumnElement[Any], first: ColumnElement[Any]) -> ColumnElement[str]:
    return case(
        (growth * STABLE_FRACTION > first, literal(Trend.GROWING.value, String)),
        (growth * -STABLE_FRACTION > first, literal(Trend.SHRINKING.value, String)),
        else_=literal(Trend.STABLE.value, String),
    )


def period_start(dialect: str, period: AggregationPeriod, day: ColumnElement[Any]) -> ColumnElement[Any]:
    """The first day of the period that the day is in."""
    if period == AggregationPeriod.DAY:
        return day
    if dialect == "postgresql":
        return cast(func.date_trunc(period.value, day), Date)
    match period:
        case AggregationPeriod.WEEK:
            # The Sunday that ends the week, and back to its Monday.
            return func.date(day, "weekday 0", "-6 days", type_=Date)
        case AggregationPeriod.MONTH:
            return func.date(day, "start of month", type_=Date)
    month = cast(func.strftime("%m", day), Integer)
    back = func.printf("-%d months", (month - 1) % 3)
    return func.date(day, "start of month", back, type_=Date)


def utc_day(dialect: str, moment: ColumnElement[Any]) -> ColumnElement[Any]:
    if dialect == "postgresql":
        return cast(func.timezone("UTC", moment), Date)
    return func.date(moment, type_=Date)


def rows_of(dialect: str, parameter: str, columns: Sequence[Column[Any]]) -> FromClause:
    """Rows with these columns from one parameter, whatever their number: JSON, an array of arrays of values."""
    given = bindparam(parameter, type_=Text())
    if dialect == "postgresql":
        elements = func.json_array_elements(cast(given, JSON)).table_valued("value", name="given")
        values = [
            cast(elements.c.value.op("->>")(place), each.type).label(each.name) for place, each in enumerate(columns)
        ]
    else:
        elements = func.json_each(given).table_valued("value", name="given")
        # Not cast: to SQLite a date is a number, and the text of one is its year.
        values = [
            type_coerce(func.json_extract(elements.c.value, f"$[{place}]"), each.type).label(each.name)
            for place, each in enumerate(columns)
        ]
    return select(*values).select_from(elements).subquery(parameter)


def named(dialect: str, parameter: str) -> FromClause:
    """The names in one parameter, which `names` makes, as the column `value`."""
    value = column("value", Text)
    if dialect == "postgresql":
        return func.unnest(bindparam(parameter, type_=ARRAY(Text))).table_valued(value, name="given").render_derived()
    return func.json_each(bindparam(parameter, type_=Text())).table_valued(value, name="given")


def is_named(dialect: str, name: ColumnElement[str], parameter: str) -> ColumnElement[bool]:
    """That the name is one of those in the parameter."""
    if dialect == "postgresql":
        return name == any_(bindparam(parameter, type_=ARRAY(Text)))
    return name.in_(select(named(dialect, parameter).c.value))


def names(dialect: str, values: Sequence[str]) -> list[str] | str:
    return list(values) if dialect == "postgresql" else orjson.dumps(list(values)).decode()
