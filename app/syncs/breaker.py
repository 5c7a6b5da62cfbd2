"""Spares everybody the wait for an endpoint (host and port) that keeps failing: a circuit breaker.

1. Closed: all may try. A failure that says that nobody reaches the endpoint is counted; a success forgets them.
2. Open, from the third such failure in a row on: nobody tries for 30 s, and twice as long after each further failure,
   up to ten minutes.
3. Half-open, when that time has passed: one may try, and the others wait until it is known what came of that.

What is known is a row that all workers share, and that is there only while an endpoint cannot be reached.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.database.transactions import run_beside_requests
from app.models.base import utc_now
from app.syncs import endpoint_repository as repository
from app.syncs.failures import FailureKind, ServerFailure
from app.syncs.records import UnreachableEndpoint

FAILURES_TO_OPEN = 3
OPEN_SECONDS = 30.0
MAX_OPEN_SECONDS = 600.0

# These end before anybody has tried to reach the server, and so tell nothing of it.
_says_nothing = frozenset({
    FailureKind.ADDRESS_DENIED, FailureKind.DRIVER_MISSING, FailureKind.CREDENTIAL_UNREADABLE, FailureKind.CIRCUIT_OPEN,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Admission:
    """Since when the endpoint is unreachable, None when it is not; `refusal` (CIRCUIT_OPEN) while nobody is to try."""

    unreachable_since: datetime | None = None
    refusal: ServerFailure | None = None


class CircuitBreaker:
    """Opens transactions of its own: call it outside of any."""

    def __init__(self, database: Database, *, open_seconds: float = OPEN_SECONDS) -> None:
        self._database = database
        self._open_seconds = open_seconds

    async def admit(self, endpoint: Endpoint, *, is_forced: bool = False) -> Admission:
        """To be asked before the endpoint is connected to; whoever is forced is never refused."""
        async with self._database.batch_connections, self._database.readers() as session:
            known = await self.look(session, endpoint)
        return await self.admit_known(endpoint, known, is_forced=is_forced)

    async def look(self, session: AsyncSession, endpoint: Endpoint) -> UnreachableEndpoint | None:
        """What is known against it, for whoever has a transaction open already."""
        return await repository.find(session, endpoint.host, endpoint.port)

    async def admit_known(
        self, endpoint: Endpoint, known: UnreachableEndpoint | None, *, is_forced: bool = False
    ) -> Admission:
        """As `admit`, of an endpoint that was looked at a moment ago."""
        if known is None:
            return Admission()
        if is_forced or known.retry_at is None or await self._may_probe(endpoint, known):
            return Admission(known.unreachable_since)
        return Admission(known.unreachable_since, _circuit_open(endpoint, known))

    async def note(self, endpoint: Endpoint, admission: Admission, failure: ServerFailure | None) -> datetime | None:
        """What came of an attempt that was admitted; since when the endpoint is unreachable now, if it is."""
        if failure is not None and failure.kind in _says_nothing:
            return admission.unreachable_since
        if failure is not None and failure.kind.is_unreachable:
            return await self._note_failure(endpoint, failure.kind)
        if admission.unreachable_since is not None:
            await self._forget(endpoint)
        return None

    async def _may_probe(self, endpoint: Endpoint, known: UnreachableEndpoint) -> bool:
        now = utc_now()
        if known.retry_at is None or known.retry_at > now:
            return False
        # A probe whose worker dies is followed by another one.
        until = now + self._open_time(known.failures)
        return await run_beside_requests(
            self._database, lambda session: repository.claim_probe(session, endpoint.host, endpoint.port, now, until)
        )

    async def _note_failure(self, endpoint: Endpoint, kind: FailureKind) -> datetime:
        async def note(session: AsyncSession) -> datetime:
            now = utc_now()
            noted = await repository.note_failure(session, endpoint.host, endpoint.port, now, kind.value)
            if noted.failures >= FAILURES_TO_OPEN:
                retry_at = now + self._open_time(noted.failures)
                await repository.hold_back(session, endpoint.host, endpoint.port, retry_at)
            return noted.unreachable_since

        return await run_beside_requests(self._database, note)

    async def _forget(self, endpoint: Endpoint) -> None:
        await run_beside_requests(
            self._database, lambda session: repository.forget(session, endpoint.host, endpoint.port)
        )

    def _open_time(self, failures: int) -> timedelta:
        doublings = min(max(0, failures - FAILURES_TO_OPEN), 10)
        return timedelta(seconds=min(MAX_OPEN_SECONDS, self._open_seconds * 2**doublings))


def _circuit_open(endpoint: Endpoint, known: UnreachableEndpoint) -> ServerFailure:
    since = known.unreachable_since.strftime("%Y-%m-%d %H:%M:%S UTC")
    retry_at = "a moment" if known.retry_at is None else known.retry_at.strftime("%H:%M:%S UTC")
    return ServerFailure(
        FailureKind.CIRCUIT_OPEN,
        f"{endpoint.host}:{endpoint.port} was not tried: it is unreachable since {since} "
        f"({known.failures} failures in a row, the last: {known.error_kind})",
        f"it is tried again after {retry_at}; a sync of this instance alone tries at once",
    )
