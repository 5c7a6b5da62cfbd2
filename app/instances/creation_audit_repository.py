"""What the audit trail tells of instances that an import has made: one statement makes the entries from their rows.

Making them in Python and loading them took twice as long, which was a fifth of an import.
"""

from collections.abc import Mapping
from typing import Any

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

from app.database import dialect_name
from app.models.base import table_of
from app.models.instance import Instance

_instances = table_of(Instance)
# Of the row; what is known besides (tags, the credential's name) is passed in.
_shown = ("db_type", "host", "port", "database_name", "environment")

# By instance id, values to be shown of it that are not in its row.
Known = Mapping[int, dict[str, Any]]


def created(session: AsyncSession, known: Known) -> Select[Any]:
    """A row for each of the instances, as app.audit.recorder.record_selected takes it."""
    return _on_postgresql(known) if dialect_name(session) == "postgresql" else _on_sqlite(known)


def _on_postgresql(known: Known) -> Select[Any]:
    arrays = (
        bindparam(None, list(known), type_=ARRAY(BigInteger())),
        bindparam(None, [orjson.dumps(values).decode() for values in known.values()], type_=ARRAY(Text())),
    )
    passed = func.unnest(*arrays).table_valued(column("id", BigInteger), column("known", Text)).render_derived()
    # The offset makes it one look into the primary key for each: where the planner expects few rows, as in a plan for
    # any number of them, it would compare each with each, which took seconds for what takes milliseconds.
    made = select(_instances).where(_instances.c.id == passed.c.id).offset(0).lateral()
    after = func.jsonb_build_object(*_pairs("", made.c)).op("||")(cast(passed.c.known, JSONB))
    changes = func.jsonb_build_object(literal_column("'after'"), after)
    return _selected(made.c, changes).select_from(passed).join(made, true())


def _on_sqlite(known: Known) -> Select[Any]:
    encoded = orjson.dumps(known, option=orjson.OPT_NON_STR_KEYS).decode()
    passed = func.json_each(encoded).table_valued("key", "value")
    pairs = _pairs("$.", _instances.c)
    changes = func.json_object(literal_column("'after'"), func.json_set(passed.c.value, *pairs), type_=Text())
    made = _selected(_instances.c, changes).select_from(passed)
    return made.join(_instances, _instances.c.id == cast(passed.c.key, BigInteger))


def _pairs(prefix: str, columns: Any) -> list[ColumnElement[Any]]:
    """Name, value, name, value …"""
    found: list[ColumnElement[Any]] = []
    for name in _shown:
        found += (literal_column(f"'{prefix}{name}'"), columns[name])
    return found


def _selected(made: Any, changes: ColumnElement[Any]) -> Select[Any]:
    return select(
        made.space_id, made.id.label("resource_id"), made.name.label("resource_name"), changes.label("changes")
    )
