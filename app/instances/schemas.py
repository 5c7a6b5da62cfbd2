"""Bodies of the instance calls. Their rules are those of fields.py: JSON and CSV accept and normalise the same."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import MISSING, AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from app.fields import ResourceId
from app.instances import fields
from app.instances.records import InstanceFields, InstanceStatus
from app.models.instance import DatabaseType, Environment, SyncPolicy, TlsMode

# Each rule takes text. What is neither text nor null is left to pydantic, which refuses or accepts it by its type;
# null, where a field has a default, is the empty text, which stands for the default.


def _db_type(value: object) -> object:
    return fields.db_type(value) if isinstance(value, str) else value


def _port(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return fields.optional_port(str(value)) if is_number or isinstance(value, str) else value


def _environment(value: object) -> object:
    return fields.environment(value or "") if isinstance(value, str | None) else value


def _sync_policy(value: object) -> object:
    return fields.sync_policy(value or "") if isinstance(value, str | None) else value


def _is_active(value: object) -> object:
    return fields.is_active(value or "") if isinstance(value, str | None) else value


def _deletion_protection(value: object) -> object:
    return fields.deletion_protection(value or "") if isinstance(value, str | None) else value


def _optional_tags(value: object) -> object:
    return () if value is None else value


def _database_name(value: str | None) -> str | None:
    return fields.database_name(value or "")


def _description(value: str | None) -> str | None:
    return fields.description(value or "")


def _tls_ca_file(value: str | None) -> str | None:
    return fields.tls_ca_file(value or "")


Name = Annotated[
    str,
    AfterValidator(fields.name),
    Field(description="Unique in the space among instances that are not deleted", examples=["pg-orders-01"]),
]
DatabaseTypeField = Annotated[
    DatabaseType,
    BeforeValidator(_db_type),
    Field(description="In any case; `postgres`, `pg` and `mssql` are aliases", examples=["postgresql"]),
]
Host = Annotated[
    str,
    AfterValidator(fields.host),
    Field(description="A host name, an IPv4 or an IPv6 address", examples=["orders-01.db.example"]),
]
Port = Annotated[
    Annotated[int, Strict()] | None,
    BeforeValidator(_port, json_schema_input_type=Annotated[int, Field(ge=fields.MIN_PORT, le=fields.MAX_PORT)] | None),
    Field(description="Null stands for the type's own", examples=[5432]),
]
DatabaseName = Annotated[
    str | None,
    AfterValidator(_database_name),
    Field(description="For Oracle the service name, which is part of the endpoint", examples=["orders"]),
]
Description = Annotated[str | None, AfterValidator(_description), Field(examples=["Primary of the order cluster"])]
EnvironmentField = Annotated[
    Environment,
    BeforeValidator(_environment, json_schema_input_type=Environment | None),
    Field(description="Null stands for production", examples=["staging"]),
]
CredentialId = Annotated[
    ResourceId | None, Field(description="A credential of the same space, or null for none", examples=[None])
]
TagName = Annotated[str, AfterValidator(fields.tag_name)]
Tags = Annotated[
    tuple[TagName, ...],
    BeforeValidator(_optional_tags, json_schema_input_type=list[str] | None),
    AfterValidator(fields.tag_names),
    Field(description="Names; those that the space does not have yet are made", examples=[["orders", "tier-1"]]),
]
SyncPolicyField = Annotated[
    SyncPolicy,
    BeforeValidator(_sync_policy, json_schema_input_type=SyncPolicy | None),
    Field(description="Null stands for off", examples=["daily"]),
]
IsActive = Annotated[
    bool, BeforeValidator(_is_active, json_schema_input_type=bool | None), Field(description="Null stands for true")
]
DeletionProtection = Annotated[
    bool,
    BeforeValidator(_deletion_protection, json_schema_input_type=bool | None),
    Field(description="A protected instance is not deleted by any call; null stands for false"),
]


TlsModeField = Annotated[
    TlsMode | None, Field(description="How the server is connected to; null stands for MUSTER_SYNC_TLS_MODE")
]
TlsCaFile = Annotated[
    str | None,
    AfterValidator(_tls_ca_file),
    Field(description="A file in MUSTER_TLS_CA_DIR; null stands for the system's own authorities"),
]


class InstanceCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "pg-orders-01",
                    "db_type": "postgresql",
                    "host": "orders-01.db.example",
                    "port": 5432,
                    "database_name": "orders",
                    "description": "Primary of the order cluster",
                    "environment": "production",
                    "tags": ["orders", "tier-1"],
                    "sync_policy": "daily",
                }
            ]
        },
    )

    space_id: ResourceId | None = Field(None, description="By default the space named `default`")
    name: Name
    db_type: DatabaseTypeField
    host: Host
    port: Port = None
    database_name: DatabaseName = None
    description: Description = None
    environment: EnvironmentField = Environment.PRODUCTION
    credential_id: CredentialId = None
    tags: Tags = ()
    sync_policy: SyncPolicyField = SyncPolicy.OFF
    is_active: IsActive = True
    deletion_protection: DeletionProtection = False
    tls_mode: TlsModeField = None
    tls_ca_file: TlsCaFile = None

    def fields(self) -> InstanceFields:
        return InstanceFields(**_with_port(self.model_dump(exclude={"space_id"}), self.db_type))


class InstanceChange(BaseModel):
    """What is absent stays as it is; null sets the default."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"description": "Replica of the order cluster", "environment": "staging"}]},
    )

    name: Name | MISSING = MISSING
    db_type: DatabaseTypeField | MISSING = MISSING
    host: Host | MISSING = MISSING
    port: Port | MISSING = MISSING
    database_name: DatabaseName | MISSING = MISSING
    description: Description | MISSING = MISSING
    environment: EnvironmentField | MISSING = MISSING
    credential_id: CredentialId | MISSING = MISSING
    tags: Tags | MISSING = MISSING
    sync_policy: SyncPolicyField | MISSING = MISSING
    is_active: IsActive | MISSING = MISSING
    deletion_protection: DeletionProtection | MISSING = MISSING
    tls_mode: TlsModeField | MISSING = MISSING
    tls_ca_file: TlsCaFile | MISSING = MISSING

    def applied_to(self, present: InstanceFields) -> InstanceFields:
        """The present fields with those that were sent. The port stays when only the type changes."""
        values = self.model_dump()
        return replace(present, **_with_port(values, values.get("db_type", present.db_type)))


