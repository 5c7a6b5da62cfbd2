"""Bodies of the credential calls. A password is only ever in a request."""

import re
from datetime import datetime
from functools import partial
from typing import Annotated

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from app.errors import FieldError
from app.fields import Description, ResourceId, one_line
from app.models.credential import CredentialType

MAX_NAME_CHARACTERS = 100
MAX_USERNAME_CHARACTERS = 255
# Room for a private key in PEM.
MAX_PASSWORD_CHARACTERS = 16_384

# No server takes NUL, and half a surrogate pair has no bytes. Anything else is the password's own business.
_refused_in_passwords = re.compile(r"[\x00\ud800-\udfff]")


def _username(text: str) -> str | None:
    return one_line("username", text) or None


def _password(secret: SecretStr) -> SecretStr:
    if _refused_in_passwords.search(secret.get_secret_value()):
        raise FieldError("invalid_format", "password must not hold NUL or half a surrogate pair")
    return secret


CredentialName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_CHARACTERS),
    AfterValidator(partial(one_line, "name")),
    Field(description="Unique in the space; what the `credential` column of an import names"),
]
Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_USERNAME_CHARACTERS),
    AfterValidator(_username),
]
Password = Annotated[
    SecretStr,
    Field(
        min_length=1,
        max_length=MAX_PASSWORD_CHARACTERS,
        description="Password, private key or token, kept exactly as it comes; never given out again",
    ),
    AfterValidator(_password),
]


class CredentialCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "example": {
                "name": "monitoring",
                "type": "database",
                "username": "monitor",
                "password": "correct horse battery staple",
                "description": "Reads statistics on the production fleet",
            }
        },
    )

    space_id: ResourceId | None = Field(None, description="By default the space named `default`")
    name: CredentialName
    type: CredentialType
    username: Username | None = Field(description="Null where the server asks for a password or a token alone")
    password: Password
    description: Description | None = None


class CredentialChange(BaseModel):
    """What is absent stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"example": {"password": "battery staple correct horse"}},
    )

    name: CredentialName | MISSING = MISSING
    type: CredentialType | MISSING = MISSING
    username: Username | MISSING | None = MISSING
    password: Password | MISSING = MISSING
    description: Description | MISSING | None = MISSING


class Credential(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    space_id: int
    name: str
    type: CredentialType
    username: str | None
    has_password: bool
    description: str | None
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime
