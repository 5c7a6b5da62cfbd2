"""Refuses request bodies over the limit, as a problem document.

Starlette's own limiter answers in plain text. A length that is declared is refused before anything is read; a body
without one is counted while it arrives.
"""

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge, problem_response


class BodyLimitMiddleware:
    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limit:
            response = problem_response(BodyTooLarge(self._message), Request(scope))
            await response(scope, receive, send)
            return
        await self._app(scope, self._counting(receive), send)

    @property
    def _message(self) -> str:
        return f"the request body must have at most {self._limit} bytes"

    def _counting(self, receive: Receive) -> Receive:
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                # The framework passes on its own kind of error from within body parsing, and only that.
                raise HTTPException(413, self._message)
            return message

        return receive_within_limit
