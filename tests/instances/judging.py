"""Files judged without a database, for the tests of what reads them."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.instances.csv_file import FileRefused
from app.instances.csv_rows import JudgedFile, judge_file
from app.instances.judged_rows import BadRow, GoodRow, read_frame

HEADER = "name,db_type,host,description\n"


@dataclass(frozen=True)
class Judged:
    whole: JudgedFile
    rows: list[GoodRow | BadRow]

    def good(self) -> list[GoodRow]:
        """The rows, of which none may be bad."""
        for row in self.rows:
            assert isinstance(row, GoodRow), row
        return [row for row in self.rows if isinstance(row, GoodRow)]

    def descriptions(self) -> list[str | None]:
        return [row.description for row in self.good()]

    def lines(self) -> list[int]:
        return [row.line for row in self.rows]


def judge(directory: Path, data: bytes, encoding: str = "auto", *, ignore_unknown_columns: bool = False) -> Judged:
    source, frames = directory / "upload", directory / "frames"
    source.write_bytes(data)
    whole = judge_file(source, frames, encoding, ignore_unknown_columns)
    rows = [row for line in frames.read_bytes().splitlines() for row in read_frame(line)]
    assert whole.rows == len(rows)
    return Judged(whole, rows)


def judge_and_tell(source: Path, frames: Path, encoding: str, ignore_unknown_columns: bool) -> JudgedFile:
    """Judges, and leaves beside the file the id of the process that did."""
    source.with_suffix(".pid").write_text(str(os.getpid()))
    return judge_file(source, frames, encoding, ignore_unknown_columns)


def refusal(directory: Path, data: bytes, encoding: str = "auto") -> FileRefused:
    with pytest.raises(FileRefused) as refused:
        judge(directory, data, encoding)
    return refused.value


def described(*descriptions: str) -> str:
    """A file with these descriptions."""
    return HEADER + "".join(f"row-{number},pg,h{number},{text}\n" for number, text in enumerate(descriptions))
