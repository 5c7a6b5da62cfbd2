"""Runs the judging of files outside the event loop.

A thread alone would not do: reading and checking a hundred thousand rows holds the interpreter lock, and every other
request would wait. One spawned process (in a server started ahead, so that the first upload does not pay for it)
leaves the loop free; with `processes=0` a thread is used, which suits tests.
"""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from app.instances.csv_rows import JudgedFile, judge_file

T = TypeVar("T")

log = structlog.get_logger(__name__)

# The judging process yields to the event loop where both want the same core.
JUDGE_NICENESS = 5


class FileJudge:
    """The process is there from the start on, or from the first file on."""

    def __init__(self, processes: int, *, starts_at_once: bool = True) -> None:
        self._processes = processes
        self._executor = self._made()
        if starts_at_once:
            self._executor.submit(os.getpid)

    def _made(self) -> Executor:
        if self._processes == 0:
            return ThreadPoolExecutor(1, thread_name_prefix="judge")
        return ProcessPoolExecutor(
            self._processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare_process,
        )

    async def judge(self, source: Path, frames: Path, encoding: str, ignore_unknown_columns: bool) -> JudgedFile:
        """As `judge_file`, which says what comes back and what is raised."""
        return await self.run(partial(judge_file, source, frames, encoding, ignore_unknown_columns))

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises, which must be ready to be sent from process to process, as must the work; it
        can be done twice."""
        loop = asyncio.get_running_loop()
        executor = self._executor
        try:
            return await loop.run_in_executor(executor, work)
        except BrokenProcessPool:
            # The process was killed (by the system, when memory is short): doing it again harms nothing.
            if self._executor is executor:
                log.warning("the judging process died; a new one is started")
                self._executor = self._made()
            return await loop.run_in_executor(self._executor, work)

    def close(self) -> None:
        """Ends the process; without this it would outlive a server that is told to stop."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _prepare_process() -> None:
    os.nice(JUDGE_NICENESS)
    # A Ctrl-C in the terminal goes to every process; the server decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Judging makes hundreds of thousands of objects and no cycles: looking for these took a fifth of the time.
    gc.disable()


def _end_with_parent() -> None:
    """A server that is killed cannot end its process; it ends itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
