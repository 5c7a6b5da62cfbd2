"""Answers in the form in which they are kept, and back."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from fastapi import Response
from starlette.responses import StreamingResponse

from app.access.idempotency_repository import StoredAnswer
from app.access.payload import LARGE_BYTES
from app.errors import Conflict

# Compressed. The report of an import of 10,000 rows takes a hundredth of it.
MAX_STORED_BYTES = 8 * 1024 * 1024
REPLAYED_HEADER = "Idempotency-Replayed"
_kept_headers = ("content-type", "location", "etag", "retry-after", "content-disposition")


async def as_stored(response: Response) -> StoredAnswer:
    """The answer as it will be sent; a streamed one is read, and streams what was read."""
    body = await _body(response)
    compressed = await asyncio.to_thread(zlib.compress, body) if len(body) > LARGE_BYTES else zlib.compress(body)
    headers = {name: response.headers[name] for name in _kept_headers if name in response.headers}
    return StoredAnswer(response.status_code, headers, compressed if len(compressed) <= MAX_STORED_BYTES else None)


async def as_response(answer: StoredAnswer) -> Response:
    """Raises Conflict when the answer was too large to be kept."""
    if answer.body is None:
        raise Conflict(
            f"this was done before and answered {answer.status}, but the answer was too large to be sent again",
            headers={REPLAYED_HEADER: "true"},
        )
    # A small one can become large.
    body = await asyncio.to_thread(zlib.decompress, answer.body)
    return Response(body, answer.status, {**answer.headers, REPLAYED_HEADER: "true"})


async def _body(response: Response) -> bytes:
    if not isinstance(response, StreamingResponse):
        return bytes(response.body)
    pieces = [bytes(piece) if not isinstance(piece, str) else piece.encode() async for piece in response.body_iterator]
    response.body_iterator = _again(pieces)
    return b"".join(pieces)


async def _again(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
