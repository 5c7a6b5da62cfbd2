"""Lets a call in, or refuses it: who is calling, and whether they hold what the route asks for."""

from fastapi import Request

from app.access.api_key_format import MAX_CHARACTERS as MAX_KEY_CHARACTERS
from app.access.identities import Identities, Identity
from app.access.permissions import Permission
from app.access.routing import AccessRule
from app.caller import NOWHERE, common, current_call
from app.errors import Forbidden, NotAuthenticated

KEY_HEADER = "X-API-Key"
MAX_TOKEN_CHARACTERS = 4096


class Gate:
    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    async def admit(self, request: Request, rule: AccessRule, status: int) -> None:
        """Completes the current call. Raises NotAuthenticated or Forbidden."""
        call = current_call()
        call.status = status
        if rule.is_public:
            return
        identity = await self._identified(request)
        call.caller, call.rights = identity.caller, identity.rights
        if rule.permission is not None:
            call.spaces = None
            narrow_to(rule.permission, everywhere=rule.everywhere)

    async def _identified(self, request: Request) -> Identity:
        key = request.headers.get(KEY_HEADER)
        authorization = request.headers.get("Authorization")
        if key is not None and authorization is not None:
            raise NotAuthenticated(f"send {KEY_HEADER} or a bearer token, not both")
        if key is not None:
            found = await self._identities.of_key(key) if len(key) <= MAX_KEY_CHARACTERS else None
            if found is None:
                raise NotAuthenticated("this API key is unknown, expired or revoked, or its owner is disabled")
            return found
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated(f"sign in: this call needs a bearer token or an {KEY_HEADER}")
        found = await self._identities.of_token(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
        if found is None:
            raise NotAuthenticated("this token is not valid, has expired, or its session has ended; sign in again")
        return found


def narrow_to(permission: Permission, *, everywhere: bool = False) -> None:
    """The rest of the call sees only spaces in which its caller holds this permission too.

    Raises Forbidden when there is none, or when it must be held everywhere and is not. The service itself may do all.
    """
    call = current_call()
    if call.is_service:
        return
    spaces = common(call.spaces, call.rights.get(permission, NOWHERE))
    if spaces is not None and (everywhere or not spaces):
        where = " in every space" if everywhere else ""
        raise Forbidden(f"this call needs the permission {permission.value}{where}")
    call.spaces = spaces
