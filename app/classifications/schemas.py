"""Bodies of the calls about classifications."""

from datetime import datetime
from typing import Annotated, Any, cast

from pydantic import MISSING, BaseModel, ConfigDict, Field, StringConstraints

from app.classifications.records import ClassificationValues
from app.classifications.service import MAX_PREVIEW_ITEMS
from app.fields import Description, ResourceId

_CAN_WRITE: Any = {
    "all": [
        {"db_type_in": ["mysql", "postgresql"]},
        {"any": [{"is_superuser": True}, {"has_privilege": {"privilege": "INSERT", "on": "orders*"}}]},
        {"not": {"name_matches": "app_*"}},
    ]
}

ClassName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="Unique in the space", examples=["can write orders"]),
]
RuleBody = Annotated[
    dict[str, Any],
    Field(
        description="`all`, `any` and `not` over `db_type_in`, `is_superuser`, `has_role`, `has_privilege` and "
        "`name_matches`; patterns are those of a shell",
        examples=[_CAN_WRITE],
    ),
]
Priority = Annotated[int, Field(ge=0, le=1_000_000, description="Lower ones come first where a class is shown")]


class ClassificationCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "can write orders", "rule": _CAN_WRITE}]}
    )

    space_id: ResourceId | None = Field(None, description="By default your only space, or `default`")
    name: ClassName
    description: Description | None = None
    rule: RuleBody
    priority: Priority = 100
    is_enabled: bool = True

    def values(self) -> ClassificationValues:
        return cast("ClassificationValues", self.model_dump(exclude={"space_id"}))


class ClassificationChange(BaseModel):
    """What is absent stays as it is; null clears the description."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"is_enabled": False}]})

    name: ClassName | MISSING = MISSING
    description: Description | MISSING | None = MISSING
    rule: RuleBody | MISSING = MISSING
    priority: Priority | MISSING = MISSING
    is_enabled: bool | MISSING = MISSING

    def values(self) -> ClassificationValues:
        return cast("ClassificationValues", self.model_dump())


class Classification(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    space_id: int
    name: str
    description: str | None
    rule: dict[str, Any]
    rule_version: int = Field(description="Rises with every other rule; what was assigned names the one that matched")
    priority: int
    is_enabled: bool
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime


class ClassificationVersion(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    rule_version: int
    rule: dict[str, Any]
    created_at: datetime


class Evaluation(BaseModel):
    """A rule to be tried."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rule": _CAN_WRITE, "limit": 20}]})

    space_id: ResourceId | None = Field(None, description="By default your only space, or `default`")
    rule: RuleBody
    limit: int = Field(100, ge=0, le=MAX_PREVIEW_ITEMS, description="So many of the accounts are shown")


class EvaluatedAccount(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    instance_id: int
    instance_name: str
    db_type: str
    username: str
    host: str
    is_superuser: bool


class EvaluationReport(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "accounts": 1200,
                    "matched": 1,
                    "items": [
                        {
                            "instance_id": 17,
                            "instance_name": "pg-orders-01",
                            "db_type": "postgresql",
                            "username": "vera",
                            "host": "",
                            "is_superuser": True,
                        }
                    ],
                }
            ]
        },
    )

    accounts: int = Field(description="How many were looked at: those that the last syncs saw")
    matched: int
    items: list[EvaluatedAccount] = Field(description="The first of those that match")
