"""Replaces the key that passwords are sealed with.

1. Key file: a new key is put in front, the old ones stay. (Configured keys: the operator has done so.)
2. Every password is sealed anew with the newest key, some at a time, each time in a transaction of its own.
3. Writers are held off, and what they wrote with an old key in between is sealed anew too.
4. Key file: the old keys are dropped.

Whatever breaks off between or within the steps leaves every password readable, and the next run goes on: more than one
key in the file says that the first step was done.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.audit.recorder import AuditEntry, record
from app.config import Settings
from app.credentials import repository
from app.credentials.encryption import KeyFile, SecretBox, SecretUnreadable, key_source
from app.credentials.records import SealedPassword
from app.database import Database
from app.database.transactions import run_in_transaction

STEP_PASSWORDS = 500


class RotationUnderWay(Exception):
    """Another process is rotating the keys of the same file."""


async def rotate_keys(settings: Settings, database: Database) -> int:
    """Seals every password with the newest key, and returns how many were sealed with another one before.

    Raises SecretUnreadable, naming the credential, when none of the keys opens a password: set that password anew, or
    delete the credential, and run it again. Raises SecretKeyRefused and RotationUnderWay.
    """
    source = key_source(settings)
    rotation = KeyRotation(database.writers, SecretBox(source))
    if not isinstance(source, KeyFile):
        return await rotation.run()
    with _alone(source.path):
        # Another rotation may have ended since the file was read: `keys` looks again.
        if len(source.keys()) == 1:
            source.add_key()
        count = await rotation.run()
        source.keep_newest()
    return count


@dataclass(frozen=True, slots=True)
class _Step:
    """`last_id` is None when no passwords were left."""

    last_id: int | None
    resealed: int


class KeyRotation:
    def __init__(self, sessions: async_sessionmaker[AsyncSession], box: SecretBox) -> None:
        self._sessions = sessions
        self._box = box

    async def run(self) -> int:
        """Steps 2 and 3 of the module's description."""
        count = await self._reseal_in_steps()
        return await run_in_transaction(self._sessions, partial(self._finish, count))

    async def _reseal_in_steps(self) -> int:
        count = 0
        step = _Step(0, 0)
        while step.last_id is not None:
            step = await run_in_transaction(self._sessions, partial(self._reseal, after_id=step.last_id))
            count += step.resealed
        return count

    async def _finish(self, count: int, session: AsyncSession) -> int:
        """In one transaction, for which credentials are not written; seldom finds anything to do."""
        await repository.hold_off_writers(session)
        step = _Step(0, 0)
        while step.last_id is not None:
            step = await self._reseal(session, after_id=step.last_id)
            count += step.resealed
        await record(
            session, AuditEntry("credential:rotate_key", "credential", None, None, None, changes={"resealed": count})
        )
        return count

    async def _reseal(self, session: AsyncSession, after_id: int) -> _Step:
        passwords = await repository.lock_passwords(session, after_id, STEP_PASSWORDS)
        if not passwords:
            return _Step(None, 0)
        resealed = {
            each.credential_id: self._resealed(each) for each in passwords if not self._box.is_newest(each.token)
        }
        if resealed:
            await repository.replace_passwords(session, resealed)
        return _Step(passwords[-1].credential_id, len(resealed))

    def _resealed(self, password: SealedPassword) -> str:
        try:
            return self._box.reseal(password.token)
        except SecretUnreadable as error:
            raise SecretUnreadable(
                f"the password of credential {password.credential_id} ({password.name!r}) is {error}"
            ) from error


@contextmanager
def _alone(key_file: Path) -> Iterator[None]:
    """Two rotations at once would each put a key in front and lose the other's. A process that dies lets go."""
    with key_file.with_name(key_file.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RotationUnderWay(f"another process is rotating the keys in {key_file}") from error
        yield
