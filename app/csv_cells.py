"""Values as cells of a CSV file, and texts that a spreadsheet would run as a formula: made harmless, and restored.

A spreadsheet takes a cell for a formula by its first character, and for text when that is an apostrophe
(https://owasp.org/www-community/attacks/CSV_Injection). Apostrophes that stood before such a character already are
counted in, so that `restored(neutralized(text)) == text` holds for every text.
"""

import csv
import re
from collections.abc import Iterable
from datetime import datetime
from io import StringIO

_formula = re.compile(r"'*[=+\-@\t\r]")
_neutralized_formula = re.compile(r"'+[=+\-@\t\r]")


def neutralized(text: str) -> str:
    """The text with one more leading apostrophe, if a spreadsheet could run it."""
    return "'" + text if _formula.match(text) else text


def restored(text: str) -> str:
    """The text without the apostrophe that `neutralized` put before it."""
    return text[1:] if _neutralized_formula.match(text) else text


def cell(value: object) -> str:
    """The value as an export shows it; None is empty, a list is joined by `|`."""
    match value:
        case str():
            return neutralized(value)
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case list() | tuple():
            return neutralized("|".join(value))
        case _:
            return str(value)


def written(rows: Iterable[Iterable[str]]) -> bytes:
    """The rows of cells as CSV in UTF-8."""
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
