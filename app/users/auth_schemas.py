"""Bodies of the calls about signing in."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.users.grant_schemas import HeldRole
from app.users.schemas import NewPassword

MAX_USERNAME_CHARACTERS = 200
# More than any that we have accepted, so that a wrong one is told as such.
MAX_GIVEN_PASSWORD_CHARACTERS = 1_000
MAX_REFRESH_TOKEN_CHARACTERS = 200

# Whatever it holds: one that nobody can have is refused as one that nobody has.
GivenUsername = Annotated[str, Field(min_length=1, max_length=MAX_USERNAME_CHARACTERS)]
GivenPassword = Annotated[SecretStr, Field(min_length=1, max_length=MAX_GIVEN_PASSWORD_CHARACTERS)]


class SignInForm(BaseModel):
    """OAuth 2.0, password grant (RFC 6749, 4.3.2): what else belongs to it is taken and has no effect."""

    model_config = ConfigDict(hide_input_in_errors=True)

    username: GivenUsername
    password: GivenPassword
    grant_type: Literal["password"] | None = None
    scope: str = Field("", max_length=1_000, description="Has no effect, as do `client_id` and `client_secret`")
    client_id: str | None = Field(None, max_length=1_000)
    client_secret: SecretStr | None = Field(None, max_length=1_000)


class RefreshRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"example": {"refresh_token": "msr_…"}},
    )

    refresh_token: SecretStr = Field(min_length=1, max_length=MAX_REFRESH_TOKEN_CHARACTERS)


class PasswordChange(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "example": {"current_password": "seven quiet lighthouses", "new_password": "nine loud lighthouses"}
        },
    )

    current_password: GivenPassword
    new_password: NewPassword


class Tokens(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    access_token: str = Field(description="Send it as `Authorization: Bearer …`")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - what kind of token it is
    expires_in: int = Field(description="Seconds until the access token expires")
    refresh_token: str = Field(description="Can be exchanged once, by `POST /api/v1/auth/refresh`")
    refresh_expires_in: int = Field(description="Seconds until the refresh token expires")


class PermissionsInSpace(BaseModel):
    space_id: int | None = Field(description="Null is every space, those to come included")
    permissions: list[str] = Field(description="In order of name")


class Me(BaseModel):
    id: int
    username: str
    email: str | None
    display_name: str | None
    roles: list[HeldRole]
    permissions: list[PermissionsInSpace] = Field(
        description="What this call may do: with an API key, no more than its scopes"
    )
    api_key_prefix: str | None = Field(description="Of the API key that the call was made with; else null")
