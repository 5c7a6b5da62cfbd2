"""Entity tags made from a row's integer `revision`, and the headers that compare them.

`If-Match` keeps one client from undoing another's work; `If-None-Match` saves sending what the client has.
https://www.rfc-editor.org/rfc/rfc9110#section-13.1
"""

import re
from typing import Annotated

from fastapi import Header

from app.errors import PreconditionFailed, cut

MAX_HEADER_CHARACTERS = 1000
# RFC 9110, 8.8.3: an opaque tag in double quotes; a weak one never matches here, because If-Match compares strongly.
_entity_tag = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=MAX_HEADER_CHARACTERS,
        description="The `ETag` that the change is based on; refused with 412 when the resource has changed since",
    ),
]

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        max_length=MAX_HEADER_CHARACTERS,
        description="An `ETag` that the client has; answered with 304 and no body while the resource is still at it",
    ),
]


def etag(revision: int) -> str:
    return f'"{revision}"'


def require_match(if_match: str | None, revision: int) -> None:
    """Raises PreconditionFailed unless the header is absent, is `*`, or lists the revision's entity tag.

    Call it with the row locked, or the answer may be out of date before the change is made.
    """
    if if_match is None or if_match.strip() == "*":
        return
    tags = [part.strip() for part in if_match.split(",")]
    if not all(_entity_tag.fullmatch(tag) for tag in tags if tag):
        raise PreconditionFailed(f"If-Match must list entity tags in double quotes, not {cut(if_match)}")
    if etag(revision) not in tags:
        raise PreconditionFailed(f"the resource is at {etag(revision)}, not at {cut(if_match)}: read it again")


def is_known(if_none_match: str | None, revision: int) -> bool:
    """Whether the client has this revision already: the header is `*` or lists its entity tag, weak or not."""
    if if_none_match is None:
        return False
    tags = (part.strip().removeprefix("W/") for part in if_none_match.split(","))
    return if_none_match.strip() == "*" or etag(revision) in tags
