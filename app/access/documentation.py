"""How to sign in, in the OpenAPI document: the Authorize button of its page works with both ways."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from app.access.gate import KEY_HEADER
from app.access.routing import BEARER_SCHEME, KEY_SCHEME

_schemes = {
    BEARER_SCHEME: {
        "type": "oauth2",
        "flows": {"password": {"tokenUrl": "/api/v1/auth/login", "refreshUrl": "/api/v1/auth/refresh", "scopes": {}}},
        "description": "Sign in with user name and password; the token is good for 15 minutes.",
    },
    KEY_SCHEME: {
        "type": "apiKey",
        "in": "header",
        "name": KEY_HEADER,
        "description": "For scripts: a key that was made with POST /api/v1/api-keys.",
    },
}


def document_security(app: FastAPI) -> None:
    app.openapi = _with_schemes(app.openapi)  # type: ignore[method-assign]


def _with_schemes(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def documented() -> dict[str, Any]:
        document = openapi()
        document.setdefault("components", {})["securitySchemes"] = _schemes
        return document

    return documented
