"""Opens credentials for connecting to servers: the one place where a password leaves its seal."""

from dataclasses import dataclass

from pydantic import SecretStr

from app.credentials import repository
from app.credentials.encryption import SecretBox
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
            found = await repository.sealed_sign_in(session, credential_id)
        if found is None:
            return None
        username, token = found
        return SignIn(username or "", SecretStr("" if token is None else self._box.open(token)))
