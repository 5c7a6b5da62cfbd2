"""Pages of other origins that may call: none, unless they are listed."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ParameterError, problem_response

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "X-API-Key",
    "X-Request-ID",
)
ANSWER_HEADERS = ("Content-Disposition", "ETag", "Idempotency-Replayed", "Location", "Retry-After", "X-Request-ID")
PREFLIGHT_SECONDS = 600


class OriginRefused(ParameterError):
    status = 400


class CrossOriginMiddleware(CORSMiddleware):
    """Without credentials in the browser's sense, which are cookies: callers present a token or a key."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self._refused_preflight(scope)):
            await refused(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def _refused_preflight(self, scope: Scope) -> Response | None:
        """The problem, where the framework would answer in plain text."""
        headers = Headers(scope=scope)
        is_preflight = "origin" in headers and "access-control-request-method" in headers
        if scope["method"] != "OPTIONS" or not is_preflight:
            return None
        response = self.preflight_response(headers)
        if response.status_code < 400:
            return None
        refusal = OriginRefused(bytes(response.body).decode(), headers={"Vary": "Origin"})
        return problem_response(refusal, Request(scope))
