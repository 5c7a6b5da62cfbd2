"""A deletion under way: what was seen before it began, what is to be done, and what became of each instance."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database.driver_errors import is_disconnect, is_transient
from app.errors import AppError, DatabaseUnavailable, PreconditionFailed, Unexpected, database_error
from app.instances import deletion_repository as repository
from app.instances.cascade import DeletionMode
from app.instances.deletion_program import Attempted, DeletionOrder, DeletionStatus, ItemPlace
from app.instances.deletion_report import DeletionOutcome, DeletionReport, FoundBlocker, ItemError, ItemStatus
from app.instances.plan_token import PlannedState
from app.operations.ledger import Fenced

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

    def with_more(self, other: "Seen") -> "Seen":
        return Seen({**self.instances, **other.instances}, {**self.blockers, **other.blockers})

    def state_of(self, key: int) -> PlannedState | None:
        """What a plan depends on; None when it is not there."""
        found = self.instances.get(key)
        if found is None:
            return None
        return PlannedState(found.revision, tuple(sorted(each.code for each in self.blockers.get(key, ()))))

    def states(self) -> dict[int, PlannedState]:
        return {key: state for key in self.instances if (state := self.state_of(key))}

    def only_space(self) -> int | None:
        """The one that all of them are in; None when there are several, or none."""
        spaces = {found.space_id for found in self.instances.values()}
        return spaces.pop() if len(spaces) == 1 else None


# By instance, what must still hold; None in its place stands for an instance that was not there.
Planned = Mapping[int, PlannedState | None]
Describe = Callable[[Mapping[str, int]], tuple[FoundBlocker, ...]]


@dataclass(frozen=True, slots=True)
class DeletionLedger:
    """Of a batch that is an operation's: where each instance's item goes, and who is told of each that was written
    with its deletion."""

    batch_id: UUID
    places: Mapping[int, ItemPlace]
    tell: Callable[[], None]


class DeletionBatch:
    """A deletion under way: what was seen before it, and the outcomes so far.

    `planned`, where it is given, must still hold for each instance. `error` is why the batch gave up: the database
    stayed away, or the operation's attempt is over.
    """

    def __init__(
        self,
        request: DeletionRequest,
        seen: Seen,
        *,
        holds_revision: bool = False,
        planned: Planned | None = None,
        ledger: DeletionLedger | None = None,
    ) -> None:
        self.request = request
        self.seen = seen
        self.batch_id: UUID = uuid4() if ledger is None else ledger.batch_id
        self.error: Exception | None = None
        self.errors: dict[int, AppError] = {}
        self._holds_revision = holds_revision
        self._planned = planned
        self._ledger = ledger
        self._outcomes: dict[int, DeletionOutcome] = {}
        self._unsettled: dict[int, DeletionOrder] = {}

    @property
    def gave_up(self) -> bool:
        return self.error is not None

    @property
    def is_fenced(self) -> bool:
        return isinstance(self.error, Fenced)

    def orders(self, can_be_forced: Callable[[str], bool]) -> list[DeletionOrder]:
        """An order for each instance that is there; those that cannot be deleted get their outcome at once."""
        states = self.seen.states()
        orders: list[DeletionOrder] = []
        for key in self.request.instance_ids:
            blockers = self.seen.blockers.get(key, ())
            if key not in self.seen.instances:
                self._outcomes[key] = DeletionOutcome(key, ItemStatus.MISSING)
            elif self._planned is not None and self._planned.get(key) != states[key]:
                self._fail_changed(key, states[key].revision)
            elif any(not (self.request.force and can_be_forced(each.code)) for each in blockers):
                self._outcomes[key] = self._blocked(key, blockers)
            else:
                orders.append(self._order(key, states[key]))
        return orders

    def _order(self, key: int, state: PlannedState) -> DeletionOrder:
        is_planned = self._planned is not None
        return DeletionOrder(
            instance_id=key,
            mode=self.request.mode,
            force=self.request.force,
            batch_id=self.batch_id,
            revision=state.revision if is_planned or self._holds_revision else None,
            expected_blockers=state.blockers if is_planned else None,
            place=None if self._ledger is None else self._ledger.places[key],
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
                if self._ledger is not None:
                    self._ledger.tell()
            case DeletionStatus.MISSING:
                outcome = DeletionOutcome(key, ItemStatus.MISSING)
            case DeletionStatus.BLOCKED:
                blockers = describe(attempted.blockers or {})
                outcome = DeletionOutcome(key, ItemStatus.BLOCKED, attempted.name, blockers=blockers)
            case DeletionStatus.CHANGED:
                self._fail_changed(key, attempted.revision)
                return
            case DeletionStatus.FENCED:
                self.error = Fenced(f"the attempt at deletion {self.batch_id} is over")
                return
        self._outcomes[key] = outcome

    def give_up(self, order: DeletionOrder, error: Exception) -> None:
        """The database stays away; `order` is the one that met it."""
        self.error = error
        self.fail(order, error)

    def fail(self, order: DeletionOrder, error: Exception) -> None:
        log.warning("an instance was not deleted", instance_id=order.instance_id, error=repr(error))
        known = _as_app_error(error)
        is_retryable = known.status in (412, 503) or (isinstance(error, DBAPIError) and is_transient(error))
        self._fail(order.instance_id, known, is_retryable=is_retryable)

    def _fail_changed(self, key: int, revision: int | None) -> None:
        message = f"the instance changed meanwhile; it is at revision {revision}"
        self._fail(key, PreconditionFailed(message), is_retryable=True)

    def _fail(self, key: int, error: AppError, *, is_retryable: bool) -> None:
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
            self._fail(order.instance_id, DatabaseUnavailable(message), is_retryable=True)

    def leave(self, order: DeletionOrder) -> None:
        """Does not even try: the batch gave up."""
        error = DatabaseUnavailable("the database could not be reached any more")
        self._fail(order.instance_id, error, is_retryable=True)

    def outcome_of(self, key: int) -> DeletionOutcome:
        return self._outcomes[key]

    def outcomes(self) -> list[DeletionOutcome]:
        """Of those instances that have one, in the order of the request."""
        return [self._outcomes[key] for key in self.request.instance_ids if key in self._outcomes]

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
