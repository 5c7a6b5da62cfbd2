"""Headers that tell browsers what an answer may not be used for.

The API's answers are no pages: nothing may be loaded or run from them. The documentation pages run the scripts that
stand in them, known by their hash, and those that this server has; styles they make as they go. What answers with a
policy of its own keeps it.
"""

import base64
import hashlib
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

API_PREFIX = "/api/"
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_documentation_paths = re.compile(r"/(docs|redoc|docs/oauth2-redirect)")
_documentation = (
    "default-src 'none'; connect-src 'self'; font-src 'self' data:; img-src 'self' data:; style-src 'self'"
    " 'unsafe-inline'; worker-src 'self' blob:; script-src 'self' {hashes}; frame-ancestors 'none'; base-uri 'none';"
    " form-action 'self'"
)
_inline_script = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# As they are sent: every answer has them, so that each microsecond counts.
_for_every_answer = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# What is one's own is nobody else's to keep; what holds a secret is nobody's at all.
_holds_secrets = re.compile(r"/api/v1/(auth|api-keys)(/|$)")
_over_https = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeadersMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _documentation_paths.fullmatch(scope["path"]):
            await self._app(scope, receive, _Page(scope, send).send)
        else:
            await self._app(scope, receive, _with_headers(scope, send))


def _with_headers(scope: Scope, send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            _add(message, scope, NOTHING)
        await send(message)

    return send_with_headers


class _Page:
    """A documentation page: its policy names its scripts, so that its beginning waits for what is in it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            hashes = _hashes(_inline_script.findall(message.get("body", b"")))
            _add(start, self._scope, _documentation.format(hashes=hashes))
            await self._send(start)
        await self._send(message)


def _hashes(scripts: Iterable[bytes]) -> str:
    digests = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _add(start: Message, scope: Scope, policy: str) -> None:
    headers = [*start["headers"], *_for_every_answer]
    if all(name != b"content-security-policy" for name, _ in headers):
        headers.append((b"content-security-policy", policy.encode()))
    if scope["scheme"] == "https":
        headers.append(_over_https)
    if scope["path"].startswith(API_PREFIX) and all(name != b"cache-control" for name, _ in headers):
        keeping = b"no-store" if _holds_secrets.match(scope["path"]) else b"private, no-cache"
        headers.append((b"cache-control", keeping))
    start["headers"] = headers
