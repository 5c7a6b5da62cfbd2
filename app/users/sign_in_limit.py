"""How often somebody may guess: five failures in 15 minutes lock that account for that address for 15 minutes.

Whether there is such an account makes no difference. Of a name that nobody has, nothing readable is kept: it may be a
password, typed in the wrong place. In one process the attempts on a pair wait for each other, so that no number of them
at once guesses more often; of several processes, each can have one more under way.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.rate_limits import network_of
from app.audit.recorder import AuditEntry, record
from app.caller import current_call
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import AppError, TooManyRequests
from app.models.audit import AuditOutcome
from app.models.base import utc_now
from app.users import sign_in_repository as repository
from app.users.names import MAX_USERNAME_CHARACTERS, canonical
from app.users.records import Account, SignInPair

MAX_FAILURES = 5
PERIOD = timedelta(minutes=15)


def pair_of(username: str) -> SignInPair:
    """Of this account and the address of the current call; of IPv6 its network."""
    return SignInPair(canonical(username)[:MAX_USERNAME_CHARACTERS], network_of(current_call().address))


class SignInLimit:
    """`action` is what the audit trail calls the attempt: a password is asked for in more than one place."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns: WeakValueDictionary[SignInPair, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, pair: SignInPair, action: str) -> AsyncIterator[None]:
        """The pair's turn to try a password. Raises TooManyRequests while it is locked."""
        lock = self._turns.setdefault(pair, asyncio.Lock())
        async with lock:
            async with self._database.readers() as session:
                until = await repository.locked_until(session, pair)
                account = None if until is None else await repository.find_account(session, pair.username)
            if until is not None:
                raise await self._locked(account, action, until)
            yield

    async def note_failure(
        self, pair: SignInPair, account: Account | None, action: str, reason: str, answer: AppError
    ) -> None:
        """Counts and records the failure, which stays although the answer is an error."""
        current_call().status = answer.status

        async def count(session: AsyncSession) -> None:
            failures = await repository.note_failure(session, pair, limit=MAX_FAILURES, period=PERIOD)
            await repository.sweep_failures(session, PERIOD)
            await record(session, _denied(action, account, {"reason": reason}))
            if failures == MAX_FAILURES:
                changes = {"failures": failures, "seconds": round(PERIOD.total_seconds())}
                await record(session, _denied("auth:locked", account, changes))

        await run_in_transaction(self._database.writers, count)
        current_call().is_recorded = True

    async def _locked(self, account: Account | None, action: str, until: datetime) -> TooManyRequests:
        seconds = max(1, math.ceil((until - utc_now()).total_seconds()))
        call, entry = current_call(), _denied(action, account, {"reason": "locked"})
        call.status = TooManyRequests.status
        await run_in_transaction(self._database.writers, lambda session: record(session, entry))
        call.is_recorded = True
        return TooManyRequests(f"too many failures; try again in {seconds} s", seconds)


async def lift_locks(session: AsyncSession, username: str) -> None:
    """Forgets the account's failures from every address."""
    await repository.forget_all_failures(session, canonical(username))


def _denied(action: str, account: Account | None, changes: dict[str, str] | dict[str, int]) -> AuditEntry:
    user_id, name = (None, None) if account is None else (account.id, account.username)
    return AuditEntry(action, "user", user_id, name, None, AuditOutcome.DENIED, changes=dict(changes))
