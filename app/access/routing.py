"""Routes that let nobody in who may not: before the body is read, which a stranger must not be able to send.

Every route declares what it asks for: `openapi_extra=requires(Permission.…)`, `signed_in()` or `public("reason")`. One
that declares nothing cannot be made.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.access.permissions import Permission

BEARER_SCHEME, KEY_SCHEME = "bearer", "api_key"
MAX_STRANGERS_BODY_BYTES = 64 * 1024
MAX_USUAL_BODY_BYTES = 1024 * 1024
_signed_in: list[dict[str, list[str]]] = [{BEARER_SCHEME: []}, {KEY_SCHEME: []}]


class AccessUndeclared(Exception):
    """A route says nothing about who may call it."""


class CallLimit(StrEnum):
    """What a call is counted as, beside as a call (app.access.rate_limits). Only a batch may have a large body."""

    USUAL = "usual"
    BATCH = "batch"
    SIGN_IN = "sign-in"
    # For probes, whose refusal would look like an outage.
    UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """`permission` None asks for nothing but an identity; `everywhere` asks for the permission in every space."""

    is_public: bool
    permission: Permission | None
    everywhere: bool
    limit: CallLimit = CallLimit.USUAL

    @property
    def max_body_bytes(self) -> int | None:
        """None where only the configured limit of all bodies counts."""
        if self.limit is CallLimit.BATCH:
            return None
        return MAX_STRANGERS_BODY_BYTES if self.is_public else MAX_USUAL_BODY_BYTES


def requires(permission: Permission, *, everywhere: bool = False, limit: CallLimit = CallLimit.USUAL) -> dict[str, Any]:
    """The caller must hold it in some space; nothing outside of those spaces exists for the call."""
    declared = {"security": _signed_in, "x-permission": permission.value, "x-everywhere": everywhere}
    return declared | {"x-limit": limit.value}


def signed_in() -> dict[str, Any]:
    """For what is one's own: the route must look at nothing else."""
    return {"security": _signed_in, "x-permission": None}


def public(reason: str, *, limit: CallLimit = CallLimit.USUAL) -> dict[str, Any]:
    return {"security": [], "x-public": reason, "x-limit": limit.value}


def rule_of(route: APIRoute) -> AccessRule:
    declared = route.openapi_extra or {}
    limit = CallLimit(declared.get("x-limit", CallLimit.USUAL))
    if "x-public" in declared:
        return AccessRule(True, None, False, limit)
    if "x-permission" not in declared:
        raise AccessUndeclared(f"{sorted(route.methods or ())} {route.path} declares no permission")
    name = declared["x-permission"]
    return AccessRule(False, None if name is None else Permission(name), declared.get("x-everywhere", False), limit)


class GuardedRoute(APIRoute):
    """A route behind the application's gate (app.access.gate); a POST may be sent twice (app.access.idempotency)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        rule = rule_of(self)
        handle = super().get_route_handler()
        status = self.status_code or 200

        async def guarded(request: Request) -> Response:
            state = request.app.state
            await state.gate.admit(request, rule, status)
            if request.method == "POST" and not rule.is_public:
                answered: Response = await state.idempotency.answer(request, handle)
                return answered
            return await handle(request)

        return guarded
