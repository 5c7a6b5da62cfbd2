"""Bodies of the tag calls."""

from datetime import datetime
from typing import Annotated

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.fields import Description, ResourceId
from app.tags.names import MAX_TAG_CHARACTERS, tag_name

TagName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TAG_CHARACTERS),
    AfterValidator(tag_name),
    Field(description="Unique in the space; without `|`, `;` and control characters"),
]
Color = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, pattern="^#[0-9a-fA-F]{6}$"),
    Field(description="`#rrggbb`"),
]


class TagCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "on-call", "color": "#2f80ed", "description": "Pages somebody"}},
    )

    space_id: ResourceId | None = Field(None, description="By default the space named `default`")
    name: TagName
    color: Color | None = None
    description: Description | None = None


class TagChange(BaseModel):
    """What is absent stays as it is; null clears a color or a description."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"color": "#eb5757"}})

    name: TagName | MISSING = MISSING
    color: Color | MISSING | None = MISSING
    description: Description | MISSING | None = MISSING


class Tag(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    space_id: int
    name: str
    color: str | None
    description: str | None
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime
