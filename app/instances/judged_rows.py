"""Judged rows, and the file that carries them from the judging process to the event loop.

One JSON array of rows a line, a few hundred rows each, so that the reader takes them in small pieces and the memory
needed does not grow with the file.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

FRAME_ROWS = 500


class RowError(NamedTuple):
    """Why a row is refused: the column, one of the contract's codes, what to do, and the offending value (cut)."""

    column: str | None
    code: str
    message: str
    value: str | None = None


# A named tuple: a hundred thousand of them are made, and a frozen dataclass takes four times as long to make.
class GoodRow(NamedTuple):
    """A row whose every cell is acceptable, with normalised values."""

    line: int
    name: str
    db_type: str
    host: str
    port: int
    endpoint_key: str
    database_name: str | None
    description: str | None
    environment: str
    sync_policy: str
    is_active: bool
    deletion_protection: bool
    credential: str | None
    tags: tuple[str, ...]


class BadRow(NamedTuple):
    line: int
    name: str | None
    errors: tuple[RowError, ...]


def write_frames(output: BinaryIO, rows: Iterator[tuple[object, ...]]) -> None:
    frame: list[tuple[object, ...]] = []
    for row in rows:
        frame.append(row)
        if len(frame) == FRAME_ROWS:
            output.write(orjson.dumps(frame) + b"\n")
            frame = []
    if frame:
        output.write(orjson.dumps(frame) + b"\n")


def read_frame(line: bytes) -> list[GoodRow | BadRow]:
    """The rows of one line of the file, in the order of the upload."""
    rows: list[GoodRow | BadRow] = []
    for values in orjson.loads(line):
        if len(values) == 3:
            rows.append(BadRow(values[0], values[1], tuple(RowError(*error) for error in values[2])))
        else:
            values[-1] = tuple(values[-1])
            rows.append(GoodRow._make(values))
    return rows


async def rows_in_chunks(frames: Path, chunk_rows: int) -> AsyncGenerator[list[GoodRow | BadRow], None]:
    """All rows in chunks, with a turn for others after each frame."""
    rows: list[GoodRow | BadRow] = []
    with await asyncio.to_thread(frames.open, "rb") as file:
        while line := await asyncio.to_thread(file.readline):
            rows += read_frame(line)
            while len(rows) >= chunk_rows:
                yield rows[:chunk_rows]
                rows = rows[chunk_rows:]
    if rows:
        yield rows
