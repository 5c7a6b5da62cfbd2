"""The ids that a command is given: as arguments, in a file or on standard input."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from app.commands.exit_codes import CommandFailed

STANDARD_INPUT = "-"
MAX_ID_DIGITS = 19


def read_ids(arguments: Sequence[str], from_file: str | None) -> list[int]:
    """The ids in the order given, each once. Raises CommandFailed for what is no id, or none at all."""
    given = [_id(text, "") for text in arguments if text != STANDARD_INPUT]
    if STANDARD_INPUT in arguments or from_file == STANDARD_INPUT:
        given += _ids_of_lines(sys.stdin, "standard input")
    if from_file is not None and from_file != STANDARD_INPUT:
        given += _ids_of_file(Path(from_file))
    if not given:
        raise CommandFailed("no ids: name them, or give --from-file FILE")
    return list(dict.fromkeys(given))


def _ids_of_file(path: Path) -> list[int]:
    try:
        # Spreadsheets put a byte order mark before the first line.
        with path.open(encoding="utf-8-sig") as lines:
            return list(_ids_of_lines(lines, str(path)))
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path} is not a text file with one id a line") from error


def _ids_of_lines(lines: Iterable[str], source: str) -> Iterator[int]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _id(line.strip(), f"line {number} of {source}: ")


def _id(text: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS and int(text) > 0):
        raise CommandFailed(f"{place}an id is a whole number from 1, not {text[:40]!r}")
    return int(text)
