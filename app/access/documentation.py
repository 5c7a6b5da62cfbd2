"""What holds for many calls, in the OpenAPI document: how to sign in, and the header of POSTs that may be sent twice.

The Authorize button of the documentation page works with both ways to sign in.
"""

import asyncio
from collections.abc import Callable
from threading import Lock
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.routing import Route, request_response

from app.access.gate import KEY_HEADER
from app.access.idempotency import HEADER as IDEMPOTENCY_HEADER
from app.access.idempotency import is_never_kept
from app.access.routing import BEARER_SCHEME, KEY_SCHEME

_schemes = {
    BEARER_SCHEME: {
        "type": "oauth2",
        "flows": {"password": {"tokenUrl": "/api/v1/auth/login", "scopes": {}}},
        "description": "Sign in with user name and password; the token is good for 15 minutes.",
    },
    KEY_SCHEME: {
        "type": "apiKey",
        "in": "header",
        "name": KEY_HEADER,
        "description": "For scripts: a key that was made with POST /api/v1/api-keys.",
    },
}
_idempotency_key = {
    "name": IDEMPOTENCY_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "description": "Sent again with the same key within 24 hours, the call is not done again and answers the same",
}


def document_access(app: FastAPI) -> None:
    app.openapi = _with_access(app.openapi)  # type: ignore[method-assign]
    _make_in_thread(app)


def _make_in_thread(app: FastAPI) -> None:
    """For the first who asks, the document is made, which takes most of a second; all others' requests go on."""
    route = next(route for route in app.routes if isinstance(route, Route) and route.path == app.openapi_url)
    answer, one_at_a_time = route.endpoint, Lock()

    def make() -> None:
        with one_at_a_time:
            app.openapi()

    async def answer_when_made(request: Request) -> Response:
        await asyncio.to_thread(make)
        response: Response = await answer(request)
        return response

    route.app = request_response(answer_when_made)


def _with_access(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def documented() -> dict[str, Any]:
        document = openapi()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        # The document is made once, and handed out ever after.
        if not schemes:
            schemes.update(_schemes)
            _document_idempotency(document["paths"])
        return document

    return documented


def _document_idempotency(paths: dict[str, dict[str, Any]]) -> None:
    for path, operations in paths.items():
        operation = operations.get("post", {})
        if "x-permission" in operation and not is_never_kept(path):
            operation.setdefault("parameters", []).append(_idempotency_key)
