"""Answers that are CSV files, streamed while they are written."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import StreamingResponse

CSV_MEDIA_TYPE = "text/csv; charset=utf-8"
# A route's `responses=`.
CSV_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"text/csv": {"schema": {"type": "string"}}}}
}

CsvFormat = Annotated[Literal["csv"], Query()]


async def streamed(pieces: AsyncIterator[bytes], name: str) -> StreamingResponse:
    """The file under that name. What fails before its first byte is raised: an answer of its own, not a broken file."""
    content = _continued(await anext(pieces), pieces)
    return StreamingResponse(content, media_type=CSV_MEDIA_TYPE, headers=attachment(name))


def attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


async def _continued(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
