"""SQL of the sealed chain: what is to be sealed and checked, read as it is stored, and the seals written to it.

Values are read as plain numbers and text, past the types of the columns: a row that somebody tampered with must be
found, not break the reading.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.chain import SEALED_COLUMNS, Anchor, Link, StoredRow
from app.database.statements import dialect_name, fetch_rows, sqlite_timestamp
from app.models.audit import AuditAnchor
from app.models.base import utc_now

# Any number will do, as long as nobody else locks it: the letters AUDIT.
CHAIN_LOCK = 0x4155444954
# Lower than any sequence, also a forged one.
LOWEST = -(2**63)

_postgresql_forms = {
    "occurred_at": "to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
    "created_at": "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
    "batch_id": "replace(CAST(batch_id AS text), '-', '')",
    "changes": "CAST(changes AS text)",
}


class SealedRow(NamedTuple):
    """`values` are those of SEALED_COLUMNS. The seal is whatever stands there."""

    sequence: int
    seal: str | None
    values: StoredRow


def _selected(columns: Sequence[str], dialect: str) -> str:
    forms = _postgresql_forms if dialect == "postgresql" else {}
    return ", ".join(forms.get(column, column) for column in columns)


async def _fetch(session: AsyncSession, columns: Sequence[str], rest: str, *values: object) -> Sequence[Sequence[Any]]:
    """`rest` has `?` for each value."""
    dialect = dialect_name(session)
    if dialect == "postgresql":
        for number in range(1, len(values) + 1):
            rest = rest.replace("?", f"${number}", 1)
    statement = f"SELECT {_selected(columns, dialect)} {rest}"
    return await fetch_rows(session, statement, values)


def _whole(session: AsyncSession) -> str:
    """SQLite takes any value for a number; one that is none is no place in the chain."""
    return "" if dialect_name(session) == "postgresql" else "AND typeof(sequence) = 'integer'"


async def is_alone(session: AsyncSession) -> bool:
    """Whether nobody else works on the chain until this transaction ends. On SQLite every writer is alone."""
    if dialect_name(session) != "postgresql":
        return True
    return bool(await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK}))


async def wait_until_alone(session: AsyncSession) -> None:
    if dialect_name(session) == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK})


async def newest_unsealed(session: AsyncSession) -> int | None:
    """The highest id; None when every entry is sealed."""
    [[newest]] = await _fetch(session, ["max(id)"], "FROM audit_events WHERE sequence IS NULL")
    return None if newest is None else int(newest)


async def count_unsealed(session: AsyncSession) -> int:
    [[count]] = await _fetch(session, ["count(*)"], "FROM audit_events WHERE sequence IS NULL")
    return int(count)


async def unsealed(session: AsyncSession, newest: int, limit: int) -> Sequence[StoredRow]:
    """In order of id, up to `newest`, among those that are committed: one with a lower id may follow later."""
    rest = "FROM audit_events WHERE sequence IS NULL AND id <= ? ORDER BY id LIMIT ?"
    return [tuple(row) for row in await _fetch(session, SEALED_COLUMNS, rest, newest, limit)]


async def count_sealed(session: AsyncSession, end: int) -> int:
    """Up to that sequence."""
    [[count]] = await _fetch(session, ["count(*)"], f"FROM audit_events WHERE sequence <= ? {_whole(session)}", end)
    return int(count)


async def sealed_after(session: AsyncSession, sequence: int, limit: int) -> list[SealedRow]:
    """In order of sequence."""
    rest = f"FROM audit_events WHERE sequence > ? {_whole(session)} ORDER BY sequence LIMIT ?"
    rows = await _fetch(session, ("sequence", "seal", *SEALED_COLUMNS), rest, sequence, limit)
    return [SealedRow(row[0], row[1], tuple(row)[2:]) for row in rows]


async def newest_link(session: AsyncSession) -> Link | None:
    rest = f"FROM audit_events WHERE sequence IS NOT NULL {_whole(session)} ORDER BY sequence DESC LIMIT 1"
    rows = await _fetch(session, ("sequence", "seal"), rest)
    return Link(rows[0][0], str(rows[0][1])) if rows else None


async def set_seals(session: AsyncSession, rows: Sequence[StoredRow], links: Sequence[Link]) -> None:
    """Gives each row, which must be unsealed, its link."""
    values = [(link.sequence, link.seal, row[0]) for row, link in zip(rows, links, strict=True)]
    connection = await session.connection()
    if dialect_name(session) == "postgresql":
        # Where statistics are old, a join might read the whole table for every row.
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        sequences, seals, ids = (list(column) for column in zip(*values, strict=True))
        result = await connection.execute(
            text(
                "UPDATE audit_events SET sequence = sealed.sequence, seal = sealed.seal"
                " FROM unnest(CAST(:sequences AS bigint[]), CAST(:seals AS text[]), CAST(:ids AS bigint[]))"
                " AS sealed (sequence, seal, id) WHERE audit_events.id = sealed.id AND audit_events.sequence IS NULL"
            ),
            {"sequences": sequences, "seals": seals, "ids": ids},
        )
    else:
        statement = "UPDATE audit_events SET sequence = ?, seal = ? WHERE id = ? AND sequence IS NULL"
        result = await connection.exec_driver_sql(statement, values)
    assert result.rowcount == len(values), "entries were sealed by somebody else"


_anchor_columns = ("sequence", "seal", "removed", "created_at", "unverifiable", "anchor_seal")


async def newest_anchor(session: AsyncSession) -> Anchor | None:
    rows = await _fetch(session, _anchor_columns, "FROM audit_anchors ORDER BY sequence DESC, id DESC LIMIT 1")
    return _anchor(rows[0]) if rows else None


async def anchors(session: AsyncSession) -> list[Anchor]:
    """In order of sequence."""
    return [_anchor(row) for row in await _fetch(session, _anchor_columns, "FROM audit_anchors ORDER BY sequence, id")]


def _anchor(row: Sequence[Any]) -> Anchor:
    sequence, seal, removed, created_at, unverifiable, anchor_seal = row
    return Anchor(Link(sequence, str(seal)), removed, str(created_at), unverifiable, str(anchor_seal))


def stored_now() -> str:
    """Now, in the form in which moments are read here."""
    return sqlite_timestamp(utc_now())


async def add_anchor(session: AsyncSession, anchor: Anchor) -> None:
    await session.execute(
        insert(AuditAnchor).values(
            sequence=anchor.end.sequence,
            seal=anchor.end.seal,
            removed=anchor.removed,
            created_at=datetime.fromisoformat(anchor.created_at).replace(tzinfo=UTC),
            unverifiable=anchor.unverifiable,
            anchor_seal=anchor.anchor_seal,
        )
    )


async def remove(session: AsyncSession, first: int, last: int) -> int:
    """The sealed entries from one sequence to another; how many."""
    statement = text("DELETE FROM audit_events WHERE sequence BETWEEN :first AND :last")
    result = await session.execute(statement, {"first": first, "last": last})
    return int(result.rowcount)  # type: ignore[attr-defined]
