"""Changing one's own password, which asks for the present one: who has found an open browser must not get further."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.audit.recorder import AuditEntry, record
from app.caller import Caller, current_call
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import Conflict, FieldError, Forbidden
from app.models.user import SessionEnd
from app.users import sign_in_repository as repository
from app.users.passwords import hash_password, require_acceptable, verify_password
from app.users.records import Account, SignInPair
from app.users.refusals import refused, refusing
from app.users.sign_in_limit import SignInLimit, pair_of

ACTION = "auth:password"


class OwnPasswordService:
    def __init__(self, database: Database, identities: Identities, limit: SignInLimit) -> None:
        self._database = database
        self._identities = identities
        self._limit = limit

    async def change(self, current: str, new: str) -> None:
        """Ends all of the caller's sessions but the current one.

        Guessing the present password counts as failing to sign in does. Raises ParameterError when it is wrong or the
        new one is refused, TooManyRequests while the account is locked, Forbidden for an API key.
        """
        caller = current_call().caller
        assert caller is not None, "only who is signed in has a password"
        if caller.session_id is None:
            raise Forbidden("an API key cannot change its owner's password; sign in for that")
        _require_another(current, new, caller.name)
        pair = pair_of(caller.name)
        async with self._limit.turn(pair, ACTION):
            account = await self._checked(pair, current)
            new_hash = await hash_password(new)
            await run_in_transaction(
                self._database.writers, lambda session: self._replace(session, pair, caller, account, new_hash)
            )

    async def _checked(self, pair: SignInPair, current: str) -> Account:
        async with self._database.readers() as session:
            account = await repository.find_account(session, pair.username)
        if account is None or not await verify_password(current, account.password_hash):
            error = refused("current_password", FieldError("wrong", "this is not the current password"))
            await self._limit.note_failure(pair, account, ACTION, "wrong password", error)
            raise error
        return account

    async def _replace(
        self, session: AsyncSession, pair: SignInPair, caller: Caller, account: Account, new_hash: str
    ) -> None:
        if not await repository.replace_password(session, account, new_hash):
            raise Conflict("the password was changed by somebody else meanwhile")
        await repository.forget_failures(session, pair)
        ended = await repository.end_sessions(
            session, account.id, SessionEnd.PASSWORD, but_session_id=caller.session_id
        )
        changes = {"password": "changed", "sessions_ended": ended}
        await record(session, AuditEntry(ACTION, "user", account.id, account.username, None, changes=changes))
        await self._identities.changed(session)


def _require_another(current: str, new: str, username: str) -> None:
    with refusing("new_password"):
        require_acceptable(new, username)
        if new == current:
            raise FieldError("unchanged", "the new password is the current one")
