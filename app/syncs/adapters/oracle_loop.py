"""An event loop of its own, in a thread, for one connection to Oracle: where the connection goes is judged there.

A listener may answer with REDIRECT and any host's name, as those of a RAC do, and the driver follows without asking; it
connects through its event loop, though. Another host was not resolved and judged by the service's own rules, so that
the loop refuses it; the target's own host, at whatever port, is one of the judged addresses.
"""

import asyncio
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any, TypeVar

from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

T = TypeVar("T")


class _GuardedLoop(asyncio.SelectorEventLoop):
    """Connects to one address; `elsewhere` is where else it was told to."""

    def __init__(self, target: Target, address: str) -> None:
        super().__init__()
        self._own_names = (address, target.host)
        self._address = address
        self._opened: list[asyncio.BaseTransport] = []
        self.elsewhere: str | None = None

    async def create_connection(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **how: Any
    ) -> Any:
        if "sock" not in how and host not in self._own_names:
            self.elsewhere = f"{host}:{port}"
            raise ConnectionAbortedError(f"redirected to {host}:{port}")
        made = await super().create_connection(protocol_factory, self._address if host else None, port, **how)
        self._opened.append(made[0])
        return made

    def abort_all(self) -> None:
        """The driver leaves its connection open where it is cancelled in the middle."""
        for transport in self._opened:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        if host != self._address:
            raise ConnectionAbortedError(f"{host} is not to be resolved")
        return await super().getaddrinfo(host, port, **how)


class ConnectionLoop:
    """Runs from `start` to `stop`; what is still under way then is cancelled, and waited for by nobody."""

    def __init__(self, target: Target, address: str) -> None:
        self._target = target
        self._loop = _GuardedLoop(target, address)
        self._thread = Thread(target=self._run, name="oracle", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """In the loop's thread; to cancel this is to cancel that. Raises ServerFailure for a redirection."""
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        except Exception as error:
            if self._loop.elsewhere is not None:
                raise _redirected(self._loop.elsewhere) from error
            raise

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._finish())
        finally:
            self._loop.close()

    async def _finish(self) -> None:
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self._loop.abort_all()
        # Closing takes the transports a turn of the loop.
        await asyncio.sleep(0)


def _redirected(place: str) -> ServerFailure:
    hint = "register that host itself; of a RAC, a node's own address instead of the SCAN name"
    return ServerFailure(FailureKind.ADDRESS_DENIED, f"the listener redirected to {place[:300]}", hint)
