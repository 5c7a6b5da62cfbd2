"""Cells that a spreadsheet would run as a formula: made harmless in an export, and restored by the import.

A spreadsheet takes a cell for a formula by its first character, and for text when that is an apostrophe
(https://owasp.org/www-community/attacks/CSV_Injection). Apostrophes that stood before such a character already are
counted in, so that `restored(neutralized(text)) == text` holds for every text.
"""

import re

_formula = re.compile(r"'*[=+\-@\t\r]")
_neutralized_formula = re.compile(r"'+[=+\-@\t\r]")


def neutralized(text: str) -> str:
    """The text with one more leading apostrophe, if a spreadsheet could run it."""
    return "'" + text if _formula.match(text) else text


def restored(text: str) -> str:
    """The text without the apostrophe that `neutralized` put before it."""
    return text[1:] if _neutralized_formula.match(text) else text
