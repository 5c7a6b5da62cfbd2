"""Where a command writes a file that it was asked for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def opened(output: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that takes its name once all was written."""
    if output is None:
        yield sys.stdout.buffer
        return
    if output.exists() and not output.is_file():
        # A device or a pipe is written to; putting a file in its place would break it.
        with output.open("wb") as file:
            yield file
        return
    unfinished = output.with_name(f".{output.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(output)
