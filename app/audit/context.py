"""Who does what is being recorded, from where, and by which call."""

from typing import NamedTuple

from asgi_correlation_id import correlation_id

from app.caller import current_call

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
        client_address=call.address,
        method=call.method,
        path=None if call.path is None else call.path[:MAX_PATH_CHARACTERS],
        status=call.status,
        duration_ms=None if call.method is None else call.milliseconds,
        request_id=correlation_id.get(),
    )
