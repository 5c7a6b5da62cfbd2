"""Who is calling, from where, and what they may reach: set for each request, read wherever it matters.

Deep layers need it (the audit trail, `created_by`, the limits of tenants), and handing it through every signature would
put it into functions that have no use for it. It is one object for each call, made by the outermost middleware and
completed when the caller is known; work without one (commands, tasks of the service itself) is the service's own.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

SERVICE_NAME = "muster"

# Ids of spaces; None is every space there is, and those to come.
Spaces = frozenset[int] | None
NOWHERE: Spaces = frozenset()


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in user, or one of their API keys. `user_id` None is the service itself."""

    user_id: int | None
    name: str
    api_key_prefix: str | None = None
    session_id: int | None = None


@dataclass(slots=True)
class Call:
    """One request. `rights` are the spaces in which the caller holds a permission, by its name. `spaces` are those in
    which they hold what this call needs; whatever is elsewhere does not exist for it (app.access.tenancy). `status` is
    what the route answers when all goes well. `is_recorded` tells that the audit trail has an entry about how the call
    failed already."""

    method: str | None = None
    path: str | None = None
    address: str | None = None
    caller: Caller | None = None
    rights: Mapping[str, Spaces] = field(default_factory=dict)
    spaces: Spaces = NOWHERE
    status: int | None = None
    is_recorded: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def milliseconds(self) -> int:
        return round((time.perf_counter() - self.started) * 1000)

    @property
    def is_service(self) -> bool:
        return self.caller is _service.caller


_current: ContextVar[Call | None] = ContextVar("muster_call", default=None)
_service = Call(caller=Caller(None, SERVICE_NAME), spaces=None)


def current_call() -> Call:
    """The call under way; outside of any, one of the service itself, which may reach everything."""
    return _current.get() or _service


def current_user_id() -> int | None:
    caller = current_call().caller
    return None if caller is None else caller.user_id


def signed_in_user_id() -> int:
    """The user's, in a call that nobody else can make."""
    user_id = current_user_id()
    assert user_id is not None, "only users call this"
    return user_id


def common(some: Spaces, others: Spaces) -> Spaces:
    """The spaces that are in both."""
    if some is None or others is None:
        return others if some is None else some
    return some & others


@contextmanager
def calling(call: Call) -> Iterator[Call]:
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)
