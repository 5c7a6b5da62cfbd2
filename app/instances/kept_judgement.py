"""What was judged of an upload, kept beside it: an import that is resumed goes on with the same rows at once.

A judgement is two files: the judged rows (judged_rows), and what the file is as a whole. The second is written last,
and says which form both have: without it, or with one of another version, the file is judged again.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from app.instances.csv_rows import JudgedFile
from app.instances.file_judge import FileJudge
from app.instances.uploads import Uploads

# Raise it when judged rows, or rules that rows are judged by, change.
FORM = 1


@dataclass(frozen=True, slots=True)
class JudgementPaths:
    """Where the judged rows are, and what the file is as a whole."""

    frames: Path
    judged: Path


def judgement_paths(uploads: Uploads, upload_id: str) -> JudgementPaths:
    return JudgementPaths(uploads.path_beside(upload_id, "frames"), uploads.path_beside(upload_id, "judged"))


async def judged_once(
    judge: FileJudge, source: Path, paths: JudgementPaths, encoding: str, ignore_unknown_columns: bool
) -> JudgedFile:
    """The judgement that is kept, or else one that is kept from now on. Raises FileRefused."""
    found = await asyncio.to_thread(read_judged, paths)
    if found is not None:
        return found
    draft = _draft_of(paths.frames)
    try:
        judged = await judge.judge(source, draft, encoding, ignore_unknown_columns)
        await asyncio.to_thread(draft.replace, paths.frames)
    finally:
        draft.unlink(missing_ok=True)
    await asyncio.to_thread(write_judged, paths, judged)
    return judged


def read_judged(paths: JudgementPaths) -> JudgedFile | None:
    """None unless both files are there, whole and of this version's form."""
    try:
        values = orjson.loads(paths.judged.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    if values.pop("form", None) != FORM or not paths.frames.exists():
        return None
    return _judged_of(values)


def write_judged(paths: JudgementPaths, judged: JudgedFile) -> None:
    """Once the judged rows are at their place."""
    draft = _draft_of(paths.judged)
    values = {name: getattr(judged, name) for name in JudgedFile.__slots__}
    try:
        draft.write_bytes(orjson.dumps({"form": FORM, **values}, default=sorted))
        draft.replace(paths.judged)
    finally:
        draft.unlink(missing_ok=True)


def _draft_of(path: Path) -> Path:
    """Several workers may write at once; each makes a whole file, and the last one stays."""
    return path.with_name(f"{path.name}.{uuid4().hex}")


def _judged_of(values: dict[str, Any]) -> JudgedFile:
    return JudgedFile(
        encoding=values["encoding"],
        delimiter=values["delimiter"],
        columns=frozenset(values["columns"]),
        rows=values["rows"],
        contested_names=frozenset(values["contested_names"]),
        contested_endpoints=frozenset(values["contested_endpoints"]),
    )
