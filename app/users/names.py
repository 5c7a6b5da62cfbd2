"""What a user may be called: text in, the name to store out, FieldError when it is refused. Pure."""

import re
import unicodedata

from app.errors import FieldError
from app.fields import at_most, required, shown

MAX_USERNAME_CHARACTERS = 100
_allowed = re.compile(r"[a-z0-9][a-z0-9._@-]*")


def canonical(text: str) -> str:
    """The one form of all that look or are typed alike: `Admin`, `ADMIN` and `ａｄｍｉｎ` are one account."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def username(text: str) -> str:
    name = at_most("username", required("username", canonical(text)), MAX_USERNAME_CHARACTERS)
    if not _allowed.fullmatch(name):
        raise FieldError(
            "invalid_format",
            f"username must consist of a-z, 0-9 and . _ @ -, and begin with a letter or digit, unlike {shown(name)}",
        )
    return name
