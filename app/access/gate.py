"""Lets a call in, or refuses it: who is calling, whether they hold what the route asks for, and not too often."""

from fastapi import Request

from app.access.api_key_format import MAX_CHARACTERS as MAX_KEY_CHARACTERS
from app.access.api_key_format import PREFIX as KEY_PREFIX
from app.access.identities import Identities, Identity
from app.access.permissions import Permission
from app.access.rate_limits import RateLimits
from app.access.routing import AccessRule, CallLimit
from app.body_limit import body_limit_of
from app.caller import NOWHERE, common, current_call
from app.errors import Forbidden, NotAuthenticated

KEY_HEADER = "X-API-Key"
MAX_TOKEN_CHARACTERS = 4096


class Gate:
    def __init__(self, identities: Identities, limits: RateLimits) -> None:
        self._identities = identities
        self._limits = limits

    async def admit(self, request: Request, rule: AccessRule, status: int) -> None:
        """Completes the current call. Raises NotAuthenticated, Forbidden, TooManyRequests or BodyTooLarge."""
        current_call().status = status
        if rule.is_public:
            await self._admit_stranger(rule)
        else:
            await self._admit_caller(request, rule)
        if rule.max_body_bytes is not None:
            body_limit_of(request).lower(rule.max_body_bytes)

    async def _admit_stranger(self, rule: AccessRule) -> None:
        address = current_call().address
        if rule.limit is not CallLimit.UNLIMITED:
            await self._limits.count_stranger(address)
        if rule.limit is CallLimit.SIGN_IN:
            await self._limits.count_sign_in_of_address(address)

    async def _admit_caller(self, request: Request, rule: AccessRule) -> None:
        call = current_call()
        try:
            identity = await self._identified(request)
        except NotAuthenticated:
            await self._limits.count_stranger(call.address)
            raise
        call.caller, call.rights = identity.caller, identity.rights
        await self._limits.count_call(identity.caller, is_batch=rule.limit is CallLimit.BATCH)
        if rule.permission is not None:
            call.spaces = None
            narrow_to(rule.permission, everywhere=rule.everywhere)

    async def readmit(self, request: Request, permission: Permission) -> None:
        """The same for a call that goes on for long: who is calling, and what they may do by now. It counts as no other
        call. Raises NotAuthenticated, Forbidden or TooManyRequests."""
        call, identity = current_call(), await self._identified(request)
        call.caller, call.rights, call.spaces = identity.caller, identity.rights, None
        narrow_to(permission)

    async def _identified(self, request: Request) -> Identity:
        key = request.headers.get(KEY_HEADER)
        authorization = request.headers.get("Authorization")
        if key is not None and authorization is not None:
            raise NotAuthenticated(f"send {KEY_HEADER} or a bearer token, not both")
        if key is not None:
            return await self._key_owner(key)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated(f"sign in: this call needs a bearer token or an {KEY_HEADER}")
        return await self._token_owner(token)

    async def _key_owner(self, key: str) -> Identity:
        found = None
        if key.startswith(KEY_PREFIX) and len(key) <= MAX_KEY_CHARACTERS:
            found = self._identities.known(key) or await self._looked_up(key)
        if found is None:
            raise NotAuthenticated("this API key is unknown, expired or revoked, or its owner is disabled")
        return found

    async def _token_owner(self, token: str) -> Identity:
        found = None
        if not token.startswith(KEY_PREFIX) and len(token) <= MAX_TOKEN_CHARACTERS:
            found = self._identities.known(token) or await self._identities.of_token(token)
        if found is None:
            raise NotAuthenticated("this token is not valid, has expired, or its session has ended; sign in again")
        return found

    async def _looked_up(self, key: str) -> Identity | None:
        """Whose the key is, unless too many have been guessed from this address.

        A token needs no such protection: its signature tells, without the database, that it was not guessed.
        """
        await self._limits.require_room_for_stranger(current_call().address)
        return await self._identities.of_key(key)


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
