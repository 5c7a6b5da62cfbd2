"""Different values for many rows in one statement, on both databases."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Column, FromClause, Select, Table, Text, bindparam, cast, column, func, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import dialect_name
from app.turns import in_turns

# Of one statement: rows, and bytes beyond which it gets no further one. PostgreSQL takes 256 MiB of jsonb.
MAX_ROWS: Final = 1_000
MAX_BYTES: Final = 4 * 1024 * 1024


async def update_rows(
    session: AsyncSession,
    table: Table,
    instance_id: int,
    key: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    **same: Any,
) -> None:
    """Sets the columns of those rows below the instance whose `key` is a row's first value to its further ones, and
    the columns of `same` to one value for all. The instance must have been looked up.

    Values are what orjson writes: JSON as orjson.Fragment, timestamps from `stored_timestamp`.
    """
    names = (key, *columns)
    async for document in _documents(names, rows):
        changed = _as_rows(session, [table.c[name] for name in names], document)
        statement = (
            update(table)
            # The sum keeps the index on it out: SQLite would read the document anew for each of the instance's rows.
            .where(table.c[key] == changed.c[key], table.c.instance_id + 0 == instance_id)
            .values({name: changed.c[name] for name in columns} | same)
        )
        await session.execute(statement, execution_options=SPACES_CHECKED)


async def _documents(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> AsyncIterator[str]:
    """JSON arrays of objects, one for each row, in their order."""
    objects: list[bytes] = []
    size = 0
    async for row in in_turns(rows):
        text = orjson.dumps(dict(zip(names, row, strict=True)))
        if objects and (len(objects) == MAX_ROWS or size + len(text) > MAX_BYTES):
            yield _array(objects)
            objects, size = [], 0
        objects.append(text)
        size += len(text)
    if objects:
        yield _array(objects)


def _array(objects: Sequence[bytes]) -> str:
    return f"[{b','.join(objects).decode()}]"


def _as_rows(session: AsyncSession, columns: Sequence[Column[Any]], document: str) -> FromClause:
    parameter = bindparam(None, document, type_=Text)
    if dialect_name(session) == "postgresql":
        typed = [column(each.name, each.type) for each in columns]
        rows = func.jsonb_to_recordset(cast(parameter, JSONB)).table_valued(*typed)
        return rows.render_derived("changed", with_types=True)
    return _from_json_each(columns, parameter).subquery("changed")


def _from_json_each(columns: Sequence[Column[Any]], parameter: Any) -> Select[Any]:
    value = func.json_each(parameter).table_valued("value").c.value
    return select(*(func.json_extract(value, f'$."{each.name}"').label(each.name) for each in columns))
