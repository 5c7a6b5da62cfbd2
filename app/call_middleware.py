"""Makes the call (app.caller) that everything below belongs to; the outermost place that knows the client's address."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.caller import Call, calling

# Is told of each answer's status, before its first byte is sent.
BeforeAnswer = Callable[[Call, int], Awaitable[None]]


class CallMiddleware:
    def __init__(self, app: ASGIApp, before_answer: BeforeAnswer) -> None:
        self._app = app
        self._before_answer = before_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        with calling(Call(scope["method"], scope["path"], client[0] if client else None)) as call:
            await self._answer(call, scope, receive, send)

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._before_answer(call, message["status"])
            await send(message)

        await self._app(scope, receive, send_noted)
