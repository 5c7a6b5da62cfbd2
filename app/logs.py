"""Logging: one JSON object a line on standard error, with the request id of the call that caused it.

No secret gets into it: whatever is logged is chosen, never a body or a header; and of addresses the path only, for
people put passwords into queries.
"""

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog
from asgi_correlation_id import correlation_id


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request_id = correlation_id.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event


class _WithoutQuery(logging.Filter):
    """uvicorn's access log names the whole address: (client, method, path and query, version, status)."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                part.partition("?")[0] if isinstance(part, str) and part.startswith("/") else part
                for part in record.args
            )
        return True


_without_query = _WithoutQuery()


def configure_logging(level: str) -> None:
    """Sends structlog's and the standard library's records through the same JSON formatter."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_log_level,
        _add_request_id,
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # It tells its dialect each time that somebody asks for the schema's revision, as every readiness check does.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # At DEBUG it tells every statement with its values.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").addFilter(_without_query)
