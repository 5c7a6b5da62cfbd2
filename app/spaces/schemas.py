"""Bodies of the space calls."""

from datetime import datetime
from functools import partial
from typing import Annotated, Self

from pydantic import MISSING, AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic import model_validator as model_rule

from app.errors import FieldError
from app.fields import Description, ResourceId, one_line

MAX_SPACE_NAME_CHARACTERS = 100
MAX_QUOTA = 2**31 - 1
MAX_MEMBER_ROLES = 100

SpaceName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_SPACE_NAME_CHARACTERS),
    AfterValidator(partial(one_line, "name")),
    Field(description="Unique; without control characters"),
]
Quota = Annotated[int, Field(ge=0, le=MAX_QUOTA)]
InstanceQuota = Annotated[Quota, Field(description="How many instances, deleted ones not counted; null is no limit")]
RowQuota = Annotated[Quota, Field(description="How many rows of one import; null is no limit")]
ArchivedAt = Annotated[AwareDatetime, Field(description="Any moment archives the space now; null brings it back")]


class SpaceCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "payments", "description": "The payment teams", "quota_instances": 500}},
    )

    name: SpaceName
    description: Description | None = None
    quota_instances: InstanceQuota | None = None
    quota_rows: RowQuota | None = None


class SpaceChange(BaseModel):
    """What is absent stays as it is; null clears a description or lifts a quota."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"quota_rows": 10000}})

    name: SpaceName | MISSING = MISSING
    description: Description | MISSING | None = MISSING
    quota_instances: InstanceQuota | MISSING | None = MISSING
    quota_rows: RowQuota | MISSING | None = MISSING
    archived_at: ArchivedAt | MISSING | None = MISSING


class Space(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    description: str | None
    quota_instances: int | None = Field(description="How many instances it takes; null is no limit")
    quota_rows: int | None = Field(description="How many rows of one import it takes; null is no limit")
    archived_at: datetime | None = Field(description="Since then nothing is added or changed in it")
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None


class SpaceCounts(BaseModel):
    """`members` hold a role in the space; who holds one everywhere is not counted."""

    model_config = ConfigDict(from_attributes=True)

    instances: int
    deleted_instances: int
    tags: int
    credentials: int
    members: int


class SpaceWithCounts(Space):
    counts: SpaceCounts


RoleReference = Annotated[ResourceId | Annotated[str, Field(min_length=1, max_length=100)], Field(union_mode="smart")]


class MemberRoles(BaseModel):
    """Either one `role` or several `roles`, each by name or id; they replace what the user has in the space."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"role": "viewer"}})

    role: RoleReference | None = None
    roles: Annotated[list[RoleReference], Field(min_length=1, max_length=MAX_MEMBER_ROLES)] | None = None

    @model_rule(mode="after")
    def _one_of_both(self) -> Self:
        if (self.role is None) == (self.roles is None):
            raise FieldError("required", "give either role or roles")
        return self

    def references(self) -> list[int | str]:
        return [self.role] if self.role is not None else list(self.roles or ())


class MemberRole(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str


class Member(BaseModel):
    """A user who holds roles in the space; who holds one everywhere is not listed."""

    model_config = ConfigDict(from_attributes=True)

    user_id: int
    username: str
    display_name: str | None
    is_active: bool
    roles: list[MemberRole]
