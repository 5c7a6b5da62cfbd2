"""Many rows at once: their ids, and their way past SQLAlchemy into a table."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import aiosqlite
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.driver_errors import as_sqlalchemy
from app.database.statements import dialect_name

# Values and rows of one INSERT. With a statement a row, SQLite's thread takes the interpreter lock for each, and a busy
# event loop gives it back late: 50,000 rows took from twice to a hundred times as long. With thousands of rows, making
# those of the next statement would keep the loop from requests.
SQLITE_INSERT_PARAMETERS = 8_000
SQLITE_INSERT_ROWS = 500
TURN_ROWS = 100


async def reserve_ids(session: AsyncSession, table: Table, count: int) -> list[int]:
    """`count` ids that no other row of the table has or will get.

    Knowing the ids before the rows are written lets rows, links and audit entries go in as plain bulk loads, and
    answers after a lost connection whether the commit had happened.
    """
    if dialect_name(session) == "postgresql":
        # As one array: five thousand rows would cost more to receive than to draw.
        drawn = text("SELECT array_agg(nextval(CAST(:sequence AS regclass))) FROM generate_series(1, :count)")
        return list(await session.scalar(drawn, {"sequence": f"{table.name}_id_seq", "count": count}) or ())
    # The writer lock is held, and AUTOINCREMENT never hands out an id below the highest it has seen.
    last = await session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table.name})
    first = (last or 0) + 1
    return list(range(first, first + count))


async def insert_rows(
    session: AsyncSession,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    shared: Mapping[str, Any] | None = None,
) -> None:
    """Loads rows in bulk inside the session's transaction: by COPY on PostgreSQL, hundreds a statement on SQLite.

    Give a generator where rows have to be made: PostgreSQL loads the first while the next are being made. `shared`
    are further columns with one value for all rows, which SQLite is then given once a statement. Values are the
    driver's: JSON as text, timestamps from `stored_timestamp`. Constraint violations surface as SQLAlchemy's
    IntegrityError on both.
    """
    shared = shared or {}
    connection = await session.connection()
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    try:
        if dialect_name(session) == "postgresql":
            if not driver.is_in_transaction():
                # SQLAlchemy begins with the first statement of its own; a COPY before that would commit by itself.
                await session.execute(text("SELECT 1"))
            values = tuple(shared.values())
            records = _yielding(row + values for row in rows)
            await driver.copy_records_to_table(table.name, columns=[*columns, *shared], records=records)
        else:
            await _insert_on_sqlite(driver, table.name, tuple(columns), rows, shared)
    except Exception as error:
        raise as_sqlalchemy(error, f"bulk load of {table.name}") from error


async def _insert_on_sqlite(
    driver: aiosqlite.Connection,
    table_name: str,
    columns: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
    shared: Mapping[str, Any],
) -> None:
    """Past SQLAlchemy, which goes three times to the connection's thread and back for each statement.

    (To make the next rows while the thread is at a statement brings nothing: it would wait for the interpreter lock.)
    """
    for piece in _pieces(rows, max(1, min(SQLITE_INSERT_ROWS, SQLITE_INSERT_PARAMETERS // len(columns)))):
        statement = _sqlite_insert(table_name, tuple(shared), columns, len(piece))
        await driver.execute_fetchall(statement, (*shared.values(), *chain.from_iterable(piece)))


@lru_cache(maxsize=100)
def _sqlite_insert(table_name: str, shared: tuple[str, ...], columns: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    values = f"VALUES {', '.join([row] * rows)}"
    if shared:
        own = (f"column{number}" for number in range(1, len(columns) + 1))
        values = f"SELECT {', '.join((*'?' * len(shared), *own))} FROM ({values})"  # noqa: S608 - names of ours
    return f"INSERT INTO {table_name} ({', '.join((*shared, *columns))}) {values}"


def _pieces(rows: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(rows)
    while piece := list(islice(rows, size)):
        yield piece


async def _yielding(rows: Iterable[tuple[Any, ...]]) -> AsyncIterator[tuple[Any, ...]]:
    """Rows for COPY, with a turn for everybody else's requests every few hundred."""
    for number, row in enumerate(rows):
        yield row
        if number % TURN_ROWS == TURN_ROWS - 1:
            await asyncio.sleep(0)
