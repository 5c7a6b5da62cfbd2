"""The rules of tag names: text in, the name to store out, FieldError when it is refused. Pure."""

import re
from collections.abc import Iterable

from app.errors import FieldError
from app.fields import at_most, one_line, required, shown

MAX_TAG_CHARACTERS = 100
MAX_TAGS = 50
TAG_SEPARATORS = re.compile(r"[|;]")


def tag_name(text: str) -> str:
    text = one_line("tag", at_most("tag", required("tag", text), MAX_TAG_CHARACTERS))
    if TAG_SEPARATORS.search(text):
        raise FieldError("invalid_format", f"a tag must not hold '|' or ';': {shown(text)}")
    return text


def tags(text: str) -> tuple[str, ...]:
    """Distinct tag names in order of name, from a cell separated by `|` or `;`."""
    return tag_names(part for part in TAG_SEPARATORS.split(text) if part.strip())


def tag_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of one instance's tags: distinct, in order of name, at most `MAX_TAGS`."""
    found = tuple(sorted({tag_name(each) for each in names}))
    if len(found) > MAX_TAGS:
        raise FieldError("out_of_range", f"an instance can have at most {MAX_TAGS} tags, not {len(found)}")
    return found
