"""Which names the server answers to, by the request's `Host`.

A page of somebody else's may have its own name resolve to this server's address (DNS rebinding). Such a name has a dot
in it and is no address. So whatever else there is needs no configuration: addresses, `localhost`, names of the local
network, and those of this machine.
"""

import re
import socket
from functools import lru_cache
from ipaddress import ip_address

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ParameterError, cut, problem_response

ANY = "*"
# A name has at most 253 characters (RFC 1035), and a port may follow.
MAX_HOST_CHARACTERS = 260
_host_form = re.compile(r"(?:\[(?P<bracketed>[0-9a-f:.]+)\]|(?P<plain>[^\s:/?#@\[\]]*))(?::[0-9]*)?", re.IGNORECASE)


class HostRefused(ParameterError):
    status = 400


class ServerNamesMiddleware:
    """`names` are those with a dot that it answers to: each a name, `*.` and a domain, or `*` for every name."""

    def __init__(self, app: ASGIApp, names: list[str]) -> None:
        self._app = app
        self._is_open = ANY in names
        self._names = {name.lower() for name in (*names, socket.gethostname(), socket.getfqdn())}
        self._domains = (".localhost", *(name[1:].lower() for name in names if name.startswith("*.")))
        # Nearly every request has the same.
        self._answers_to = lru_cache(maxsize=1_000)(self._is_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open:
            host = Headers(scope=scope).get("host", "")
            if len(host) > MAX_HOST_CHARACTERS or not self._answers_to(host):
                await _refusal(host, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        found = _host_form.fullmatch(host)
        if found is None:
            return False
        name = (found["bracketed"] or found["plain"]).lower().removesuffix(".")
        return "." not in name or name in self._names or name.endswith(self._domains) or _is_address(name)


def _refusal(host: str, scope: Scope) -> Response:
    detail = f"this server does not answer to the name {cut(host)}; MUSTER_ALLOWED_HOSTS lists the names that it does"
    return problem_response(HostRefused(detail), Request(scope))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
