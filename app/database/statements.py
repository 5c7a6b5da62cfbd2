"""The few statements and values whose form differs between the two databases."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, Text, any_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.database.driver_errors import as_sqlalchemy


def dialect_name(session: AsyncSession) -> str:
    return session.get_bind().dialect.name


def listed(session: AsyncSession, values: Sequence[int] | Sequence[str]) -> Select[Any]:
    """The values, at least one, as a one-column SELECT (`value`): one parameter, whatever their number."""
    if dialect_name(session) == "postgresql":
        item_type = Text() if isinstance(values[0], str) else BigInteger()
        return select(func.unnest(bindparam(None, list(values), type_=ARRAY(item_type))).label("value"))
    return select(func.json_each(orjson.dumps(list(values)).decode()).table_valued("value").c.value)


def is_listed(
    session: AsyncSession,
    column: ColumnElement[Any] | InstrumentedAttribute[Any],
    values: Sequence[int] | Sequence[str],
) -> ColumnElement[bool]:
    """That the column is one of the values.

    On PostgreSQL not by a subquery: where statistics are old it would be joined row by row, which took minutes for
    what takes milliseconds.
    """
    if dialect_name(session) == "postgresql":
        return column == any_(bindparam(None, list(values), type_=ARRAY(column.type)))
    return column.in_(listed(session, values))


def stored_timestamp(session: AsyncSession, moment: datetime) -> datetime | str:
    """A UTC moment as `insert_rows` must be given it: SQLite has no type for it and keeps SQLAlchemy's text form."""
    if dialect_name(session) == "postgresql":
        return moment
    return sqlite_timestamp(moment)


def sqlite_timestamp(moment: datetime) -> str:
    """SQLAlchemy's text form of a moment."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


async def fetch_rows(session: AsyncSession, statement: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """The rows of a SELECT in the driver's own form, for the few reads that are busy enough to need it.

    It saves half of what SQLAlchemy spends on a page of rows; on SQLite it is one call of the connection's thread
    instead of four. Values are the driver's, as for `insert_rows`. Errors surface as SQLAlchemy's on both.
    """
    connection = await session.connection()
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    try:
        if dialect_name(session) == "postgresql":
            rows: Sequence[Sequence[Any]] = await driver.fetch(statement, *values)
        else:
            rows = await driver.execute_fetchall(statement, values)
    except Exception as error:
        raise as_sqlalchemy(error, statement) from error
    return rows
