"""Bodies of the calls about permissions and roles."""

from datetime import datetime
from typing import Annotated

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.access.permissions import Permission
from app.fields import Description, one_line

MAX_ROLE_NAME_CHARACTERS = 100
MAX_LISTED_PERMISSIONS = 1_000


def _name(text: str) -> str:
    return one_line("name", text)


def _distinct(permissions: tuple[Permission, ...]) -> tuple[Permission, ...]:
    return tuple(sorted(set(permissions)))


RoleName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_ROLE_NAME_CHARACTERS),
    AfterValidator(_name),
]
Permissions = Annotated[
    tuple[Permission, ...],
    Field(max_length=MAX_LISTED_PERMISSIONS, description="Names from `GET /permissions`; you must hold each yourself"),
    AfterValidator(_distinct),
]


class PermissionShown(BaseModel):
    model_config = ConfigDict(from_attributes=True, title="Permission")

    name: str
    description: str


class RoleCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "registrar",
                "description": "Registers instances, and nothing else",
                "permissions": ["instance:read", "instance:create", "tag:read"],
            }
        },
    )

    name: Annotated[RoleName, Field(description="Unique; without control characters")]
    description: Description | None = None
    permissions: Permissions


class RoleChange(BaseModel):
    """What is absent stays as it is; null clears the description. The list of permissions is replaced as a whole."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"permissions": ["instance:read", "tag:read"]}}
    )

    name: RoleName | MISSING = MISSING
    description: Description | MISSING | None = MISSING
    permissions: Permissions | MISSING = MISSING


class Role(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    description: str | None
    is_builtin: bool = Field(description="Cannot be changed or deleted")
    permissions: list[str]
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None
