"""Routes that let nobody in who may not: before the body is read, which a stranger must not be able to send.

Every route declares what it asks for: `openapi_extra=requires(Permission.…)`, `signed_in()` or `public("reason")`. One
that declares nothing cannot be made.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.access.permissions import Permission

BEARER_SCHEME, KEY_SCHEME = "bearer", "api_key"
_signed_in: list[dict[str, list[str]]] = [{BEARER_SCHEME: []}, {KEY_SCHEME: []}]


class AccessUndeclared(Exception):
    """A route says nothing about who may call it."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """`permission` None asks for nothing but an identity; `everywhere` asks for the permission in every space."""

    is_public: bool
    permission: Permission | None
    everywhere: bool


def requires(permission: Permission, *, everywhere: bool = False) -> dict[str, Any]:
    """The caller must hold it in some space; nothing outside of those spaces exists for the call."""
    return {"security": _signed_in, "x-permission": permission.value, "x-everywhere": everywhere}


def signed_in() -> dict[str, Any]:
    """For what is one's own: the route must look at nothing else."""
    return {"security": _signed_in, "x-permission": None}


def public(reason: str) -> dict[str, Any]:
    return {"security": [], "x-public": reason}


def rule_of(route: APIRoute) -> AccessRule:
    declared = route.openapi_extra or {}
    if "x-public" in declared:
        return AccessRule(True, None, False)
    if "x-permission" not in declared:
        raise AccessUndeclared(f"{sorted(route.methods or ())} {route.path} declares no permission")
    name = declared["x-permission"]
    return AccessRule(False, None if name is None else Permission(name), declared.get("x-everywhere", False))


class GuardedRoute(APIRoute):
    """A route behind the application's gate (app.access.gate)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        rule = rule_of(self)
        handle = super().get_route_handler()
        status = self.status_code or 200

        async def guarded(request: Request) -> Response:
            await request.app.state.gate.admit(request, rule, status)
            return await handle(request)

        return guarded
