"""Makes the call (app.caller) that everything below belongs to; the outermost place that knows the client's address."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.caller import Call, calling


class CallMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        with calling(Call(scope["method"], scope["path"], client[0] if client else None)):
            await self._app(scope, receive, send)
