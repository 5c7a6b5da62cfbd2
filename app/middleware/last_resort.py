"""Answers what no handler has foreseen."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import answer_to


class LastResortMiddleware:
    """The framework's own is outside of every middleware: its answer would lack what they add."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            if has_begun or scope["type"] != "http":
                raise
            response = await answer_to(Request(scope), error)
            await response(scope, receive, send)
