"""The order of what every request goes through. From the outside in:

1. the client's own address and scheme, where a proxy stands before us
2. the request id, which whatever follows logs
3. the call (app.caller), and the record of those that were refused
4. security headers, which no answer may lack
5. numbers for Prometheus
6. names of this server that it answers to
7. other origins whose pages may call it
8. the size of bodies
9. whatever went wrong and was foreseen by nobody; inside the others, so that this answer too gets their headers
"""

import re

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator

from app.body_limit import BodyLimitMiddleware
from app.call_middleware import BeforeAnswer, CallMiddleware
from app.config import Settings, listed
from app.middleware.cross_origin import CrossOriginMiddleware
from app.middleware.forwarding import ForwardingMiddleware
from app.middleware.last_resort import LastResortMiddleware
from app.middleware.security_headers import SecurityHeadersMiddleware
from app.middleware.server_names import ServerNamesMiddleware

_request_id = re.compile(r"[A-Za-z0-9._-]{1,64}")


def install_middleware(app: FastAPI, settings: Settings, before_answer: BeforeAnswer) -> None:
    """Each is put around those before it, so that the innermost stands first here."""
    app.add_middleware(LastResortMiddleware)
    app.add_middleware(BodyLimitMiddleware, max_body_bytes=settings.max_body_bytes)
    if origins := listed(settings.cors_origins):
        app.add_middleware(CrossOriginMiddleware, origins=origins)
    app.add_middleware(ServerNamesMiddleware, names=listed(settings.allowed_hosts))
    Instrumentator(excluded_handlers=["/metrics", "/health/.*"]).instrument(app)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(CallMiddleware, before_answer=before_answer)
    app.add_middleware(
        CorrelationIdMiddleware,
        header_name="X-Request-ID",
        validator=lambda value: _request_id.fullmatch(value) is not None,
    )
    if proxies := listed(settings.trusted_proxies):
        app.add_middleware(ForwardingMiddleware, proxies=proxies)
