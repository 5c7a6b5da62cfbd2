"""The queue's dashboard: the library's pages about jobs and workers, to look at and to change nothing.

A job that was cancelled there would be gone behind its operation's back, and operations have calls of their own for
that. So the routes that change something are left out, what the pages show for them is hidden, and every statement runs
in a transaction that can only read.

The pages ask again every half a minute instead of hearing of each change: with every answer it is seen anew who asks,
and no connection to the database is kept for it.
"""

import base64
import binascii
import hashlib
import re
from typing import Any

from fastapi import Request
from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.adapters.web.routes import STATIC_DIR, TEMPLATES_DIR, create_web_router
from pgqueuer.ports.driver import Driver
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.gate import KEY_HEADER
from app.access.permissions import Permission
from app.access.routing import AccessRule
from app.database import Database
from app.database.driver_errors import as_sqlalchemy
from app.errors import NotAuthenticated
from app.operations.queue_engine import names, queries_over

PATH = "/queue"
# Whoever sees the queue sees the jobs of every space.
RULE = AccessRule(is_public=False, permission=Permission.OPERATION_READ_ALL, everywhere=True)
CHALLENGE = 'Basic realm="Muster"'
# What the library would send before it shows sums: it adds to them what has ended since. Workers do so every half a
# minute, with a lock, and without one two views at once would add the same.
_SUM_UP = QueryQueueBuilder(names).build_aggregate_log_data_to_statistics_query()
_hidden = "button[hx-post], form[hx-post] button, form[hx-post] input { display: none; }"


def _policy() -> str:
    """What the pages need: their own files, and the few scripts that stand in the frame of all of them.

    These are read from the library's template and not from an answer, which holds what jobs say too. Scripts of buttons
    that are hidden are not among them.
    """
    frame = (TEMPLATES_DIR / "base.html").read_text()
    in_elements = [_hash(script) for script in re.findall(r"<script>(.*?)</script>", frame, re.DOTALL)]
    in_attributes = [_hash(script) for script in re.findall(r'\son\w+="([^"]*)"', frame)]
    scripts = " ".join(("'self'", *in_elements, "'unsafe-hashes'", *in_attributes))
    return (
        f"default-src 'none'; connect-src 'self'; style-src 'self'; script-src {scripts}; frame-ancestors 'none';"
        " base-uri 'none'; form-action 'self'"
    )


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


class QueueDashboard:
    """To be mounted at `/queue`. It finds the gate, and as `pgq_queries` what `dashboard_queries` makes, in the
    state of the application around it.

    Browsers, which cannot send a key in a header of its own, are asked for one as the password, with any user name.
    """

    def __init__(self) -> None:
        everything = create_web_router(include_sse=False)
        style = (STATIC_DIR / "style.css").read_text() + _hidden

        async def stylesheet(_: Request) -> Response:
            return Response(style, media_type="text/css")

        reading = [route for route in everything.routes if isinstance(route, Route) and route.methods == {"GET"}]
        # The first that fits answers: ours is in the place of the library's own.
        self._pages: ASGIApp = Router([Route("/static/style.css", stylesheet, methods=["GET"]), *reading])
        # For the pages' links alone: they name the routes that are left out too.
        self._names = everything
        self._headers = {"Content-Security-Policy": _policy(), "Cache-Control": "private, no-cache"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        await _admit(scope)
        within = {**scope, "router": self._names, "app_root_path": scope["root_path"]}
        await self._pages(within, receive, self._with_headers(send))

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        return send_with_headers


async def _admit(scope: Scope) -> None:
    request = Request(_with_key(scope))
    try:
        await request.app.state.gate.admit(request, RULE, 200)
    except NotAuthenticated as error:
        error.headers["WWW-Authenticate"] = CHALLENGE
        raise


def _with_key(scope: Scope) -> Scope:
    """The request as it would be, had its sender been able to send the key by itself."""
    headers = Headers(scope=scope)
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic" or KEY_HEADER in headers:
        return scope
    others = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
    return {**scope, "headers": [*others, (KEY_HEADER.lower().encode(), _password(credentials))]}


def _password(credentials: str) -> bytes:
    """RFC 7617. Nothing, where that is not what they are: no key is empty."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def dashboard_queries(database: Database) -> Queries:
    # What the pages have no use for says so when it is called, as the library made it.
    return queries_over(_ReadingDriver(database))  # type: ignore[abstract]


class _ReadingDriver(Driver):
    """The library's port to the database, with what its pages need: each statement has a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._engine = database.read_engine

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        try:
            async with self._engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                async with driver.transaction(readonly=True):
                    return [dict(row) for row in await driver.fetch(query, *args)]
        except Exception as error:
            raise as_sqlalchemy(error, "a statement of the queue's dashboard") from error

    async def execute(self, query: str, *args: object) -> str:
        if query != _SUM_UP:
            raise NotImplementedError
        return ""
