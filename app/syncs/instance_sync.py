"""Syncs one instance.

1. A transaction begins its turn: the instance is looked at as it is now, with its endpoint's circuit and what it is
   signed in to with, and records that are running are written.
2. The server is asked, with no transaction open: its addresses, a connection, every kind.
3. A transaction ends the turn: what was found, the records, the operation's item. Either all of it is there after a
   crash, or nothing but records that are running, and whoever takes the operation over begins the turn again.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.database.driver_errors import is_disconnect
from app.database.transactions import run_beside_requests
from app.models.base import utc_now
from app.operations.ledger import Fenced, Ledger
from app.syncs import turn_repository as repository
from app.syncs.breaker import CircuitBreaker, Endpoint
from app.syncs.fetching import Findings, ServerReader
from app.syncs.outcomes import InstanceOutcome, ItemStatus, KindOutcome, OwnErrorKind, SyncError, storable
from app.syncs.progress import SyncProgressTracker
from app.syncs.recording import FindingsRecorder
from app.syncs.records import BegunInstance, OrderedSync, SyncedInstance
from app.syncs.slots import Place

log = structlog.get_logger(__name__)

MAX_VERSION_CHARACTERS = 100
# Turns that need no connection any more, and write: what servers said must not pile up while the database is slow.
WRITING_TURNS = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """An instance of an operation's; `position` is that of its item."""

    ledger: Ledger
    ordered: OrderedSync
    space_id: int
    position: int
    instance_id: int
    host: str


def refusal(instance: SyncedInstance) -> SyncError | None:
    """Why the instance is not connected to, as it is registered."""
    if instance.deleted_at is not None:
        return SyncError(OwnErrorKind.DELETED, f"instance {instance.id} is deleted", "restore it first")
    if not instance.is_active:
        return SyncError(OwnErrorKind.DISABLED, f"instance {instance.id} is disabled", "set is_active to true first")
    if instance.credential_id is None:
        message = f"instance {instance.id} has no credential to sign in with"
        return SyncError(OwnErrorKind.NO_CREDENTIAL, message, "set credential_id to a credential of its space")
    return None


class InstanceSync:
    def __init__(
        self, database: Database, breaker: CircuitBreaker, reader: ServerReader, *, statistics_days: int
    ) -> None:
        self._database = database
        self._breaker = breaker
        self._reader = reader
        self._statistics_days = statistics_days
        self._writing = asyncio.Semaphore(WRITING_TURNS)

    async def sync(self, turn: Turn, place: Place) -> ItemStatus:
        """Writes the instance's item. `place` is given back as soon as the connection is closed, so that another server
        is asked meanwhile. Raises Fenced, and the database's error when it is away."""
        begun = await run_beside_requests(self._database, lambda session: self._begin(session, turn))
        if isinstance(begun, ItemStatus):
            return begun
        findings = await self._ask(turn, begun)
        async with self._writing:
            place.free()
            return await self._write(turn, begun.instance, findings)

    async def _write(self, turn: Turn, instance: SyncedInstance, findings: Findings) -> ItemStatus:
        try:
            return await run_beside_requests(
                self._database, lambda session: self._end(session, turn, instance, findings)
            )
        except Fenced:
            raise
        except Exception as error:
            if is_disconnect(error):
                raise
            # What one server says must not keep the others from being recorded.
            log.error("what a server said could not be recorded", instance_id=instance.id, exc_info=error)
            return await run_beside_requests(
                self._database, lambda session: self._not_recorded(session, turn, instance, findings)
            )

    async def _begin(self, session: AsyncSession, turn: Turn) -> BegunInstance | ItemStatus:
        """The item's status when the turn is over already."""
        begun = await repository.begin(session, turn.ledger.parameters, turn.space_id, turn.instance_id)
        if begun is None:
            await turn.ledger.hold(session)
            return await _noted(session, turn, InstanceOutcome(ItemStatus.MISSING, turn.instance_id))
        instance = begun.instance
        error = refusal(instance)
        if error is not None:
            return await _ended(session, turn, InstanceOutcome.refused(instance, error), utc_now())
        await _tracker(session, turn).begin_instance(instance.id, turn.ordered.kinds, utc_now())
        if begun.sealed is None:
            # The instance was given another one while this waited for it.
            return begun._replace(sealed=await self._reader.sign_in_of(session, instance))
        return begun

    async def _ask(self, turn: Turn, begun: BegunInstance) -> Findings:
        endpoint, kinds = Endpoint(begun.instance.host, begun.instance.port), turn.ordered.kinds
        is_forced = turn.ordered.ignores_open_circuit
        admission = await self._breaker.admit_known(endpoint, begun.known, is_forced=is_forced)
        if admission.refusal is not None:
            findings = Findings(unreachable_since=admission.unreachable_since)
            findings.fail_rest(kinds, admission.refusal)
            return findings
        findings = await self._reader.read(begun.instance, begun.sealed, kinds)
        findings.unreachable_since = await self._breaker.note(endpoint, admission, findings.failure)
        return findings

    async def _end(self, session: AsyncSession, turn: Turn, instance: SyncedInstance, findings: Findings) -> ItemStatus:
        if not await _locked(session, turn, findings):
            return await _gone(session, turn, instance)
        kinds = await FindingsRecorder(session, self._statistics_days).record(instance.id, findings)
        outcome = InstanceOutcome.of(instance, kinds, findings.unreachable_since)
        return await _ended(session, turn, outcome, findings.seen_at)

    async def _not_recorded(
        self, session: AsyncSession, turn: Turn, instance: SyncedInstance, findings: Findings
    ) -> ItemStatus:
        if not await repository.lock(session, turn.ledger.parameters, instance.id):
            return await _gone(session, turn, instance)
        kinds = dict.fromkeys(turn.ordered.kinds, KindOutcome(error=_NOT_RECORDED))
        outcome = InstanceOutcome.of(instance, kinds, findings.unreachable_since)
        return await _ended(session, turn, outcome, findings.seen_at)


_NOT_RECORDED = SyncError(
    OwnErrorKind.NOT_RECORDED,
    "what the server said could not be recorded",
    "the log has the reason under this operation's id",
)


async def _ended(session: AsyncSession, turn: Turn, outcome: InstanceOutcome, started_at: datetime) -> ItemStatus:
    await _tracker(session, turn).end_instances([outcome], turn.ordered.kinds, started_at)
    return await _noted(session, turn, outcome)


async def _locked(session: AsyncSession, turn: Turn, findings: Findings) -> bool:
    attempt = turn.ledger.parameters
    if findings.version is None:
        return await repository.lock(session, attempt, turn.instance_id)
    version = storable(findings.version, MAX_VERSION_CHARACTERS)
    return await repository.lock_connected(session, attempt, turn.instance_id, version, findings.seen_at)


async def _gone(session: AsyncSession, turn: Turn, instance: SyncedInstance) -> ItemStatus:
    """It was deleted while its server was asked, unless the attempt is over. Raises Fenced."""
    await turn.ledger.hold(session)
    await _tracker(session, turn).abandon(instance.id)
    return await _noted(session, turn, InstanceOutcome(ItemStatus.MISSING, instance.id, instance.name))


async def _noted(session: AsyncSession, turn: Turn, outcome: InstanceOutcome) -> ItemStatus:
    await turn.ledger.note(session, [outcome.item(turn.position)])
    return outcome.status


def _tracker(session: AsyncSession, turn: Turn) -> SyncProgressTracker:
    return SyncProgressTracker(session, turn.ordered.session_id)
