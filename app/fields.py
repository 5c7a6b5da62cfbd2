"""What holds for a value of any field, whatever its domain: how it is trimmed, bounded and refused."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from app.errors import FieldError
from app.pagination import MAX_ID

MAX_DESCRIPTION_CHARACTERS = 500
MAX_SEARCH_CHARACTERS = 200
MAX_SHOWN_CHARACTERS = 60

# What no text may hold: PostgreSQL stores no NUL, UTF-8 no surrogate, and control characters are never meant.
_refused_characters = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_refused_on_one_line = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def shown(text: str) -> str:
    """The value as an error message names it."""
    return repr(text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…")


def required(column: str, text: str) -> str:
    text = text.strip()
    if not text:
        raise FieldError("required", f"{column} must not be empty")
    return text


def at_most(column: str, text: str, limit: int) -> str:
    if len(text) > limit:
        raise FieldError("too_long", f"{column} must have at most {limit} characters, not {len(text)}")
    return text


def one_line(column: str, text: str) -> str:
    if _refused_on_one_line.search(text):
        raise FieldError("invalid_format", f"{column} must not hold control characters")
    return text


def several_lines(column: str, text: str) -> str:
    """Tabs and line breaks are allowed."""
    if _refused_characters.search(text):
        raise FieldError("invalid_format", f"{column} must not hold control characters")
    return text


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC, in which one without a zone is."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise FieldError("out_of_range", "the moment is before the year 1 or after the year 9999 in UTC") from error


def _description(text: str) -> str | None:
    return several_lines("description", text) or None


def _search(text: str) -> str:
    return one_line("q", text)


def _no_boolean(value: object) -> object:
    # To pydantic true is 1, and a list that holds one by mistake would name the first resource.
    if isinstance(value, bool):
        raise FieldError("invalid_format", "an id must be a whole number")
    return value


# The bounds stand first: behind a validator the docs page would not show them.
ResourceId = Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(_no_boolean)]
# Blank is none. An optional field of a body is `Description | None`.
Description = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_DESCRIPTION_CHARACTERS),
    AfterValidator(_description),
]
SearchText = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=MAX_SEARCH_CHARACTERS), AfterValidator(_search)
]
