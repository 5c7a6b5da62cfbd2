"""Users: making, changing, disabling and deleting them."""

from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.audit.recorder import AuditEntry, record
from app.caller import current_user_id
from app.errors import Conflict, NotFound
from app.models.base import utc_now
from app.models.user import SessionEnd
from app.pagination import PageRequest
from app.preconditions import require_match
from app.taken_names import refusing_taken_name
from app.users import ownership_repository, repository, sign_in_repository
from app.users.grant_service import GrantService
from app.users.names import canonical, username
from app.users.passwords import hash_password, require_acceptable
from app.users.records import (
    Profile,
    StoredValues,
    UserDeletion,
    UserFilter,
    UserPage,
    UserRecord,
    UserValues,
)
from app.users.refusals import refusing

_secret = "password"  # noqa: S105 - a member's name


class UserService:
    def __init__(self, session: AsyncSession, identities: Identities) -> None:
        self._session = session
        self._identities = identities
        self._grants = GrantService(session, identities)

    async def page(self, user_filter: UserFilter, sort: str, request: PageRequest) -> UserPage:
        return await repository.page(self._session, user_filter, sort, request)

    async def get(self, user_id: int) -> UserRecord:
        return _found(await repository.find(self._session, user_id), user_id)

    async def find_by_name(self, name: str) -> UserRecord | None:
        """By any form of the name."""
        return await repository.find_by_name(self._session, canonical(name))

    async def profile(self, user_id: int) -> Profile:
        return Profile(await self.get(user_id), await self._grants.of_user(user_id))

    async def create(self, values: UserValues) -> UserRecord:
        """With at least a name and a password. Raises ParameterError when a rule refuses one of them, Conflict when the
        name is taken."""
        with refusing("username"):
            values = {**values, "username": username(values["username"])}
        _require_acceptable(values["password"], values["username"])
        # Before anything is locked: it takes a while.
        stored = await _stored(values)
        with refusing_taken_name("there is a user", values["username"]):
            user = await repository.create(self._session, stored)
        await self._record("user:create", user, {"after": _shown(values)})
        return user

    async def update(self, user_id: int, values: UserValues, if_match: str | None = None) -> UserRecord:
        """Sets what `values` names. Where nothing differs, nothing is written and the revision stays.

        A new password, which is a change even when it is the old one, and disabling end all sessions. Raises Conflict
        when callers do either to themselves, or it would leave no administrator; Forbidden when the password is that of
        a user who may do what the caller may not.
        """
        if _secret in values:
            _require_acceptable(values["password"])
        stored = await _stored(values)
        user = await self._locked(user_id, if_match)
        changes = _changes(user, values)
        if not changes:
            return user
        await self._require_allowed(user, values)
        changed = await repository.change(self._session, user_id, stored)
        await self._end_sessions(user, changed, has_new_password=_secret in values)
        await self._record("user:update", changed, changes)
        return changed

    async def set_password(self, user_id: int, password: str) -> None:
        """Ends all sessions of the user's."""
        await self.update(user_id, {"password": password})

    async def delete(self, user_id: int, if_match: str | None = None, *, dry_run: bool = False) -> UserDeletion:
        """With everything that belongs to the user; a dry run only tells what that is.

        Raises Conflict for oneself and for the last administrator.
        """
        user = await self._locked(user_id, if_match)
        _require_other(user, "you cannot delete yourself")
        await self._grants.require_other_admin(user_id)
        deletion = await self._deletion(user, dry_run=dry_run)
        if not dry_run:
            await repository.remove(self._session, user_id)
            await self._record("user:delete", user, {"rows": dict(deletion.deleted)})
            await self._identities.changed(self._session)
        return deletion

    async def _locked(self, user_id: int, if_match: str | None) -> UserRecord:
        user = _found(await repository.lock(self._session, user_id), user_id)
        require_match(if_match, user.revision)
        return user

    async def _require_allowed(self, user: UserRecord, values: UserValues) -> None:
        if _secret in values:
            _require_other(user, "change your own password with POST /api/v1/auth/password")
            await self._grants.require_within_caller(user.id)
            _require_acceptable(values["password"], user.username)
        if user.is_active and not values.get("is_active", True):
            _require_other(user, "you cannot disable yourself")
            await self._grants.require_other_admin(user.id)

    async def _end_sessions(self, before: UserRecord, after: UserRecord, *, has_new_password: bool) -> None:
        is_disabled = before.is_active and not after.is_active
        if is_disabled or has_new_password:
            reason = SessionEnd.DISABLED if is_disabled else SessionEnd.PASSWORD
            await sign_in_repository.end_sessions(self._session, after.id, reason)
        await self._identities.changed(self._session)

    async def _deletion(self, user: UserRecord, *, dry_run: bool) -> UserDeletion:
        async def count(conditions: ownership_repository.Conditions) -> dict[str, int]:
            return await ownership_repository.count(self._session, conditions, user.id)

        return UserDeletion(
            user_id=user.id,
            username=user.username,
            dry_run=dry_run,
            deleted=await count(ownership_repository.OWNED),
            cleared=await count(ownership_repository.TRACED),
            kept=await count(ownership_repository.KEPT),
        )

    async def _record(self, action: str, user: UserRecord, changes: dict[str, Any]) -> None:
        await record(self._session, AuditEntry(action, "user", user.id, user.username, None, changes=changes))


def _found(user: UserRecord | None, user_id: int) -> UserRecord:
    if user is None:
        raise NotFound(f"there is no user {user_id}")
    return user


def _require_other(user: UserRecord, message: str) -> None:
    if user.id == current_user_id():
        raise Conflict(message)


def _require_acceptable(password: str, name: str | None = None) -> None:
    with refusing(_secret):
        require_acceptable(password, name)


async def _stored(values: UserValues) -> StoredValues:
    stored = cast("StoredValues", _shown(values))
    if _secret in values:
        stored["password_hash"] = await hash_password(values["password"])
        stored["password_changed_at"] = utc_now()
    return stored


def _shown(values: UserValues) -> dict[str, Any]:
    """What of the values others may see."""
    return {name: value for name, value in values.items() if name != _secret}


def _changes(user: UserRecord, values: UserValues) -> dict[str, Any]:
    """What the audit trail tells of an update; empty when there is nothing to do."""
    after = {name: value for name, value in _shown(values).items() if getattr(user, name) != value}
    before = {name: getattr(user, name) for name in after}
    changes: dict[str, Any] = {"before": before, "after": after} if after else {}
    return {**changes, _secret: "changed"} if _secret in values else changes
