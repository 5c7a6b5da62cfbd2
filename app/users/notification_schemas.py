"""Bodies of the calls about notifications."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Notification(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str = Field(description="A word for programs, such as `api_key_revoked`")
    title: str
    body: str | None
    resource_type: str | None = Field(description="What it speaks of, which may be gone")
    resource_id: int | None
    created_at: datetime
    read_at: datetime | None = Field(description="Null while it is unread")


class MarkedRead(BaseModel):
    marked: int = Field(description="How many were unread")
