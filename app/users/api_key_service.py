"""API keys: what scripts present. A key is shown once, when it is made, and can do at most what its owner can.

A key made with a key is worth no more than that one: neither may it do more, nor does it last longer.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.api_key_format import new_key
from app.access.identities import Identities
from app.audit.recorder import AuditEntry, record
from app.caller import current_call, current_user_id
from app.errors import Conflict, Forbidden, NotAuthenticated, NotFound
from app.pagination import PageRequest
from app.taken_names import refusing_taken_name
from app.users import api_key_repository as repository
from app.users import grant_repository
from app.users.api_key_records import ApiKeyPage, ApiKeyRecord
from app.users.grant_limits import is_held_somewhere
from app.users.grant_records import Holder
from app.users.notification_service import NotificationService

MAX_KEYS = 100


class ApiKeyService:
    def __init__(self, session: AsyncSession, identities: Identities) -> None:
        self._session = session
        self._identities = identities

    async def page(self, user_id: int, sort: str, request: PageRequest) -> ApiKeyPage:
        """The user's keys, expired ones too. Raises NotFound when there is no such user."""
        _found(await grant_repository.find_holder(self._session, user_id), user_id)
        return await repository.page(self._session, user_id, sort, request)

    async def get(self, user_id: int, api_key_id: int) -> ApiKeyRecord:
        """Raises NotFound when the user has no such key, whoever else has."""
        return _found_key(await repository.find(self._session, user_id, api_key_id), api_key_id)

    async def create(
        self, user_id: int, name: str, scopes: Collection[str] | None, expires_at: datetime | None
    ) -> tuple[ApiKeyRecord, str]:
        """The record, and the key, which is not kept anywhere. Without scopes it has all that can be had.

        Raises Forbidden for scopes that the owner, or the caller, does not hold anywhere, and Conflict when the owner
        has a key of that name, or too many.
        """
        owner = _found(await grant_repository.lock_holder(self._session, user_id), user_id)
        await self._require_room(owner)
        granted = await self._granted(owner, scopes)
        expires_at = await self._bounded(owner, expires_at)
        key = new_key()
        with refusing_taken_name("there is an API key", name):
            made = await repository.create(self._session, owner.id, name, granted, expires_at, key)
        await self._record("api_key:create", made, owner, "after")
        return made, key

    async def revoke(self, user_id: int, api_key_id: int) -> None:
        """The key is worth nothing from the commit on. Its owner is told when somebody else did it."""
        owner = _found(await grant_repository.find_holder(self._session, user_id), user_id)
        key = _found_key(await repository.remove(self._session, user_id, api_key_id), api_key_id)
        await self._record("api_key:revoke", key, owner, "before")
        if current_user_id() != owner.id:
            await self._notify(key)
        await self._identities.changed(self._session)

    async def _require_room(self, owner: Holder) -> None:
        if await repository.count(self._session, owner.id) >= MAX_KEYS:
            raise Conflict(f"there are {MAX_KEYS} API keys already, expired ones included; revoke one first")

    async def _granted(self, owner: Holder, scopes: Collection[str] | None) -> list[str]:
        held = await grant_repository.held_permissions(self._session, owner.id)
        available = {each for each in held if is_held_somewhere(each)}
        lacking = sorted(set(scopes or ()) - available)
        if lacking:
            raise Forbidden(f"a key cannot have what you do not hold yourself: {', '.join(lacking)}")
        return sorted(available if scopes is None else set(scopes))

    async def _bounded(self, owner: Holder, expires_at: datetime | None) -> datetime | None:
        """The expiry, not later than that of the key which the caller uses."""
        caller = current_call().caller
        if caller is None or caller.api_key_prefix is None:
            return expires_at
        used = await repository.expiries_of(self._session, owner.id, caller.api_key_prefix)
        if not used:
            raise NotAuthenticated("this API key has been revoked")
        last = min((each for each in used if each is not None), default=None)
        if last is None or expires_at is None:
            return expires_at or last
        if expires_at > last:
            raise Forbidden(f"this key expires at {last.isoformat()}, and cannot make one that lasts longer")
        return expires_at

    async def _notify(self, key: ApiKeyRecord) -> None:
        title = f"Your API key {key.name!r} was revoked"
        body = f"The key that begins with {key.prefix} was revoked by {_caller_name()}. It works no more."
        await NotificationService(self._session).notify(
            key.user_id, "api_key_revoked", title, body, resource_type="api_key", resource_id=key.id
        )

    async def _record(self, action: str, key: ApiKeyRecord, owner: Holder, when: str) -> None:
        changes = {
            when: {
                "owner": owner.username,
                "prefix": key.prefix,
                "scopes": key.scopes,
                "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
            }
        }
        await record(self._session, AuditEntry(action, "api_key", key.id, key.name, None, changes=changes))


def _caller_name() -> str:
    caller = current_call().caller
    return "the service" if caller is None or caller.user_id is None else caller.name


def _found(owner: Holder | None, user_id: int) -> Holder:
    if owner is None:
        raise NotFound(f"there is no user {user_id}")
    return owner


def _found_key(key: ApiKeyRecord | None, api_key_id: int) -> ApiKeyRecord:
    if key is None:
        raise NotFound(f"there is no API key {api_key_id}")
    return key
