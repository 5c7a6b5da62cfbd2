"""Bodies of the calls about what syncs found."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.inventory.records import (
    MongodbMember,
    MysqlMember,
    OracleMember,
    PostgresqlMember,
    RedisMember,
    SqlserverMember,
)
from app.models.instance import DatabaseType
from app.models.inventory import AccountChangeType
from app.pagination import Page


class Classification(BaseModel):
    """A classification that an account is in."""

    id: int
    name: str


class Permissions(BaseModel):
    """An account's rights. They are these from `captured_at` on."""

    roles: list[str]
    global_privileges: list[str] = Field(description="On the whole server")
    database_privileges: dict[str, list[str]] = Field(description="By database")
    object_privileges: dict[str, list[str]] = Field(
        description="By `schema.table` or `schema.table.column`; below `database.` where databases hold schemas"
    )
    grantable_privileges: list[str] = Field(
        description="Those that it may grant to others, as `object: right`; `*` is the whole server"
    )
    captured_at: datetime


class Account(BaseModel):
    id: int
    username: str
    host: str = Field(description="MySQL's host part; empty elsewhere")
    is_superuser: bool
    can_login: bool = Field(description="False for a pure role")
    is_locked: bool
    authentication_method: str | None
    password_expires_at: datetime | None
    connection_limit: int | None = Field(description="Null is unlimited")
    attributes: dict[str, JsonValue] = Field(description="What else the server tells, by its own names")
    is_present: bool = Field(description="Whether the last sync saw it; if not, all else is as it was last seen")
    first_seen_at: datetime
    last_seen_at: datetime
    permissions: Permissions | None = Field(description="Null while no sync has read them")
    classifications: list[Classification]


class Database(BaseModel):
    """A database, or what the server has in its place: a Redis keyspace, an Oracle schema."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    owner: str | None
    character_set_name: str | None
    collation_name: str | None
    is_system: bool
    is_present: bool = Field(description="Whether the last sync saw it; if not, all else is as it was last seen")
    first_seen_at: datetime
    last_seen_at: datetime


class AttributeChange(BaseModel):
    before: JsonValue
    after: JsonValue


class Rights(BaseModel):
    """Rights that were given or taken; what is empty is left out."""

    roles: list[str] = []
    global_privileges: list[str] = []
    database_privileges: dict[str, list[str]] = {}
    object_privileges: dict[str, list[str]] = {}
    grantable_privileges: list[str] = []


class Changes(BaseModel):
    """What is empty is left out."""

    given: Rights = Rights()
    taken: Rights = Rights()
    changed: dict[str, AttributeChange] = {}


class AccountChange(BaseModel):
    id: int
    username: str
    host: str
    change_type: AccountChangeType
    diff: str = Field(
        description="A line for each right given or taken and each attribute changed",
        examples=["+ role auditor\n+ SELECT on shop.orders\n- DELETE on shop.orders"],
    )
    changes: Changes = Field(description="The same for a program, and all of it where the diff is cut")
    changed_at: datetime = Field(description="When the sync saw it")


class Setting(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    value: str


class SettingPage(Page[Setting]):
    captured_at: datetime | None = Field(
        None, description="Since when they are these; null when no sync has read any yet"
    )


class SettingChange(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    before: str
    after: str


class SettingsChange(BaseModel):
    """What a sync found changed since the one before, by the settings' names."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    captured_at: datetime
    added: dict[str, str]
    changed: dict[str, SettingChange]
    removed: dict[str, str]


class Member(BaseModel):
    """A place in replication or a cluster."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    db_type: DatabaseType
    seen_at: datetime
    place: MysqlMember | PostgresqlMember | RedisMember | MongodbMember | OracleMember | SqlserverMember = Field(
        description="With the names that its kind of server has for things"
    )
