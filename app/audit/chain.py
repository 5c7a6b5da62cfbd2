"""The chain of seals over the audit trail: what of an entry is sealed, and how. Pure.

Every entry's seal is an HMAC-SHA256 over the seal before it, its place in the chain and all its columns. Whoever does
not have the key cannot make one, so an entry that is changed, taken out or put in between does not fit any more. Taking
away the newest entries leaves a chain that fits: against that helps a head that was written down elsewhere.
"""

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

# In this order, and `sequence` before them; `changes` is JSON and comes last.
SEALED_COLUMNS: Final = (
    "id", "occurred_at", "space_id", "action", "resource_type", "resource_id", "resource_name", "outcome", "batch_id",
    "actor_id", "actor_name", "api_key_prefix", "client_address", "method", "path", "status", "duration_ms",
    "request_id", "changes",
)  # fmt: skip

# The values of SEALED_COLUMNS as plain numbers and text (moments as `2026-11-22 19:36:03.000000` in UTC, a UUID as 32
# hexadecimal digits). In rows that somebody tampered with they can be anything that SQLite stores.
StoredRow = Sequence[object]


@dataclass(frozen=True, slots=True)
class Link:
    """The place of a sealed entry in the chain, and its seal."""

    sequence: int
    seal: str


# What the first entry is sealed to.
BEGINNING: Final = Link(0, "0" * 64)


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the chain begins: the last entry of those that are gone. `created_at` as in a StoredRow.

    At a restart nothing goes: `end` is the last entry that was sealed with a lost key, and `unverifiable` how many of
    these are kept.
    """

    end: Link
    removed: int
    created_at: str
    unverifiable: int | None = None
    anchor_seal: str = ""


class Sealing:
    """What needs the key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, before: Link, row: StoredRow) -> Link:
        """The entry's link when it follows `before`."""
        sequence = before.sequence + 1
        return Link(sequence, self._digest(b"entry", before.seal, canonical(sequence, row)))

    def chain(self, before: Link, rows: Sequence[StoredRow]) -> Iterator[Link]:
        """The links of entries that follow each other."""
        for row in rows:
            before = self.seal(before, row)
            yield before

    def sealed_anchor(self, end: Link, removed: int, created_at: str) -> Anchor:
        return self._sealed(Anchor(end, removed, created_at))

    def sealed_restart(self, end: Link, unverifiable: int, created_at: str) -> Anchor:
        return self._sealed(Anchor(end, 0, created_at, unverifiable))

    def is_genuine(self, anchor: Anchor) -> bool:
        return hmac.compare_digest(self._anchor_seal(anchor).encode(), anchor.anchor_seal.encode())

    def _sealed(self, anchor: Anchor) -> Anchor:
        return replace(anchor, anchor_seal=self._anchor_seal(anchor))

    def _anchor_seal(self, anchor: Anchor) -> str:
        content: list[object] = [anchor.end.sequence, anchor.removed, anchor.created_at]
        if anchor.unverifiable is None:
            return self._digest(b"anchor", anchor.end.seal, orjson.dumps(content))
        return self._digest(b"restart", anchor.end.seal, orjson.dumps([*content, anchor.unverifiable]))

    def _digest(self, kind: bytes, before: str, content: bytes) -> str:
        return hmac.digest(self._key, b"\n".join((kind, before.encode(), content)), "sha256").hex()


def canonical(sequence: int, row: StoredRow) -> bytes:
    """The same bytes for the same entry, whichever database it is read from: one JSON array."""
    *values, changes = row
    if float in map(type, values):
        # No column holds one, so somebody tampered; in JSON an infinite one would look like null.
        values = [{"float": repr(each)} if isinstance(each, float) else each for each in values]
    return orjson.dumps([sequence, *values, _canonical_json(changes)], default=_unexpected)


def _canonical_json(text: object) -> object:
    """JSON text with its names in order and without spaces, as text."""
    if text is None:
        return None
    if isinstance(text, str):
        try:
            return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
        except orjson.JSONDecodeError:
            pass
    return {"invalid": text}


def _unexpected(value: object) -> object:
    return {"bytes": value.hex()} if isinstance(value, bytes) else {"value": repr(value)}
