"""Keeps secrets out of the audit trail, whatever a service hands in: the last defence, not the only one.

The rule: text and whatever is nested under a name that speaks of a secret is replaced by `REMOVED`. A name does so when
one of its words, at any place (`new_password`, `apiKey`), is in `SECRET_WORDS`. What stays: nothing, true and false,
numbers (counts of rows in `refresh_tokens`), and the word `CHANGED`.
"""

import re
from functools import lru_cache
from typing import Any, Final

import orjson

REMOVED: Final = "removed"
CHANGED: Final = "changed"
SECRET_WORDS: Final = frozenset(
    word + plural
    for word in (
        "password", "passwd", "pwd", "passphrase", "secret", "token", "key", "hash", "cookie", "authorization",
        "signature", "private",
    )
    for plural in ("", "s", "es")
)  # fmt: skip
# They speak of no secret, though one of their words does.
HARMLESS_NAMES: Final = frozenset({"endpoint_key", "api_key_prefix", "key_prefix"})

# Where a word ends: at what is no letter, and where a small letter is followed by a capital one.
_between_words = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
_run_together = re.compile("password|passwd|passphrase|secret|apikey|accesstoken|refreshtoken")
_plain = frozenset((str, int, float, bool, type(None)))


@lru_cache(maxsize=2_000)
def speaks_of_secret(name: str) -> bool:
    if name in HARMLESS_NAMES:
        return False
    words = {word.lower() for word in _between_words.split(name)}
    return not words.isdisjoint(SECRET_WORDS) or _run_together.search(name.lower()) is not None


def without_secrets(value: Any) -> Any:
    """The value, with what lies under names of secrets replaced."""
    if isinstance(value, dict):
        return {
            name: _hidden(each) if speaks_of_secret(str(name)) else without_secrets(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(each) for each in value]
    return value


def as_json(changes: dict[str, Any]) -> str:
    """The changes as JSON, without secrets; for entries by the thousand, of which nearly none has any."""
    return orjson.dumps(without_secrets(changes) if _has_secrets(changes) else changes).decode()


def _has_secrets(value: Any) -> bool:
    if isinstance(value, dict):
        if _speak_of_secrets(tuple(value)):
            return True
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    for each in value:  # noqa: SIM110 - any() takes twice as long
        if type(each) not in _plain and _has_secrets(each):
            return True
    return False


@lru_cache(maxsize=2_000)
def _speak_of_secrets(names: tuple[str, ...]) -> bool:
    """Entries of one kind have the same names."""
    return any(map(speaks_of_secret, map(str, names)))


def _hidden(value: Any) -> Any:
    if value is None or value == CHANGED or isinstance(value, bool | int | float):
        return value
    return REMOVED
