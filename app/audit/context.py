"""Who does what is being recorded, from where, and by which call."""

from typing import NamedTuple
from urllib.parse import quote

from asgi_correlation_id import correlation_id

from app.caller import current_call

MAX_ADDRESS_CHARACTERS = 64
MAX_METHOD_CHARACTERS = 16
MAX_PATH_CHARACTERS = 500


class AuditContext(NamedTuple):
    """The columns of an audit entry that the call fills, whatever it changed; see app.models.audit."""

    actor_id: int | None
    actor_name: str | None
    api_key_prefix: str | None
    client_address: str | None
    method: str | None
    path: str | None
    status: int | None
    duration_ms: int | None
    request_id: str | None


CONTEXT_COLUMNS = AuditContext._fields


def current_context() -> AuditContext:
    call = current_call()
    caller = call.caller
    return AuditContext(
        actor_id=None if caller is None else caller.user_id,
        actor_name=None if caller is None else caller.name,
        api_key_prefix=None if caller is None else caller.api_key_prefix,
        client_address=_printable(call.address, MAX_ADDRESS_CHARACTERS),
        method=_printable(call.method, MAX_METHOD_CHARACTERS),
        path=_printable(call.path, MAX_PATH_CHARACTERS),
        status=call.status,
        duration_ms=None if call.method is None else call.milliseconds,
        request_id=correlation_id.get(),
    )


def _printable(text: str | None, limit: int) -> str | None:
    """What the client sent, cut, with whatever is no visible character as it stands in a URL (`%0A`).

    A path arrives decoded, so it can hold line breaks, which would forge lines of a log, NUL, which PostgreSQL does not
    store, and characters that turn the direction of writing.
    """
    if text is None or text.isprintable():
        return text if text is None else text[:limit]
    shown = (each if each.isprintable() else quote(each, errors="surrogatepass") for each in text[:limit])
    return "".join(shown)[:limit]
