"""Connection tests of many instances, as an operation."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.audit.recorder import AuditEntry
from app.database import Database
from app.database.transactions import run_beside_requests
from app.models.audit import AuditOutcome
from app.models.operation import OperationState
from app.operations.records import Item, OperationRecord
from app.operations.work import Work
from app.syncs import repository
from app.syncs.connection_records import ConnectionReport, OrderedTest
from app.syncs.connection_tests import ConnectionTests
from app.syncs.outcomes import ItemStatus, OwnErrorKind, SyncError
from app.syncs.records import SyncedInstance
from app.syncs.slots import ConnectionSlots, Place
from app.syncs.turns import all_at_once, take_turns


@dataclass(frozen=True, slots=True)
class Turn:
    position: int
    instance: SyncedInstance

    @property
    def host(self) -> str:
        return self.instance.host


class ConnectionTestOperation:
    """See app.operations.work.OperationHandler. `slots` are the process's, over all operations."""

    good = frozenset({ItemStatus.SUCCEEDED.value})
    effective = good

    def __init__(self, database: Database, tests: ConnectionTests, slots: ConnectionSlots) -> None:
        self._database = database
        self._tests = tests
        self._slots = slots

    async def work(self, work: Work) -> None:
        """Raises Forbidden, Fenced, and the database's error when it is away."""
        narrow_to(Permission.SYNC_RUN)
        turns = await self._look(work, OrderedTest.read(work.operation.request))

        async def take(turn: Turn, place: Place) -> None:
            report = await self._tests.try_out(turn.instance)
            status = ItemStatus.SUCCEEDED if report.failure is None else ItemStatus.FAILED
            await self._note(work, [_item(turn.position, turn.instance, status, report)])

        await take_turns(self._slots, all_at_once(turns), take, work.stop)

    async def ended(self, session: AsyncSession, operation: OperationRecord, state: OperationState) -> None:
        """Nothing else ends with it."""

    def audit_entry(self, operation: OperationRecord, outcome: AuditOutcome) -> AuditEntry:
        return AuditEntry(
            action="instance:test_connection",
            resource_type="batch",
            resource_id=None,
            resource_name=None,
            space_id=operation.space_id,
            outcome=outcome,
            batch_id=operation.batch_id,
        )

    async def _look(self, work: Work, ordered: OrderedTest) -> list[Turn]:
        """Turns for those that can be tested and have no item yet; the others get their items."""
        async with self._database.readers() as session:
            known = await work.ledger.statuses(session, 1, len(ordered.instance_ids))
            found = await repository.instances_of(session, ordered.instance_ids)
        left = {place: key for place, key in enumerate(ordered.instance_ids, 1) if place not in known}
        turns, refused = [], []
        for place, key in left.items():
            instance = found.get(key)
            error = _refusal(instance)
            if instance is not None and error is None:
                turns.append(Turn(place, instance))
            else:
                refused.append(_refused(place, key, instance, error))
        await self._note(work, refused)
        return turns

    async def _note(self, work: Work, items: list[Item]) -> None:
        async def note(session: AsyncSession) -> None:
            await work.ledger.hold(session)
            await work.ledger.note(session, items)

        await run_beside_requests(self._database, note)
        work.advance(item.status for item in items)


def _refusal(instance: SyncedInstance | None) -> SyncError | None:
    if instance is None:
        return None
    if instance.deleted_at is not None:
        return SyncError(OwnErrorKind.DELETED, f"instance {instance.id} is deleted", "restore it first")
    if instance.credential_id is None:
        message = f"instance {instance.id} has no credential to sign in with"
        return SyncError(OwnErrorKind.NO_CREDENTIAL, message, "set credential_id to a credential of its space")
    return None


def _refused(place: int, key: int, instance: SyncedInstance | None, error: SyncError | None) -> Item:
    if instance is None:
        return Item(place, ItemStatus.MISSING.value, key, None)
    return _item(place, instance, ItemStatus.REFUSED, ConnectionReport(failure=error))


def _item(place: int, instance: SyncedInstance, status: ItemStatus, report: ConnectionReport) -> Item:
    return Item(place, status.value, instance.id, instance.name, report.as_json())
