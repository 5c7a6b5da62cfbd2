"""Refuses request bodies over the limit, as a problem document.

Starlette's own limiter answers in plain text. A length that is declared is refused before anything is read; a body
without one is counted while it arrives. A route that expects little lowers the limit once it knows who is calling
(app.access.routing), so that nobody else learns anything from the difference.
"""

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge, problem_response

_SCOPE_KEY = "muster.body_limit"


class BodyLimit:
    """Of one request: what its body may have, what it says that it has, and what has arrived."""

    def __init__(self, max_bytes: int, declared: str) -> None:
        self._max_bytes = max_bytes
        self._declared = int(declared) if declared.isdecimal() else 0
        self._received = 0

    def lower(self, max_bytes: int) -> None:
        """From now on no more than this. Raises BodyTooLarge when more is declared."""
        self._max_bytes = min(self._max_bytes, max_bytes)
        self.check_declared()

    def check_declared(self) -> None:
        """Raises BodyTooLarge."""
        if self._declared > self._max_bytes:
            raise BodyTooLarge(self._message)

    def count(self, message: Message) -> None:
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            # The framework passes on its own kind of error from within body parsing, and only that.
            raise HTTPException(413, self._message)

    @property
    def _message(self) -> str:
        return f"the body of this request must have at most {self._max_bytes} bytes"


class BodyLimitMiddleware:
    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = BodyLimit(self._max_body_bytes, Headers(scope=scope).get("content-length", ""))
        try:
            limit.check_declared()
        except BodyTooLarge as error:
            await problem_response(error, Request(scope))(scope, receive, send)
            return
        scope[_SCOPE_KEY] = limit
        await self._app(scope, _counting(receive, limit), send)


def body_limit_of(request: Request) -> BodyLimit:
    limit = request.scope[_SCOPE_KEY]
    assert isinstance(limit, BodyLimit)
    return limit


def _counting(receive: Receive, limit: BodyLimit) -> Receive:
    async def receive_within_limit() -> Message:
        message = await receive()
        limit.count(message)
        return message

    return receive_within_limit
