"""What holds for many calls, in the OpenAPI document: how to sign in, and the header of POSTs that may be sent twice.

The Authorize button of the documentation page works with both ways to sign in.
"""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

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
