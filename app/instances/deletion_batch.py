"""A deletion under way: what was seen before it began, what is to be done, and what became of each instance."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database import is_disconnect, is_transient
from app.errors import AppError, DatabaseUnavailable, PreconditionFailed, Unexpected, database_error
from app.instances import deletion_repository as repository
from app.instances.cascade import DeletionMode
from app.instances.deletion_program import Attempted, DeletionOrder, DeletionStatus
from app.instances.deletion_report import DeletionOutcome, DeletionReport, FoundBlocker, ItemError, ItemStatus
from app.instances.plan_token import PlannedState

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeletionRequest:
    """Which instances, each id once, in order. `force` overrides the blockers that can be."""

    instance_ids: tuple[int, ...]
    mode: DeletionMode = DeletionMode.SOFT
    force: bool = False
    dry_run: bool = False
    plan_token: str | None = None


@dataclass(slots=True)
class Seen:
    """What one set-based pass saw. `blockers` and `rows` lack the instances that have none."""

    instances: Mapping[int, repository.FoundInstance]
    blockers: Mapping[int, tuple[FoundBlocker, ...]]
    rows: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    def states(self) -> dict[int, PlannedState]:
        return {
            key: PlannedState(found.revision, tuple(sorted(each.code for each in self.blockers.get(key, ()))))
            for key, found in self.instances.items()
        }


Describe = Callable[[Mapping[str, int]], tuple[FoundBlocker, ...]]


class DeletionBatch:
    """A deletion under way: what was seen before it, and the outcomes so far."""

    def __init__(self, request: DeletionRequest, seen: Seen, *, holds_revision: bool = False) -> None:
        self.request = request
        self.seen = seen
        self.batch_id: UUID = uuid4()
        self.gave_up = False
        self.errors: dict[int, AppError] = {}
        self._holds_revision = holds_revision or request.plan_token is not None
        self._outcomes: dict[int, DeletionOutcome] = {}
        self._unsettled: dict[int, DeletionOrder] = {}

    def orders(self, can_be_forced: Callable[[str], bool]) -> list[DeletionOrder]:
        """An order for each instance that is there; those that cannot be deleted get their outcome at once."""
        states = self.seen.states()
        orders: list[DeletionOrder] = []
        for key in self.request.instance_ids:
            blockers = self.seen.blockers.get(key, ())
            if key not in self.seen.instances:
                self._outcomes[key] = DeletionOutcome(key, ItemStatus.MISSING)
            elif any(not (self.request.force and can_be_forced(each.code)) for each in blockers):
                self._outcomes[key] = self._blocked(key, blockers)
            else:
                orders.append(self._order(key, states[key]))
        return orders

    def _order(self, key: int, state: PlannedState) -> DeletionOrder:
        return DeletionOrder(
            instance_id=key,
            mode=self.request.mode,
            force=self.request.force,
            batch_id=self.batch_id,
            revision=state.revision if self._holds_revision else None,
            expected_blockers=state.blockers if self.request.plan_token is not None else None,
        )

    def _blocked(self, key: int, blockers: tuple[FoundBlocker, ...]) -> DeletionOutcome:
        return DeletionOutcome(key, ItemStatus.BLOCKED, self.seen.instances[key].name, blockers=blockers)

    def foresee(self, orders: Sequence[DeletionOrder]) -> None:
        """Notes what a dry run would do."""
        for order in orders:
            key = order.instance_id
            name, rows = self.seen.instances[key].name, self.seen.rows.get(key, {})
            self._outcomes[key] = DeletionOutcome(
                key, ItemStatus.DELETED, name, rows if order.mode is DeletionMode.HARD else {}
            )

    def note(self, order: DeletionOrder, attempted: Attempted, describe: Describe) -> None:
        key = order.instance_id
        self._unsettled.pop(key, None)
        match attempted.status:
            case DeletionStatus.DELETED:
                outcome = DeletionOutcome(key, ItemStatus.DELETED, attempted.name, attempted.rows or {})
                self._unsettled[key] = order
            case DeletionStatus.MISSING:
                outcome = DeletionOutcome(key, ItemStatus.MISSING)
            case DeletionStatus.BLOCKED:
                blockers = describe(attempted.blockers or {})
                outcome = DeletionOutcome(key, ItemStatus.BLOCKED, attempted.name, blockers=blockers)
            case DeletionStatus.CHANGED:
                message = f"the instance changed meanwhile; it is at revision {attempted.revision}"
                self.fail(order, PreconditionFailed(message))
                return
        self._outcomes[key] = outcome

    def fail(self, order: DeletionOrder, error: Exception) -> None:
        log.warning("an instance was not deleted", instance_id=order.instance_id, error=repr(error))
        known = _as_app_error(error)
        is_retryable = known.status in (412, 503) or (isinstance(error, DBAPIError) and is_transient(error))
        self._fail(order, known, is_retryable=is_retryable)

    def _fail(self, order: DeletionOrder, error: AppError, *, is_retryable: bool) -> None:
        key = order.instance_id
        self._unsettled.pop(key, None)
        self.errors[key] = error
        name, shown = self.seen.instances[key].name, ItemError(error.code, error.detail)
        self._outcomes[key] = DeletionOutcome(key, ItemStatus.FAILED, name, error=shown, is_retryable=is_retryable)

    def unsettled(self) -> list[DeletionOrder]:
        """The deletions that a crash of the server could still take back."""
        return list(self._unsettled.values())

    def settle(self, orders: Iterable[DeletionOrder]) -> None:
        """Notes that these are on disk: a durable commit came after them."""
        for order in orders:
            self._unsettled.pop(order.instance_id, None)

    def doubt(self) -> None:
        """The database went away for good before the last deletions were known to be on disk."""
        message = "the database went away before this deletion was safe; try again: if it holds, it will be missing"
        for order in self.unsettled():
            self._fail(order, DatabaseUnavailable(message), is_retryable=True)

    def leave(self, order: DeletionOrder) -> None:
        """Does not even try: the batch gave up."""
        self._fail(order, DatabaseUnavailable("the database could not be reached any more"), is_retryable=True)

    def outcome_of(self, key: int) -> DeletionOutcome:
        return self._outcomes[key]

    def report(self) -> DeletionReport:
        outcomes = [self._outcomes[key] for key in self.request.instance_ids]
        return DeletionReport(self.request.mode, self.request.dry_run, outcomes)


def _as_app_error(error: Exception) -> AppError:
    if isinstance(error, AppError):
        return error
    if is_disconnect(error):
        return DatabaseUnavailable("the database could not be reached; nothing of the instance was deleted by halves")
    if isinstance(error, SQLAlchemyError):
        return database_error(error)
    return Unexpected("unexpected error; the log has it under this request id")
