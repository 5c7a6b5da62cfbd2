"""The values that pass between the routes, the service and the repository.

A `CredentialRecord`, which is what is read of a credential, does not hold its password, sealed or not.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypedDict

from pydantic import SecretStr

from app.models.credential import CredentialType


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    id: int
    space_id: int
    name: str
    type: CredentialType
    username: str | None
    description: str | None
    has_password: bool
    revision: int
    created_at: datetime
    updated_at: datetime


class CredentialValues(TypedDict, total=False):
    """What of a credential is set; what is absent stays as it is. The password hides itself from logs."""

    name: str
    type: CredentialType
    username: str | None
    password: SecretStr
    description: str | None


class StoredValues(TypedDict, total=False):
    """The same as the columns take it."""

    name: str
    type: CredentialType
    username: str | None
    encrypted_password: str
    description: str | None


@dataclass(frozen=True, slots=True)
class CredentialFilter:
    """`q` is a substring of the name, in any case; None filters nothing."""

    space_id: int | None = None
    q: str | None = None


@dataclass(frozen=True, slots=True)
class CredentialPage:
    items: list[CredentialRecord]
    next_cursor: str | None
    total: int | None


class SealedSignIn(NamedTuple):
    """What a server is signed in to with, as it is stored: the password still sealed."""

    username: str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class SealedPassword:
    credential_id: int
    name: str
    token: str
