"""Opens credentials for connecting to servers: the one place where a password leaves its seal."""

from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.credentials import repository
from app.credentials.encryption import SecretBox
from app.credentials.records import SealedSignIn
from app.database import Database


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a server is signed in to with; empty where the credential has none. The password hides itself from logs."""

    username: str
    password: SecretStr


class SignIns:
    def __init__(self, database: Database, box: SecretBox) -> None:
        self._database = database
        self._box = box

    async def of(self, credential_id: int) -> SignIn | None:
        """To be asked for when a server is about to be connected to, outside of any transaction, and not to be kept.

        None when the credential is gone. Raises SecretUnreadable."""
        async with self._database.batch_connections, self._database.readers() as session:
            found = await self.find(session, credential_id)
        return None if found is None else self.open(found)

    async def find(self, session: AsyncSession, credential_id: int) -> SealedSignIn | None:
        """For whoever has a transaction open already; None when the credential is gone."""
        return await repository.sealed_sign_in(session, credential_id)

    def open(self, sealed: SealedSignIn) -> SignIn:
        """As `of`: when a server is about to be connected to. Raises SecretUnreadable."""
        username, token = sealed
        return SignIn(username or "", SecretStr("" if token is None else self._box.open(token)))
