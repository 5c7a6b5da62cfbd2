"""The worker that `muster serve` has beside it on PostgreSQL, as a process of its own.

Whoever waits for an answer should not wait for work that nobody waits for: in the server's process, operations and
housekeeping would take turns with requests on its event loop and its interpreter lock, and with a lower priority they
leave the processor to it. A worker that dies is started again, and what it had under way is taken up as any other's.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

import structlog
import uvloop

from app.config import Settings
from app.garbage import collect_seldom
from app.logs import configure_logging

log = structlog.get_logger(__name__)

# Below the server's, and below the judging of files (app.instances.file_judge), which somebody waits for.
NICENESS = 10
RESTART_SECONDS = 2.0
# For what ends after what was under way: connections, and the process itself.
CLOSING_SECONDS = 5.0


class WorkerProcess:
    """Runs from entering the block until leaving it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._keeper = threading.Thread(target=self._keep, name="worker-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.hand_over()
        self._keeper.join(self._settings.worker_grace_seconds + CLOSING_SECONDS)
        if self._process is not None and self._process.is_alive():
            log.warning("the worker beside the server did not end when told to; it is killed")
            self._process.kill()

    def hand_over(self) -> None:
        """Has it begin nothing more, end its present items and chunks, and leave the rest to another worker."""
        with self._lock:
            if not self._ending.is_set() and self._process is not None:
                self._process.terminate()
            self._ending.set()

    def _keep(self) -> None:
        while self._started():
            assert self._process is not None
            self._process.join()
            if not self._ending.is_set():
                log.error(
                    "the worker beside the server has ended; it is started again", exit_code=self._process.exitcode
                )
            self._ending.wait(RESTART_SECONDS)

    def _started(self) -> bool:
        with self._lock:
            if self._ending.is_set():
                return False
            # Spawned: a fork would share connections and threads.
            spawning = multiprocessing.get_context("spawn")
            self._process = spawning.Process(target=_work, args=(self._settings,), name="muster-worker")
            self._process.start()
            return True


def _work(settings: Settings) -> None:
    os.nice(NICENESS)
    collect_seldom()
    # A Ctrl-C in the terminal goes to every process; the server decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after_parent, daemon=True).start()
    configure_logging(settings.log_level)
    # Not before: it is nearly all that the process loads.
    from app.worker import run_worker  # noqa: PLC0415

    uvloop.run(run_worker(settings, _announce, is_beside_server=True))


def _announce() -> None:
    log.info("the worker beside the server is ready", process_id=os.getpid())


def _end_after_parent() -> None:
    """A server that is killed cannot end its worker, which hands over by itself then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
