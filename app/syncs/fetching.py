"""Asks one server for everything that a sync wants to know, over the network and outside of any transaction."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.capacity.records import Sizes
from app.credentials.records import SealedSignIn
from app.inventory.records import FoundAccount, FoundDatabase, Member
from app.models.base import utc_now
from app.models.sync import SyncKind
from app.syncs.adapters.port import ServerSession
from app.syncs.failures import ServerFailure
from app.syncs.records import SyncedInstance
from app.syncs.server_access import ServerAccess


@dataclass(frozen=True, slots=True)
class AccountsFound:
    accounts: Sequence[FoundAccount]


@dataclass(frozen=True, slots=True)
class CapacityFound:
    databases: Sequence[FoundDatabase]
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class SettingsFound:
    settings: Mapping[str, str]
    members: Sequence[Member]


Found = AccountsFound | CapacityFound | SettingsFound


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the server said about one kind, or why it did not."""

    found: Found | ServerFailure
    seconds: float


@dataclass(slots=True)
class Findings:
    """Grows while a server is asked, so that what it said before it went away is not lost."""

    seen_at: datetime = field(default_factory=utc_now)
    version: str | None = None
    connect_seconds: float = 0.0
    unreachable_since: datetime | None = None
    by_kind: dict[SyncKind, Fetched] = field(default_factory=dict)

    @property
    def failure(self) -> ServerFailure | None:
        """What kept the server from saying anything of use; None when it said something."""
        failures = [each.found for each in self.by_kind.values() if isinstance(each.found, ServerFailure)]
        return failures[0] if failures and len(failures) == len(self.by_kind) else None

    def fail_rest(self, kinds: Sequence[SyncKind], failure: ServerFailure) -> None:
        for kind in kinds:
            self.by_kind.setdefault(kind, Fetched(failure, 0.0))


class ServerReader:
    def __init__(self, access: ServerAccess, *, largest_tables: int) -> None:
        self._access = access
        self._largest_tables = largest_tables

    async def sign_in_of(self, session: AsyncSession, instance: SyncedInstance) -> SealedSignIn | None:
        """What `read` is to sign in with; None when the credential is gone."""
        return await self._access.sealed_sign_in_of(session, instance.credential_id)

    async def read(self, instance: SyncedInstance, sealed: SealedSignIn | None, kinds: Sequence[SyncKind]) -> Findings:
        """Each kind with what was found of it or with a failure: nothing is raised."""
        findings = Findings()
        sign_in = self._access.opened(sealed)
        if isinstance(sign_in, ServerFailure):
            findings.fail_rest(kinds, sign_in)
            return findings
        began = time.perf_counter()

        async def ask(server: ServerSession) -> None:
            findings.version = (await server.check()).version
            findings.connect_seconds = time.perf_counter() - began
            for kind in kinds:
                findings.by_kind[kind] = await self._fetched(server, kind)

        failure = await self._access.ask(instance.place, sign_in, ask)
        if failure is not None:
            findings.fail_rest(kinds, failure)
        return findings

    async def _fetched(self, server: ServerSession, kind: SyncKind) -> Fetched:
        """Raises ServerFailure when nobody reaches the server any more."""
        began = time.perf_counter()
        found: Found | ServerFailure
        try:
            found = await self._found(server, kind)
        except ServerFailure as failure:
            if failure.kind.is_unreachable:
                raise
            found = failure
        return Fetched(found, time.perf_counter() - began)

    async def _found(self, server: ServerSession, kind: SyncKind) -> Found:
        match kind:
            case SyncKind.ACCOUNTS:
                return AccountsFound(await server.accounts())
            case SyncKind.CAPACITY:
                return CapacityFound(await server.databases(), await server.sizes(self._largest_tables))
            case SyncKind.SETTINGS:
                return SettingsFound(await server.settings(), await server.members())
