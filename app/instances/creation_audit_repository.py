"""What the audit trail tells of instances that an import has made.

On PostgreSQL one statement makes the entries from the instances' rows: making them in Python and loading them took
twice as long, which was a fifth of an import. On SQLite it is the other way round: making the JSON takes it about twice
as long as it takes Python.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import record_made, record_selected
from app.database.statements import dialect_name
from app.instances.judged_rows import GoodRow
from app.models.base import table_of
from app.models.instance import Instance

_action = ("instance:create", "instance")
_instances = table_of(Instance)
# Of the instance's row; what is known besides (tags, the credential's name) is passed in.
_shown = ("db_type", "host", "port", "database_name", "environment")


async def record_created(
    session: AsyncSession, space_id: int, batch_id: UUID, ids: Sequence[int], rows: Sequence[GoodRow]
) -> None:
    """An entry for each of the instances, which were made of these rows in this transaction."""
    if dialect_name(session) == "postgresql":
        known = {key: {"credential": row.credential, "tags": row.tags} for key, row in zip(ids, rows, strict=True)}
        await record_selected(session, *_action, batch_id, _selected(known))
    else:
        await record_made(session, *_action, batch_id, space_id, _made(ids, rows))


def _made(ids: Sequence[int], rows: Sequence[GoodRow]) -> Iterator[tuple[int, str, str]]:
    """As app.audit.recorder.record_made takes them."""
    for key, row in zip(ids, rows, strict=True):
        # Spelt out: by the names in `_shown` it takes three times as long.
        after = {
            "db_type": row.db_type,
            "host": row.host,
            "port": row.port,
            "database_name": row.database_name,
            "environment": row.environment,
            "credential": row.credential,
            "tags": row.tags,
        }
        yield key, row.name, orjson.dumps({"after": after}).decode()


def _selected(known: Mapping[int, Mapping[str, Any]]) -> Select[Any]:
    """As app.audit.recorder.record_selected takes it; `known` is by instance what is to be shown beside its columns."""
    arrays = (
        bindparam(None, list(known), type_=ARRAY(BigInteger())),
        bindparam(None, [orjson.dumps(values).decode() for values in known.values()], type_=ARRAY(Text())),
    )
    passed = func.unnest(*arrays).table_valued(column("id", BigInteger), column("known", Text)).render_derived()
    # The offset makes it one look into the primary key for each: where the planner expects few rows, as in a plan for
    # any number of them, it would compare each with each, which took seconds for what takes milliseconds.
    made = select(_instances).where(_instances.c.id == passed.c.id).offset(0).lateral()
    after = func.jsonb_build_object(*_pairs(made.c)).op("||")(cast(passed.c.known, JSONB))
    changes = func.jsonb_build_object(literal_column("'after'"), after)
    found = select(
        made.c.space_id, made.c.id.label("resource_id"), made.c.name.label("resource_name"), changes.label("changes")
    )
    return found.select_from(passed).join(made, true())


def _pairs(columns: Any) -> list[ColumnElement[Any]]:
    """Name, value, name, value …"""
    found: list[ColumnElement[Any]] = []
    for name in _shown:
        found += (literal_column(f"'{name}'"), columns[name])
    return found
