"""A connection to Oracle Database, with oracledb's thin mode in a loop of its own."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import oracledb

from app.models.instance import TlsMode
from app.syncs.adapters.network_failures import timed_out
from app.syncs.adapters.oracle_failures import driver_failure
from app.syncs.adapters.oracle_loop import ConnectionLoop
from app.syncs.adapters.port import Target
from app.syncs.adapters.question import Question
from app.syncs.adapters.tls import client_context
from app.syncs.failures import FailureKind, ServerFailure

T = TypeVar("T")

# One round trip brings so many rows; a catalogue's are short.
_ROWS_AT_ONCE = 2000
# The driver's own limit comes first, and leaves the connection in order.
_GRACE_SECONDS = 2.0
_PARTING_SECONDS = 1.0
_NEXT_ADDRESS = frozenset({FailureKind.REFUSED, FailureKind.TIMED_OUT})


class Connection:
    """Signed in once `open` returned."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop: ConnectionLoop | None = None
        self._driver_s: oracledb.AsyncConnection | None = None

    @property
    def version(self) -> str:
        return str(self._driver_s.version) if self._driver_s else ""

    async def open(self) -> None:
        """At the first of the addresses that lets us in."""
        until = time.monotonic() + self._target.connect_seconds
        failure: ServerFailure | None = None
        for address in self._target.addresses:
            try:
                await self._open_at(address, until)
            except ServerFailure as error:
                failure = error
                if failure.kind not in _NEXT_ADDRESS:
                    raise
            else:
                return
        raise failure or timed_out(self._target, "to sign in", self._target.connect_seconds)

    async def ask(self, question: Question[T]) -> Sequence[T]:
        assert self._driver_s is not None
        seconds = self._target.statement_seconds
        rows = await self._run(_rows(self._driver_s, question.statement), seconds + _GRACE_SECONDS, "to answer")
        return [question.row(*row) for row in rows]

    async def leave(self) -> None:
        """Says good-bye if that takes no more than a moment."""
        if self._driver_s is not None and self._loop is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_PARTING_SECONDS):
                    await self._loop.run(self._driver_s.close())
        self._stop()

    async def _open_at(self, address: str, until: float) -> None:
        """`prefer` begins without TLS: a listener's port speaks either TCP or TCPS, so that the order decides nothing,
        and one that is TCP notes each handshake as an error."""
        modes = {TlsMode.DISABLE: ("tcp",), TlsMode.PREFER: ("tcp", "tcps")}.get(self._target.tls_mode, ("tcps",))
        for protocol in modes:
            try:
                await self._sign_in(address, protocol, until)
            except ServerFailure as failure:
                is_last = protocol == modes[-1]
                if is_last or failure.kind not in (FailureKind.CLOSED, FailureKind.PROTOCOL):
                    raise
            else:
                return

    async def _sign_in(self, address: str, protocol: str, until: float) -> None:
        self._stop()
        self._loop = ConnectionLoop(self._target, address)
        self._loop.start()
        seconds = max(until - time.monotonic(), 0.0)
        self._driver_s = await self._run(_connected(self._target, address, protocol, seconds), seconds, "to sign in")

    async def _run(self, work: Coroutine[Any, Any, T], seconds: float, doing: str) -> T:
        assert self._loop is not None
        try:
            async with asyncio.timeout(seconds):
                return await self._loop.run(work)
        except TimeoutError as error:
            raise timed_out(self._target, doing, seconds) from error
        except Exception as error:
            raise driver_failure(error, self._target) from error

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.stop()
            self._loop = None


async def _connected(target: Target, address: str, protocol: str, seconds: float) -> oracledb.AsyncConnection:
    connection: oracledb.AsyncConnection = await oracledb.connect_async(
        params=parameters(target, address, protocol, seconds)
    )
    connection.call_timeout = int(target.statement_seconds * 1000)
    return connection


def parameters(target: Target, address: str, protocol: str, seconds: float) -> oracledb.ConnectParams:
    """The certificate is checked by the service's context for the host, not by the driver for the address."""
    found: oracledb.ConnectParams = oracledb.ConnectParams(
        user=target.username,
        password=target.password.get_secret_value(),
        host=address,
        port=target.port,
        protocol=protocol,
        service_name=target.database_name,
        tcp_connect_timeout=seconds,
        retry_count=0,
        ssl_context=client_context(target) if protocol == "tcps" else None,
        ssl_server_dn_match=False,
        program="muster",
        machine="muster",
        terminal="unknown",
        osuser="muster",
        driver_name="muster",
    )
    return found


async def _rows(connection: oracledb.AsyncConnection, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.arraysize = cursor.prefetchrows = _ROWS_AT_ONCE
        await cursor.execute(statement)
        return [] if cursor.description is None else list(await cursor.fetchall())
