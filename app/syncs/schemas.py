"""Bodies of the calls about syncs."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.errors import FieldError
from app.fields import ResourceId, SearchText
from app.instances.records import InstanceFilter
from app.instances.schemas import DatabaseTypeField, EnvironmentField, Tags
from app.models.sync import SyncKind, SyncState, SyncTrigger
from app.syncs.records import SessionRecord, SyncProgress, SyncRequest

ALL_KINDS = tuple(SyncKind)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Kinds = Annotated[
    tuple[SyncKind, ...],
    Field(min_length=1, max_length=20, description="By default all; repeated ones count once", examples=[["accounts"]]),
]


class InstanceSelection(BaseModel):
    """Which active instances are meant: the filters of `GET /instances`, of which all must match."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"db_type": "postgresql", "tag": ["tier-1"]}]}
    )

    q: SearchText | None = Field(None, description="Substring of name or host, in any case")
    db_type: DatabaseTypeField | None = None
    environment: EnvironmentField | None = None
    tag: Annotated[Tags, BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None)] = Field(
        (), description="Name of a tag; with several, all must match"
    )
    credential_id: ResourceId | None = None

    def as_filter(self) -> InstanceFilter:
        return InstanceFilter(self.q, self.db_type, self.environment, None, self.tag, self.credential_id)


class SyncSelection(InstanceSelection):
    """The same, of one space."""

    space_id: ResourceId | None = Field(None, description="By default your only space, or `default`")

    def as_filter(self) -> InstanceFilter:
        return replace(super().as_filter(), space_id=self.space_id)


class InstanceSyncBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"kinds": ["accounts", "capacity", "settings"]}]}
    )

    kinds: Kinds = ALL_KINDS


class SyncBody(BaseModel):
    """Either ids, all of one space, or a filter."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"instance_ids": [1, 2], "kinds": ["accounts"]},
                {"filter": {"environment": "production", "tag": ["tier-1"]}},
            ]
        },
    )

    instance_ids: Annotated[list[ResourceId], Field(min_length=1, description="Repeated ids count once")] | None = None
    filter: SyncSelection | None = None
    kinds: Kinds = ALL_KINDS

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.instance_ids is None) == (self.filter is None):
            raise FieldError("required", "name instance_ids or a filter, one of the two")
        return self

    def request(self) -> SyncRequest:
        wanted = None if self.filter is None else self.filter.as_filter()
        return SyncRequest(instance_ids=self.instance_ids, filter=wanted, kinds=self.kinds)


class Sync(BaseModel):
    """A session: one sync of one or many instances."""

    id: int
    space_id: int
    operation_id: int | None = Field(description="What does it; it may be removed before the session is")
    kinds: list[SyncKind]
    trigger: SyncTrigger
    state: SyncState
    done: int | None = Field(description="Instances that are done with, as noted twice a second")
    total: int | None = Field(description="Instances; null, as `done`, once the operation is removed")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, record: SessionRecord) -> Self:
        return cls.model_validate({name: getattr(record, name) for name in Sync.model_fields})


class InstanceUnderWay(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    instance_id: int
    name: str
    host: str
    port: int
    started_at: datetime


class UnreachableInstance(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    instance_id: int
    name: str
    host: str
    port: int
    unreachable_since: datetime


class SyncDetail(Sync):
    """With how far it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 7,
                    "space_id": 1,
                    "operation_id": 42,
                    "kinds": ["accounts", "capacity", "settings"],
                    "trigger": "manual",
                    "state": "running",
                    "done": 120,
                    "total": 200,
                    "items": {"succeeded": 118, "failed": 2},
                    "records": {"succeeded": 354, "failed": 6, "running": 30},
                    "slowest": [
                        {
                            "instance_id": 17,
                            "name": "pg-orders-01",
                            "host": "orders-01.db.example",
                            "port": 5432,
                            "started_at": "2026-11-22T10:00:01Z",
                        }
                    ],
                    "unreachable": [],
                    "unreachable_count": 0,
                    "created_at": "2026-11-22T10:00:00Z",
                    "started_at": "2026-11-22T10:00:00.104Z",
                    "finished_at": None,
                }
            ]
        }
    )

    items: dict[str, int] | None = Field(description="Instances by what became of them: succeeded, partial, failed, …")
    records: dict[SyncState, int] = Field(description="Records, one for each instance and kind, by state")
    slowest: list[InstanceUnderWay] = Field(description="Under way at this moment, the longest first; at most ten")
    unreachable: list[UnreachableInstance] = Field(description="Could not be reached, the longest first; at most ten")
    unreachable_count: int

    @classmethod
    def with_progress(cls, record: SessionRecord, progress: SyncProgress) -> Self:
        told = {name: getattr(progress, name) for name in ("records", "slowest", "unreachable", "unreachable_count")}
        own = {name: getattr(record, name) for name in (*Sync.model_fields, "items")}
        return cls.model_validate(own | told, from_attributes=True)


class SyncRecord(BaseModel):
    """What one sync of one kind did for one instance. The counts are accounts, databases or settings; a database of
    another size than was last recorded is an updated one."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": 71,
                    "instance_id": 17,
                    "instance_name": "pg-orders-01",
                    "kind": "accounts",
                    "state": "succeeded",
                    "found": 60,
                    "created": 1,
                    "updated": 2,
                    "removed": 0,
                    "unchanged": 57,
                    "milliseconds": 48,
                    "error_kind": None,
                    "error": None,
                    "server_code": None,
                    "unreachable_since": None,
                    "started_at": "2026-11-22T10:00:01Z",
                    "finished_at": "2026-11-22T10:00:01.048Z",
                }
            ]
        },
    )

    id: int
    instance_id: int
    instance_name: str
    kind: SyncKind
    state: SyncState
    found: int
    created: int
    updated: int
    removed: int
    unchanged: int
    milliseconds: int | None = Field(description="From connecting to the last row written, without other kinds' part")
    error_kind: str | None = Field(description="Such as `refused`, `timed_out`, `sign_in_refused`, `no_credential`")
    error: str | None = Field(description="What the server or the system said")
    server_code: str | None = Field(description="SQLSTATE or the server's error number")
    unreachable_since: datetime | None = Field(description="Since when nobody reaches the endpoint")
    started_at: datetime | None
    finished_at: datetime | None
