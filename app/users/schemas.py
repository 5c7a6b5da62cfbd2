"""Bodies of the calls about users. A password is only ever in a request."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from app.errors import FieldError
from app.fields import one_line
from app.users.names import MAX_USERNAME_CHARACTERS, username
from app.users.passwords import MAX_PASSWORD_CHARACTERS, MIN_PASSWORD_CHARACTERS

MAX_EMAIL_CHARACTERS = 254
MAX_DISPLAY_NAME_CHARACTERS = 100
# Only what no address is without: whether one exists is told by a message that arrives.
_address = re.compile(r"[^@\s]+@[^@\s]+")


def _email(text: str) -> str | None:
    if text and not _address.fullmatch(one_line("email", text)):
        raise FieldError("invalid_format", "email must be an address such as jane@example.com")
    return text or None


def _display_name(text: str) -> str | None:
    return one_line("display_name", text) or None


Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_USERNAME_CHARACTERS),
    AfterValidator(username),
    Field(description="Letters a-z, digits and `. _ @ -`, stored in lower case; unique, and never changed"),
]
NewPassword = Annotated[
    SecretStr,
    Field(
        min_length=MIN_PASSWORD_CHARACTERS,
        max_length=MAX_PASSWORD_CHARACTERS,
        description="Of any characters; refused when it is one that is guessed first, or hardly more than the name",
    ),
]
Email = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=MAX_EMAIL_CHARACTERS), AfterValidator(_email)
]
DisplayName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_DISPLAY_NAME_CHARACTERS),
    AfterValidator(_display_name),
]


class UserCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "example": {
                "username": "jane.doe",
                "password": "seven quiet lighthouses",
                "email": "jane.doe@example.com",
                "display_name": "Jane Doe",
            }
        },
    )

    username: Username
    password: NewPassword
    email: Email | None = None
    display_name: DisplayName | None = None
    is_active: bool = Field(True, description="Nobody signs in, and no API key works, while it is false")


class UserChange(BaseModel):
    """What is absent stays as it is; null clears an address or a displayed name.

    A new password and disabling end all of the user's sessions.
    """

    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": {"display_name": "Jane A. Doe"}}
    )

    email: Email | MISSING | None = MISSING
    display_name: DisplayName | MISSING | None = MISSING
    is_active: bool | MISSING = MISSING
    password: NewPassword | MISSING = MISSING


class User(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    email: str | None
    display_name: str | None
    is_active: bool
    last_login_at: datetime | None
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None


class UserDeletion(BaseModel):
    """Rows by table; tables without any are left out."""

    model_config = ConfigDict(from_attributes=True)

    user_id: int
    username: str
    dry_run: bool
    deleted: dict[str, int] = Field(description="What goes with the user")
    cleared: dict[str, int] = Field(description="What stays, and no longer tells who made or changed it")
    kept: dict[str, int] = Field(description="What stays, with the user's name as text")
