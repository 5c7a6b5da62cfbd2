"""Signing in by user name and password.

1. The pair of account and address waits for its turn, and is refused while it is locked (app.users.sign_in_limit).
2. The password is checked: once, whether or not there is such a user, and whether or not the user may sign in. The
   answer to whatever fails is the same.
3. In one transaction, if the user has neither been disabled nor got another password meanwhile: the session begins,
   failures are forgotten, and the audit trail gets its entry. Otherwise it is a failure like the others.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.caller import Caller, current_call
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import NotAuthenticated
from app.users import sign_in_repository as repository
from app.users.passwords import PasswordCheck, check_password
from app.users.records import Account, IssuedTokens, SignInPair
from app.users.sessions import SessionService
from app.users.sign_in_limit import SignInLimit, pair_of

ACTION = "auth:login"


class SignInService:
    def __init__(self, database: Database, sessions: SessionService, limit: SignInLimit) -> None:
        self._database = database
        self._sessions = sessions
        self._limit = limit

    async def sign_in(self, username: str, password: str) -> IssuedTokens:
        """Raises NotAuthenticated, or TooManyRequests while the account is locked for this address."""
        pair = pair_of(username)
        async with self._limit.turn(pair, ACTION):
            async with self._database.readers() as session:
                account = await repository.find_account(session, pair.username)
            check = await check_password(password, None if account is None else account.password_hash)
            reason = _refusal(account, check)
            if account is not None and reason is None:
                issued = await self._begin(pair, account, check)
                if issued is not None:
                    return issued
            refused = NotAuthenticated("the user name or the password is wrong")
            await self._limit.note_failure(pair, account, ACTION, reason or "changed meanwhile", refused)
            raise refused

    async def _begin(self, pair: SignInPair, account: Account, check: PasswordCheck) -> IssuedTokens | None:
        """None when the account is no longer what was checked."""

        async def begin(session: AsyncSession) -> IssuedTokens | None:
            if not await repository.note_sign_in(session, account, check.new_hash):
                return None
            await repository.forget_failures(session, pair)
            session_id, issued = await self._sessions.begin(session, account.id)
            current_call().caller = Caller(account.id, account.username, session_id=session_id)
            await record(session, AuditEntry(ACTION, "user", account.id, account.username, None))
            return issued

        return await run_in_transaction(self._database.writers, begin)


def _refusal(account: Account | None, check: PasswordCheck) -> str | None:
    if account is None:
        return "unknown user"
    if not check.is_right:
        return "wrong password"
    return None if account.is_active else "disabled"
