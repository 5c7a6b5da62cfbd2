"""Follows an operation on the server to its end, with a bar: by its events, or by looking again and again.

1. The stream of events is read. It may end at any time; the next one begins behind the last event that was seen.
2. Between two streams, and all the time where there are none to be had (a proxy holds them back, the server has too
   many open), the operation itself is looked at.
3. While the server is away it is tried again, at growing intervals, for about five minutes: the operation is in its
   database, and goes on when it is back.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from app.commands.client import AWAY_STATUSES, Server, ServerAway, ServerRefused, parsed
from app.commands.event_stream import events_of
from app.commands.exit_codes import CommandFailed
from app.commands.screen import error_console, printable, progress_bar

LOOK_SECONDS = 1.0
AWAY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, *(15.0,) * 19)
UNFINISHED_STATES = frozenset({"queued", "running"})


class OperationError(BaseModel):
    code: int
    message: str


class OperationRequest(BaseModel):
    """What was asked for, as far as it is shown here."""

    filename: str | None = None
    dry_run: bool = False
    mode: str | None = None


class Operation(BaseModel):
    """An operation as the server tells it; `rate` is items a second."""

    model_config = ConfigDict(extra="allow")

    id: int
    kind: str
    state: str
    done: int
    total: int
    counts: dict[str, int]
    rate: float | None = None
    remaining_seconds: float | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    attempt: int = 0
    cancel_requested: bool = False
    error: OperationError | None = None
    request: OperationRequest = OperationRequest()

    @property
    def path(self) -> str:
        return f"api/v1/operations/{self.id}"

    @property
    def has_ended(self) -> bool:
        return self.state not in UNFINISHED_STATES

    @property
    def remark(self) -> str:
        """Why it failed although each of its items has a verdict, as an atomic import does; else empty."""
        return self.error.message if self.error is not None and 0 < self.total <= self.done else ""

    def require_verdicts(self) -> None:
        """Raises CommandFailed for one that failed before each of its items had a verdict."""
        if self.error is not None and not self.remark:
            raise CommandFailed(f"operation {self.id} {self.state}: {self.error.message} ({self.error.code})")


def follow(server: Server, operation: Operation) -> Operation:
    """The operation at its end. Raises ServerAway when the server stays away for long."""
    if operation.has_ended:
        return operation
    with _bar(operation) as tell:
        return _Follower(server, operation, tell).to_the_end()


def tell_begun(operation: Operation) -> None:
    _say(f"operation {operation.id} does it in the background; Ctrl-C leaves it running")


@contextmanager
def telling_what_goes_on(operations: Sequence[Operation]) -> Iterator[None]:
    """Whoever stops following is told how to come back to these operations, as the sequence then is."""
    try:
        yield
    except (KeyboardInterrupt, CommandFailed):
        for operation in operations:
            number = operation.id
            _say(
                f"operation {number} goes on by itself: `muster operations watch {number}` comes back to it, "
                f"`muster operations cancel {number}` stops it"
            )
        raise


class _Follower:
    def __init__(self, server: Server, operation: Operation, tell: Callable[[Operation], None]) -> None:
        self._server = server
        self._operation = operation
        self._tell = tell
        self._last_id: str | None = None
        self._has_stream = True

    def to_the_end(self) -> Operation:
        pauses = iter(AWAY_SECONDS)
        while not self._operation.has_ended:
            try:
                self._look()
                pauses = iter(AWAY_SECONDS)
            except CommandFailed as failure:
                seconds = next(pauses, None)
                if seconds is None or not _is_away(failure):
                    raise
                time.sleep(seconds)
        return self._operation

    def _look(self) -> None:
        if self._has_stream:
            self._read_events()
        if not self._operation.has_ended:
            time.sleep(LOOK_SECONDS)
            self._take(parsed(Operation, self._server.get(self._operation.path)))

    def _read_events(self) -> None:
        """Until the stream ends. One that cannot be had, or holds back what it should bring, is the last."""
        try:
            with self._server.events(f"{self._operation.path}/events", self._last_id) as pieces:
                self._has_stream = False
                for event in events_of(self._heard(pieces)):
                    self._last_id = event.id
                    self._take(Operation.model_validate_json(event.data))
                    if self._operation.has_ended:
                        return
        except CommandFailed as failure:
            if _is_away(failure):
                raise
            self._has_stream = False
        except ValidationError:
            self._has_stream = False

    def _heard(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._has_stream = True
            yield piece

    def _take(self, operation: Operation) -> None:
        self._operation = operation
        self._tell(operation)


def _is_away(failure: CommandFailed) -> bool:
    if isinstance(failure, ServerRefused):
        return failure.problem.status in AWAY_STATUSES
    return isinstance(failure, ServerAway)


@contextmanager
def _bar(operation: Operation) -> Iterator[Callable[[Operation], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_bar(*columns, TextColumn("{task.fields[speed]}")) as bar:
        task = bar.add_task(state_of(operation), total=operation.total or None, speed="")

        def tell(now: Operation) -> None:
            bar.update(task, description=state_of(now), completed=now.done, total=now.total or None, speed=_speed(now))

        yield tell


def state_of(operation: Operation) -> str:
    stopping = operation.cancel_requested and not operation.has_ended
    return printable("stopping" if stopping else operation.state)


def _speed(operation: Operation) -> str:
    """`812 a second, 12 s left`, as far as it is known."""
    parts = []
    if operation.rate is not None:
        parts.append(f"{operation.rate:,.0f} a second")
    if operation.remaining_seconds is not None:
        parts.append(f"{operation.remaining_seconds:,.0f} s left")
    return ", ".join(parts)


def _say(text: str) -> None:
    error_console().print(text, soft_wrap=True)
