"""Finds what holds the event loop: a callback of the service that keeps every other request waiting.

1. Each callback of an asyncio loop (a step of a task, a timer, a socket that is ready) is one turn of its thread.
2. A watcher thread wakes every few milliseconds and measures the turn under way. What counts is the larger of two: the
   processor time that the turn has used, and the time that it has lasted while the watcher was awake, less what its
   thread waited for a processor. So sleeping and waiting for a lock or a disk count, and a crowded machine does not: it
   keeps the watcher waiting too. (Only Linux tells what a thread waited for.) Processors that others share compute more
   slowly: what was computed counts for what it takes when the machine is quiet. A turn that
   does not go on with the service, but with a test that calls it, counts from when the watcher finds it there.
3. At the limit it takes the stack of the loop's thread, which is then that of the culprit.
4. When the turn ends it is measured once more, and reported if it did hold the loop and had the service on its stack.

Not counted: the garbage collector, whose heap is that of the whole test run; the service's start and stop, when nobody
waits for it; and plain functions of the service that a test calls itself. Counted, although the callback is not to
blame: waiting for the interpreter while other threads compute in Python; the report then shows where they were. Not
seen: loops other than asyncio's own, such as uvloop's.
"""

import asyncio
import gc
import inspect
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from traceback import format_list
from types import CodeType, FrameType
from typing import Any, Self

import greenlet

from tests.pace import Pace

LIMIT_SECONDS = 0.05
TICK_SECONDS = 0.005
# The most that one tick counts for: a watcher that is later was kept waiting, by the machine or by whoever had the
# interpreter.
LATE_TICK_SECONDS = 0.01

THREAD_START = threading.Thread.start.__code__

# Coroutines of the service that run while nobody is served: before it listens, and when it has hung up.
STARTING_AND_STOPPING = frozenset({"_lifespan"})

