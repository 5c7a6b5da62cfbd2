"""A connection to one MongoDB server, with pymongo's asynchronous client.

The driver connects to the checked address and to nothing else: `directConnection` keeps it from following the names of
other members that the server tells (https://www.mongodb.com/docs/manual/reference/connection-string-options/). Before
it, the address is tried by hand: the driver would go on trying a port that refuses until its time is over, and has one
word for every reason.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping
from typing import Any

from pymongo import AsyncMongoClient, ReadPreference
from pymongo.monitoring import ServerHeartbeatFailedEvent, ServerHeartbeatListener

from app.models.instance import TlsMode
from app.syncs.adapters.mongodb_failures import driver_failure
from app.syncs.adapters.network_failures import network_failure, timed_out
from app.syncs.adapters.port import Target
from app.syncs.adapters.tls import loaded_context
from app.syncs.failures import FailureKind, ServerFailure

Document = Mapping[str, Any]

# The driver's own limit comes first.
_GRACE_SECONDS = 2.0
_PARTING_SECONDS = 1.0


class Connection:
    """Signed in once `open` returned."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client: AsyncMongoClient[dict[str, Any]] | None = None

    async def open(self) -> None:
        until = time.monotonic() + self._target.connect_seconds
        address, context = await _tried(self._target)
        seconds = max(until - time.monotonic(), 0.01)
        failed = _FirstFailure()
        self._client = client(self._target, address, context, seconds, failed)
        await failed.or_done(self._answered({"ping": 1}, "admin", seconds, "to sign in"), self._target)

    async def ask(self, command: Document, database: str = "admin") -> Document:
        """With the time limit of a statement for the server, and a little more for the way. Raises ServerFailure."""
        seconds = self._target.statement_seconds
        limited = {**command, "maxTimeMS": int(seconds * 1000)}
        return await self._answered(limited, database, seconds + _GRACE_SECONDS, "to answer")

    async def leave(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_PARTING_SECONDS):
                    await self._client.close()

    async def _answered(self, command: Document, database: str, seconds: float, doing: str) -> Document:
        assert self._client is not None
        try:
            async with asyncio.timeout(seconds):
                of = self._client.get_database(database)
                return await of.command(dict(command), read_preference=ReadPreference.NEAREST)
        except TimeoutError as error:
            raise timed_out(self._target, doing, seconds) from error
        except Exception as error:
            raise driver_failure(error, self._target) from error


class _FirstFailure(ServerHeartbeatListener):
    """The driver goes on trying until its time is over; the first failure to greet the server is the answer, though."""

    def __init__(self) -> None:
        self._failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def started(self, event: object) -> None: ...

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        if not self._failure.done():
            self._failure.set_result(event.reply)

    async def or_done(self, work: Any, target: Target) -> None:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
            # Without a greeting the work fails too, but for a reason of the driver's own.
            has_failed = not task.done() or task.exception() is not None
            if has_failed and self._failure.done():
                raise driver_failure(self._failure.result(), target)
            task.result()
        finally:
            task.cancel()
            self._failure.cancel()


def client(
    target: Target, address: str, context: ssl.SSLContext | None, seconds: float, listener: ServerHeartbeatListener
) -> AsyncMongoClient[dict[str, Any]]:
    """The database of the target is where its user was made, as in a connection string. SCRAM is what the driver takes
    by itself, which never sends the password."""
    limit = int(seconds * 1000)
    made: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        f"[{address}]" if ":" in address else address,
        target.port,
        connect=False,
        directConnection=True,
        username=target.username,
        password=target.password.get_secret_value(),
        authSource=target.database_name or "admin",
        appname="muster",
        retryReads=False,
        retryWrites=False,
        maxPoolSize=1,
        serverMonitoringMode="poll",
        serverSelectionTimeoutMS=limit,
        connectTimeoutMS=limit,
        socketTimeoutMS=int((target.statement_seconds + _GRACE_SECONDS) * 1000),
        event_listeners=[listener],
        **_tls_options(context),
    )
    if context is not None:
        _verify_with(made, context)
    return made


def _tls_options(context: ssl.SSLContext | None) -> dict[str, Any]:
    return {"tls": context is not None} | (
        {"tlsAllowInvalidHostnames": True, "tlsAllowInvalidCertificates": True} if context is not None else {}
    )


def _verify_with(made: AsyncMongoClient[dict[str, Any]], context: ssl.SSLContext) -> None:
    """The driver takes no context, and its own would check the certificate for the address, so it is told to check
    nothing and given ours, which checks what the mode asks. That this worked is verified, lest nobody checks."""
    options: Any = made.options.pool_options
    object.__setattr__(options, "_PoolOptions__ssl_context", context)
    if options._ssl_context is not context:
        raise ServerFailure(FailureKind.TLS, "the driver takes no TLS context", "install the driver's version again")


async def _tried(target: Target) -> tuple[str, ssl.SSLContext | None]:
    """The first address that answers, and the TLS that it does; `prefer` goes without where the handshake fails."""
    failure: ServerFailure | None = None
    context = await loaded_context(target)
    for address in target.addresses:
        try:
            await _dialled(target, address, context)
        except ServerFailure as error:
            failure = error
            if target.tls_mode is TlsMode.PREFER and error.kind in (FailureKind.TLS, FailureKind.CLOSED):
                return address, None
            if error.kind not in (FailureKind.REFUSED, FailureKind.TIMED_OUT):
                raise
        else:
            return address, context
    raise failure or timed_out(target, "to be connected to", target.connect_seconds)


async def _dialled(target: Target, address: str, context: ssl.SSLContext | None) -> None:
    seconds = target.connect_seconds / (len(target.addresses) + 1)
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(
                address, target.port, ssl=context, server_hostname=address if context is not None else None
            )
    except (OSError, EOFError) as error:
        raise network_failure(error, target) from error
    writer.transport.abort()
