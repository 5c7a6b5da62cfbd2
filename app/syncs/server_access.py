"""Connects to one server and asks it something, over the network and outside of any transaction."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.credentials.encryption import SecretUnreadable
from app.credentials.records import SealedSignIn
from app.credentials.sign_ins import SignIn, SignIns
from app.syncs.adapters.port import ServerSession
from app.syncs.adapters.registry import adapter_of
from app.syncs.failures import FailureKind, ServerFailure
from app.syncs.targets import ServerPlace, Targets

log = structlog.get_logger(__name__)

# Asks what it wants to know, and keeps the answers itself: a server may go away after some of them.
Question = Callable[[ServerSession], Awaitable[None]]


class ServerAccess:
    """`seconds` is the time limit for one server, from resolving its name to its last answer."""

    def __init__(self, targets: Targets, sign_ins: SignIns, *, seconds: float) -> None:
        self._targets = targets
        self._sign_ins = sign_ins
        self._seconds = seconds

    async def sign_in_of(self, credential_id: int | None) -> SignIn | ServerFailure:
        """What the credential signs in with, or why that cannot be told."""
        try:
            found = None if credential_id is None else await self._sign_ins.of(credential_id)
        except SecretUnreadable as error:
            return _unreadable(error)
        return found or _gone()

    async def sealed_sign_in_of(self, session: AsyncSession, credential_id: int | None) -> SealedSignIn | None:
        """The same in two steps, of which this one needs a session and `opened` none."""
        return None if credential_id is None else await self._sign_ins.find(session, credential_id)

    def opened(self, sealed: SealedSignIn | None) -> SignIn | ServerFailure:
        try:
            return _gone() if sealed is None else self._sign_ins.open(sealed)
        except SecretUnreadable as error:
            return _unreadable(error)

    async def ask(self, place: ServerPlace, sign_in: SignIn, question: Question) -> ServerFailure | None:
        """Why the question could not be asked to its end; nothing is raised."""
        try:
            async with asyncio.timeout(self._seconds):
                target = await self._targets.of(place, sign_in)
                async with adapter_of(target.db_type).connect(target) as server:
                    await question(server)
        except ServerFailure as failure:
            return failure
        except TimeoutError:
            return self._too_slow()
        except Exception as error:
            return _unexpected(place, error)
        return None

    def _too_slow(self) -> ServerFailure:
        return ServerFailure(
            FailureKind.TIMED_OUT,
            f"the server was not done within {self._seconds:g} s",
            "look whether the server answers slowly; MUSTER_SYNC_SECONDS sets the time limit",
        )


def _gone() -> ServerFailure:
    return ServerFailure(
        FailureKind.CREDENTIAL_UNREADABLE, "the instance's credential is gone", "give the instance another one"
    )


def _unreadable(error: SecretUnreadable) -> ServerFailure:
    return ServerFailure(
        FailureKind.CREDENTIAL_UNREADABLE,
        f"the credential's password cannot be opened: {error}",
        "set the credential's password again, or give the service the key that it was sealed with",
    )


def _unexpected(place: ServerPlace, error: Exception) -> ServerFailure:
    """Adapters raise nothing but ServerFailure; if one does, its text may hold what nobody is to read."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("an adapter failed", host=place.host, db_type=place.db_type, error=type(error).__name__, places=places)
    return ServerFailure(
        FailureKind.SERVER_ERROR,
        f"unexpected {type(error).__name__} while the server was asked",
        "the log has the place; this is a mistake in the service",
    )
