"""Bodies of the calls about API keys."""

from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from app.errors import FieldError
from app.models.base import utc_now
from app.users.role_schemas import Permissions, RoleName

MAX_LIFETIME_DAYS = 3650


def _ahead(moment: datetime) -> datetime:
    now = utc_now()
    if not now < moment <= now + timedelta(days=MAX_LIFETIME_DAYS):
        raise FieldError("out_of_range", f"expires_at must lie ahead, by at most {MAX_LIFETIME_DAYS} days")
    return moment


class ApiKeyCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "nightly import", "scopes": ["instance:create", "tag:create"], "expires_in_days": 90}
        },
    )

    name: Annotated[RoleName, Field(description="Unique among your keys")]
    scopes: Permissions | None = Field(
        None, description="What of your permissions it has; by default, all that you hold now"
    )
    expires_at: Annotated[AwareDatetime, AfterValidator(_ahead)] | None = Field(
        None, description="By default never; at most ten years from now"
    )
    expires_in_days: Annotated[int, Field(ge=1, le=MAX_LIFETIME_DAYS)] | None = Field(
        None, description="Instead of `expires_at`"
    )

    @model_validator(mode="after")
    def _expires_once(self) -> Self:
        if self.expires_at is not None and self.expires_in_days is not None:
            raise FieldError("ambiguous", "give either expires_at or expires_in_days")
        return self

    @property
    def expiry(self) -> datetime | None:
        if self.expires_in_days is not None:
            return utc_now() + timedelta(days=self.expires_in_days)
        return self.expires_at


class ApiKey(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    prefix: str = Field(description="How the key begins, to tell keys apart")
    scopes: list[str] = Field(description="Of these it has what its owner holds at the time of a call")
    expires_at: datetime | None
    is_expired: bool
    last_used_at: datetime | None = Field(description="To the minute")
    created_at: datetime


class NewApiKey(ApiKey):
    key: str = Field(description="The key itself, for `X-API-Key`. It is shown this once, and stored nowhere")
