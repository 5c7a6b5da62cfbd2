"""The call that asked for an operation: kept with it, so that its worker acts, and is recorded, in the caller's name.

A worker has the rights that the caller's user holds when it begins, and of these only what the caller could use then: a
key with few scopes starts no work that does more, and who has lost a right since does not keep it in the background.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from asgi_correlation_id import correlation_id

from app.access.identities import Identity
from app.audit.context import current_context
from app.caller import Call, Caller, calling, current_call
from app.operations.records import OperationRecord

ACCEPTED = 202


def origin_of_call() -> dict[str, Any]:
    """Of the call under way."""
    context = current_context()
    return {
        "method": context.method,
        "path": context.path,
        "address": context.client_address,
        "request_id": context.request_id,
        "actor_name": context.actor_name,
        "api_key_prefix": context.api_key_prefix,
        "permissions": sorted(current_call().rights),
    }


@contextmanager
def acting_for(operation: OperationRecord, identity: Identity) -> Iterator[None]:
    """The block is part of the call that asked for the operation."""
    origin: Mapping[str, Any] = operation.origin
    caller = Caller(operation.user_id, identity.caller.name, origin["api_key_prefix"])
    call = Call(origin["method"], origin["path"], origin["address"], caller, identity.rights, spaces=None)
    call.status = ACCEPTED
    token = correlation_id.set(origin["request_id"])
    try:
        with calling(call), structlog.contextvars.bound_contextvars(operation_id=operation.id):
            yield
    finally:
        correlation_id.reset(token)