TESTS = Path(__file__).parent
SERVICE = TESTS.parent / "app"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame was when it was looked at."""

    code: CodeType
    line: int

    @property
    def is_coroutine(self) -> bool:
        return bool(self.code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))

    def is_in(self, directory: Path) -> bool:
        return self.code.co_filename.startswith(f"{directory}{os.sep}")

    def __str__(self) -> str:
        return format_list([(self.code.co_filename, self.line, self.code.co_name, None)])[0].rstrip()


# Outermost first.
Stack = tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """A turn that held the loop; its stack begins with the service."""

    seconds: float
    computing: float
    stack: Stack
    other_threads: tuple[Stack, ...]

    def __str__(self) -> str:
        computing = f"{self.computing * 1000:.0f} ms of them computing"
        lines = [f"the event loop was held for {self.seconds * 1000:.0f} ms, {computing}, by", *map(str, self.stack)]
        for stack in self.other_threads:
            lines += ["while another thread of the service was at", *map(str, stack)]
        return "\n".join(lines)


class ThreadClock:
    """Of the thread that makes it; any thread may read it. What the system does not tell is zero."""

    def __init__(self) -> None:
        self._processor: int | None = None
        self._schedule: int | None = None
        if sys.platform == "linux":
            self._processor = time.pthread_getcpuclockid(threading.get_ident())
            self._schedule = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
            weakref.finalize(self, os.close, self._schedule)

    def used(self) -> float:
        """Seconds of processor time."""
        return 0.0 if self._processor is None else time.clock_gettime(self._processor)

    def queued(self) -> float:
        """Seconds for which the thread could have run and had no processor, up to when it last got one."""
        return 0.0 if self._schedule is None else int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9


def current_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread. No collection may begin meanwhile: before Python 3.12 the interpreter holds
    its lock on the list of threads then, and collecting a `threading.local` waits for that lock for ever."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if was_enabled:
            gc.enable()


class LoopThread:
    """A thread that runs a loop; made in it."""

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.clock = ThreadClock()
        # SQLAlchemy works in greenlets: while one does, the stack of whoever called it hangs here.
        self.greenlet = greenlet.getcurrent()
        self.turn: Turn | None = None


class Turn:
    """A callback under way, or just ended."""

    __slots__ = (
        "_began", "_clock", "_queued_before", "_used_before",
        "awake", "collecting", "is_services", "other_threads", "stack",
    )  # fmt: skip

    def __init__(self, clock: ThreadClock, *, is_services: bool) -> None:
        self._clock = clock
        self.is_services = is_services
        self.stack: Stack | None = None
        self.other_threads: tuple[Stack, ...] = ()
        self.begin()

    def begin(self) -> None:
        """Forgets what was until now."""
        self._used_before = self._clock.used()
        self._queued_before = self._clock.queued()
        self._began = time.perf_counter()
        self.awake = 0.0
        self.collecting = 0.0

    def saw_tick(self, now: float, awake: float) -> None:
        self.awake += min(awake, now - self._began)

    def parts(self) -> tuple[float, float]:
        """The seconds that count: in which it computed, and in which it waited."""
        used, queued = self._clock.used() - self._used_before, self._clock.queued() - self._queued_before
        return used - self.collecting, max(0.0, self.awake - queued - used)

    def held(self) -> float:
        return sum(self.parts())


class LoopWatch:
    """Inside its block, collects the holds of every asyncio loop of the process."""

    def __init__(self, service: Path = SERVICE, tests: Path = TESTS) -> None:
        self._service = service
        self._service_prefix = f"{service}{os.sep}"
        self._tests = tests
        self._holds: list[Hold] = []
        self._local = threading.local()
        self._threads: dict[int, LoopThread] = {}
        self._original = asyncio.Handle._run
        self._in_turn = self._as_turn(self._original)
        self._watcher = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        self._is_over = threading.Event()
        self._collection_began = 0.0
        self._pace = Pace()

    def __enter__(self) -> Self:
        asyncio.Handle._run = self._in_turn  # type: ignore[method-assign]
        gc.callbacks.append(self._on_collection)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.Handle._run = self._original  # type: ignore[method-assign]
        gc.callbacks.remove(self._on_collection)
        self._is_over.set()
        self._watcher.join()

    def take(self) -> list[Hold]:
        """The holds since this was last called."""
        holds, self._holds = self._holds, []
        return holds

    def _as_turn(self, run: Callable[[Any], None]) -> Callable[[Any], None]:
        def in_turn(handle: Any) -> None:
            try:
                thread = self._local.thread
            except AttributeError:
                thread = self._local.thread = self._threads[threading.get_ident()] = LoopThread()
            thread.turn = turn = Turn(thread.clock, is_services=self._begins_in_service(handle))
            try:
                run(handle)
            finally:
                thread.turn = None
                if turn.stack is not None:
                    self._judge(turn, turn.stack)

        return in_turn

    def _begins_in_service(self, handle: Any) -> bool:
        """Whether it goes on with a coroutine of the service's, whoever called that; or is no task's."""
        if not isinstance(task := getattr(handle._callback, "__self__", None), asyncio.Task):
            return True
        coroutine: Any = task.get_coro()
        while (code := getattr(coroutine, "cr_code", None)) is not None:
            if code.co_filename.startswith(self._service_prefix):
                return True
            coroutine = coroutine.cr_await
        return False

    def _judge(self, turn: Turn, stack: Stack) -> None:
        of_service = self._from_service_on(stack)
        computing, waiting = turn.parts()
        if not of_service or computing + waiting < LIMIT_SECONDS:
            return
        computing /= self._pace.slowness()
        if computing + waiting >= LIMIT_SECONDS:
            others = turn.other_threads if computing < waiting else ()
            self._holds.append(Hold(computing + waiting, computing, of_service, others))

    def _from_service_on(self, stack: Stack) -> Stack:
        """Empty without the service, while it starts or stops, or where a test called a plain function of it."""
        first = next((index for index, place in enumerate(stack) if place.is_in(self._service)), None)
        if first is None or stack[first].code.co_name in STARTING_AND_STOPPING:
            return ()
        is_called_by_test = first > 0 and stack[first - 1].is_in(self._tests)
        return () if is_called_by_test and not stack[first].is_coroutine else stack[first:]

    def _watch(self) -> None:
        before = time.perf_counter()
        while not self._is_over.wait(TICK_SECONDS):
            now = time.perf_counter()
            awake, before = min(now - before, LATE_TICK_SECONDS), now
            for thread in list(self._threads.values()):
                if (turn := thread.turn) is not None:
                    turn.saw_tick(now, awake)
                    self._look_at(thread, turn)

    def _look_at(self, thread: LoopThread, turn: Turn) -> None:
        held = turn.held()
        if held < LIMIT_SECONDS:
            # What was queueing is told late, so a stack may have been taken too early.
            turn.stack = None
        if held < TICK_SECONDS or turn.stack is not None:
            return
        frames = current_frames()
        stack = self._stack(frames.pop(thread.ident), thread.greenlet.gr_frame)
        if thread.turn is not turn:
            return
        was_services, turn.is_services = turn.is_services, self._is_services(stack)
        if not (was_services and turn.is_services):
            turn.begin()
        elif held >= LIMIT_SECONDS:
            others = [self._from_service_on(self._stack(frame)) for frame in frames.values()]
            turn.other_threads = tuple(filter(None, others))
            turn.stack = stack

    def _is_services(self, stack: Stack) -> bool:
        """Not where it calls what a test put in the place of something, nor while a thread that it starts waits for a
        processor."""
        ours = [place for place in stack if place.is_in(self._service) or place.is_in(self._tests)]
        return bool(ours) and ours[-1].is_in(self._service) and THREAD_START not in (place.code for place in stack)

    def _stack(self, *innermost: FrameType | None) -> Stack:
        """Of the frames and their callers, up to the beginning of the turn."""
        places: list[Place] = []
        for start in innermost:
            frame = start
            # A greenlet that goes on meanwhile can give anything for the caller of its frame; a text was seen.
            while isinstance(frame, FrameType) and frame.f_code is not self._in_turn.__code__:
                places.append(Place(frame.f_code, frame.f_lineno or 0))
                frame = frame.f_back
        return tuple(reversed(places))

    def _on_collection(self, phase: str, _: object) -> None:
        thread = getattr(self._local, "thread", None)
        if phase == "start":
            self._collection_began = time.thread_time()
        elif thread is not None and thread.turn is not None:
            thread.turn.collecting += time.thread_time() - self._collection_began
