"""A server's words as they can be stored: what PostgreSQL or UTF-8 refuse is replaced, long names are cut.

A server's answer is nobody's input to refuse: what cannot be stored as it is, is stored as near to it as can be.
"""

import re
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import orjson

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
# PostgreSQL stores no NUL, and UTF-8 no lone surrogate.
_unstorable = re.compile("[\x00\ud800-\udfff]")
_MARK: Final = "…"
_MARK_DIGITS: Final = 16
_NUL_IN_JSON: Final = b"\\u0000"
_options = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z


def storable(text: str) -> str:
    return _unstorable.sub(REPLACEMENT, text) if _unstorable.search(text) else text


def stored_name(name: str, limit: int) -> str:
    """At most `limit` characters. Names that are cut end in a digest of the whole, and so stay apart."""
    if len(name) > limit:
        digest = sha256(name.encode(errors="surrogatepass")).hexdigest()[:_MARK_DIGITS]
        name = f"{name[: limit - len(_MARK) - _MARK_DIGITS]}{_MARK}{digest}"
    return storable(name)


def canonical_json(value: object) -> bytes:
    """The same bytes for the same value: keys sorted, in UTF-8, without anything that a database would refuse."""
    try:
        text = orjson.dumps(value, default=_plain, option=_options)
    except TypeError:
        # Surrogates, keys that are no text, numbers beyond 64 bits: rare, so looked for only now.
        return orjson.dumps(_cleaned(value), option=_options)
    return orjson.dumps(_cleaned(value), option=_options) if _NUL_IN_JSON in text else text


def digest_of(canonical: bytes) -> str:
    return sha256(canonical).hexdigest()


def _plain(value: object) -> object:
    """For kinds of collections that orjson does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return sorted(value, key=str)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    return str(value)


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(str(key)): _cleaned(member) for key, member in value.items()}
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
        case None | bool() | int() | float() | datetime():
            return value
    plain = _plain(value)
    return [_cleaned(member) for member in plain] if isinstance(plain, list) else _cleaned(plain)