def _with_port(values: dict[str, Any], kind: DatabaseType) -> dict[str, Any]:
    """The values, with the type's own port where the port is null."""
    if "port" in values and values["port"] is None:
        return values | {"port": fields.DEFAULT_PORT_BY_TYPE[kind]}
    return values


class Instance(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    space_id: int
    name: str
    db_type: DatabaseType
    host: str
    port: int
    database_name: str | None
    description: str | None
    environment: Environment
    credential_id: int | None
    tags: list[str] = Field(description="Names, sorted")
    sync_policy: SyncPolicy
    is_active: bool
    deletion_protection: bool
    tls_mode: TlsMode | None
    tls_ca_file: str | None
    version: str | None = Field(description="The server's own, as last seen")
    last_connected_at: datetime | None
    deleted_at: datetime | None = Field(description="Null for an instance that is not deleted")
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime
    created_by: int | None
    updated_by: int | None


class Statistics(BaseModel):
    """`status` counts all instances, everything else those that are not deleted. Tags of one name are one."""

    model_config = ConfigDict(from_attributes=True)

    total: int
    db_type: dict[DatabaseType, int]
    environment: dict[Environment, int]
    status: dict[InstanceStatus, int]
    tag: dict[str, int]


class BatchTagging(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"instance_ids": [1, 2], "add": ["tier-1"], "remove": ["legacy"]}]},
    )

    instance_ids: Annotated[list[ResourceId], Field(min_length=1, description="Repeated ids count once")]
    add: Tags = ()
    remove: Tags = ()


class BatchTaggingReport(BaseModel):
    """`missing` are ids of no instance, or of a deleted one; they stop nothing."""

    model_config = ConfigDict(from_attributes=True)

    updated: int
    unchanged: int
    missing: list[int]
    tags_created: int
