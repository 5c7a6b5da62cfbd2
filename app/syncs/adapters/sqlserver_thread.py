"""Runs a blocking connection to SQL Server in a thread, so that leaving it takes a moment whatever the server does."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from app.syncs.adapters.network_failures import network_failure, timed_out
from app.syncs.adapters.port import Target
from app.syncs.adapters.question import Question
from app.syncs.adapters.sqlserver_connection import SignedIn, sign_in
from app.syncs.adapters.sqlserver_failures import driver_failure
from app.syncs.failures import ServerFailure

T = TypeVar("T")

# Of its own, so that servers that hang hold up nothing else that the service does in threads. One more than these
# waits for its turn within its own time limit.
_threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="sqlserver")
# The socket's limit comes first; this is for a call that waited for a thread.
_GRACE_SECONDS = 2.0


class Connection:
    """Signed in once `open` returned. A question's thread ends with its socket: at its limit, or with `abandon`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._is_abandoned = False
        self._is_busy = False
        self._signed_in: SignedIn | None = None

    async def open(self) -> None:
        await self._in_thread(self._open, self._target.connect_seconds, "to sign in")

    async def ask(self, question: Question[T]) -> Sequence[T]:
        seconds = self._target.statement_seconds
        return [question.row(*row) for row in await self._in_thread(lambda: self._rows(question), seconds, "to answer")]

    def abandon(self) -> None:
        """Never waits: a thread that is at it meets the end of its socket, and closes it."""
        with self._lock:
            self._is_abandoned = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            if not self._is_busy:
                self._close()

    async def _in_thread(self, work: Callable[[], T], seconds: float, doing: str) -> T:
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(_threads, self._run, work, seconds, doing)
        except TimeoutError as error:
            raise timed_out(self._target, doing, seconds) from error

    def _run(self, work: Callable[[], T], seconds: float, doing: str) -> T:
        with self._lock:
            self._is_busy = True
        try:
            return work()
        except TimeoutError as error:
            raise timed_out(self._target, doing, seconds) from error
        except Exception as error:
            numbers = getattr(error, "numbers", None) or (self._signed_in.numbers if self._signed_in else ())
            raise driver_failure(error, numbers, self._target) from error
        finally:
            with self._lock:
                self._is_busy = False
                if self._is_abandoned:
                    self._close()

    def _rows(self, question: Question[Any]) -> list[tuple[Any, ...]]:
        if self._signed_in is None or self._is_abandoned:
            raise ConnectionAbortedError
        return self._signed_in.rows(question.statement, self._target.statement_seconds)

    def _open(self) -> None:
        until = time.monotonic() + self._target.connect_seconds
        self._signed_in = self._try_in(until, reads_only=True) or self._try_in(until, reads_only=False)

    def _try_in(self, until: float, *, reads_only: bool) -> SignedIn | None:
        """An availability group's listener sends connections that only read to a secondary, at a host of its own
        choice: then once more as one that might write. It still does not."""
        plain = self._dial(until)
        return sign_in(plain, self._target, until - time.monotonic(), reads_only=reads_only)

    def _dial(self, until: float) -> socket.socket:
        failure: ServerFailure | None = None
        for address in self._target.addresses:
            seconds = until - time.monotonic()
            if seconds <= 0:
                break
            try:
                return self._keep(socket.create_connection((address, self._target.port), timeout=seconds))
            except OSError as error:
                failure = network_failure(error, self._target)
        raise failure or TimeoutError

    def _keep(self, plain: socket.socket) -> socket.socket:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._close()
            self._socket = plain
            if self._is_abandoned:
                raise ConnectionAbortedError
        return plain

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
