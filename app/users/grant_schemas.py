"""Bodies of the calls about who holds which role."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import FieldError
from app.fields import ResourceId
from app.users.role_schemas import RoleName

MAX_GRANTS = 1_000


class RoleToGive(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"role": "operator", "space_id": 1}})

    role: RoleName | None = Field(None, description="The role's name; or give its `role_id`")
    role_id: ResourceId | None = None
    space_id: ResourceId | None = Field(None, description="Where; null is everywhere")

    @model_validator(mode="after")
    def _names_one_role(self) -> Self:
        if (self.role is None) == (self.role_id is None):
            raise FieldError("required", "give either role or role_id")
        return self


RolesToGive = Annotated[
    list[RoleToGive],
    Field(max_length=MAX_GRANTS, examples=[[{"role": "viewer", "space_id": None}]]),
]


class HeldRole(BaseModel):
    """A role that a user holds."""

    model_config = ConfigDict(from_attributes=True)

    role_id: int
    role: str
    space_id: int | None = Field(description="Where; null is everywhere")
