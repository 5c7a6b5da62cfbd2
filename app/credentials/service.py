"""Credentials: what instances are reached with. Passwords come in, are stored sealed, and never go out to a client."""

from collections.abc import Collection
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.credentials import repository
from app.credentials.encryption import SecretBox
from app.credentials.records import (
    CredentialFilter,
    CredentialPage,
    CredentialRecord,
    CredentialValues,
    StoredValues,
)
from app.errors import Conflict, NotFound
from app.pagination import PageRequest
from app.preconditions import require_match
from app.spaces.service import SpaceService
from app.taken_names import refusing_taken_name


class CredentialService:
    """Only `create` and `update` need the box."""

    def __init__(self, session: AsyncSession, box: SecretBox | None = None) -> None:
        self._session = session
        self._box = box

    async def page(self, credential_filter: CredentialFilter, sort: str, request: PageRequest) -> CredentialPage:
        """Raises SpaceNotFound when the filter names a space that does not exist."""
        if credential_filter.space_id is not None:
            await SpaceService(self._session).resolve(credential_filter.space_id)
        return await repository.page(self._session, credential_filter, sort, request)

    async def get(self, credential_id: int) -> CredentialRecord:
        return _found(await repository.find(self._session, credential_id), credential_id)

    async def create(self, space_id: int | None, values: CredentialValues) -> CredentialRecord:
        """Raises Conflict when the space has a credential of that name, or is archived."""
        spaces = SpaceService(self._session)
        space_id = await spaces.resolve(space_id)
        await spaces.hold_open(space_id)
        await repository.hold_off_key_change(self._session)
        stored = self._sealed(values)
        with refusing_taken_name("the space has a credential", values.get("name")):
            credential = await repository.create(self._session, space_id, stored)
        await self._record("credential:create", credential, {"after": _shown(values)})
        return credential

    async def update(self, credential_id: int, values: CredentialValues, if_match: str | None) -> CredentialRecord:
        """Sets what `values` names. Where nothing differs, nothing is written and the revision stays.

        A password is a change even when it is the same as before: telling the two apart would tell the password.
        """
        credential = await self._locked(credential_id, if_match)
        await SpaceService(self._session).hold_open(credential.space_id)
        changes = _changes(credential, values)
        if not changes:
            return credential
        stored = self._sealed(values)
        with refusing_taken_name("the space has a credential", values.get("name")):
            changed = await repository.change(self._session, credential_id, stored)
        await self._record("credential:update", changed, changes)
        return changed

    async def delete(self, credential_id: int, if_match: str | None) -> None:
        """Raises Conflict when instances refer to it; deleted ones count, because they can be restored."""
        credential = await self._locked(credential_id, if_match)
        if count := await repository.count_instances(self._session, credential_id):
            raise Conflict(
                f"credential {credential.name!r} is used by {count} instance{'s' if count > 1 else ''} "
                "(deleted ones included)"
            )
        await repository.remove(self._session, credential_id)
        before = {name: getattr(credential, name) for name in ("name", "type", "username", "description")}
        await self._record("credential:delete", credential, {"before": before})

    async def ids_by_name(self, space_id: int, names: Collection[str]) -> dict[str, int]:
        """The ids of those that exist."""
        return await repository.ids_by_name(self._session, space_id, list(names)) if names else {}

    async def name_of(self, ids: Collection[int]) -> dict[int, str]:
        """The names of those that exist, by id."""
        return await repository.names_by_id(self._session, list(ids)) if ids else {}

    async def _locked(self, credential_id: int, if_match: str | None) -> CredentialRecord:
        await repository.hold_off_key_change(self._session)
        credential = _found(await repository.lock(self._session, credential_id), credential_id)
        require_match(if_match, credential.revision)
        return credential

    def _sealed(self, values: CredentialValues) -> StoredValues:
        """The values as they are stored. Key changes must be held off already: what is sealed here with the newest key
        is then re-encrypted before that key is dropped.
        """
        stored = cast("StoredValues", _shown(values))
        if "password" in values:
            assert self._box is not None
            stored["encrypted_password"] = self._box.seal(values["password"].get_secret_value())
        return stored

    async def _record(self, action: str, credential: CredentialRecord, changes: dict[str, Any]) -> None:
        entry = AuditEntry(action, "credential", credential.id, credential.name, credential.space_id, changes=changes)
        await record(self._session, entry)


def _found(credential: CredentialRecord | None, credential_id: int) -> CredentialRecord:
    if credential is None:
        raise NotFound(f"there is no credential {credential_id}")
    return credential


def _shown(values: CredentialValues) -> dict[str, Any]:
    """What of the values may be seen by others."""
    return {name: value for name, value in values.items() if name != "password"}


def _changes(credential: CredentialRecord, values: CredentialValues) -> dict[str, Any]:
    """What the audit trail tells of an update; empty when there is nothing to do."""
    after = {name: value for name, value in _shown(values).items() if getattr(credential, name) != value}
    before = {name: getattr(credential, name) for name in after}
    changes: dict[str, Any] = {"before": before, "after": after} if after else {}
    return {**changes, "password": "changed"} if "password" in values else changes
