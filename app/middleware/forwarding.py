"""The client's own address and scheme, when the request came through a proxy that is trusted to tell them.

`X-Forwarded-For` is read from its end: each proxy adds whom it heard from, so that the last address that is no trusted
proxy's is the client's. Whatever stands before it, the client may have made up.
"""

from ipaddress import ip_address
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_PEER = "muster.peer"


class ForwardingMiddleware:
    def __init__(self, app: ASGIApp, proxies: list[str]) -> None:
        self._app = app
        # uvicorn has types of its own for the same things.
        answer_client: Any = self._answer_client
        self._read_headers: Any = ProxyHeadersMiddleware(answer_client, proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PEER] = scope.get("client")
        await self._read_headers(scope, receive, send)

    async def _answer_client(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no address is as good as nothing: then it is the proxy that calls."""
        client = scope.get("client")
        if client is not None and not _is_address(client[0]):
            scope["client"] = scope[_PEER]
        await self._app(scope, receive, send)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
