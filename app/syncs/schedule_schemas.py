"""Bodies of the calls about schedules."""

from datetime import datetime
from typing import Annotated, Self, cast

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.fields import ResourceId
from app.models.sync import SyncKind
from app.syncs.cron import MAX_CRON_CHARACTERS, cron_expression
from app.syncs.schedule_records import ScheduleRecord, ScheduleValues, filter_as_json
from app.syncs.schedule_service import upcoming
from app.syncs.schemas import ALL_KINDS, InstanceSelection, Kinds

NEXT_RUNS = 5

ScheduleName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="Unique in the space", examples=["nightly"]),
]
CronText = Annotated[
    str,
    StringConstraints(max_length=2 * MAX_CRON_CHARACTERS),
    AfterValidator(cron_expression),
    Field(description="Minute, hour, day of month, month, day of week", examples=["0 3 * * 1-5"]),
]
Zone = Annotated[
    str, StringConstraints(max_length=64), Field(description="IANA name of a time zone", examples=["Europe/Berlin"])
]


class ScheduleCreation(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "nightly",
                    "cron": "0 3 * * *",
                    "timezone": "Europe/Berlin",
                    "kinds": ["accounts", "settings"],
                    "filter": {"environment": "production"},
                }
            ]
        },
    )

    space_id: ResourceId | None = Field(None, description="By default your only space, or `default`")
    name: ScheduleName
    cron: CronText
    timezone: Zone = "UTC"
    kinds: Kinds = ALL_KINDS
    filter: InstanceSelection = InstanceSelection()
    paused: bool = False

    def values(self) -> ScheduleValues:
        return _stored(self)


class ScheduleChange(BaseModel):
    """What is absent stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"paused": True}]})

    name: ScheduleName | MISSING = MISSING
    cron: CronText | MISSING = MISSING
    timezone: Zone | MISSING = MISSING
    kinds: Kinds | MISSING = MISSING
    filter: InstanceSelection | MISSING = MISSING
    paused: bool | MISSING = MISSING

    def values(self) -> ScheduleValues:
        return _stored(self)


class Schedule(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 3,
                    "space_id": 1,
                    "name": "nightly",
                    "cron": "0 3 * * *",
                    "timezone": "Europe/Berlin",
                    "kinds": ["accounts", "settings"],
                    "filter": {"environment": "production"},
                    "paused": False,
                    "next_runs": ["2026-11-23T02:00:00Z", "2026-11-24T02:00:00Z"],
                    "last_run_at": "2026-11-22T02:00:03Z",
                    "last_operation_id": 41,
                    "revision": 1,
                    "created_at": "2026-11-20T10:00:00Z",
                    "updated_at": "2026-11-20T10:00:00Z",
                }
            ]
        }
    )

    id: int
    space_id: int
    name: str
    cron: str
    timezone: str
    kinds: list[SyncKind]
    filter: dict[str, str | int | list[str]] = Field(description="Of `GET /instances`; it selects active instances")
    paused: bool
    next_runs: list[datetime] = Field(description=f"The next {NEXT_RUNS}; none while it is paused")
    last_run_at: datetime | None
    last_operation_id: int | None = Field(description="What the last run started")
    revision: int = Field(description="Rises with every change; the `ETag` is made from it")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, record: ScheduleRecord) -> Self:
        values = {name: getattr(record, name) for name in cls.model_fields if name != "next_runs"}
        return cls.model_validate(values | {"next_runs": upcoming(record, NEXT_RUNS)})


def _stored(body: ScheduleCreation | ScheduleChange) -> ScheduleValues:
    values = body.model_dump(include={"name", "cron", "timezone", "paused"})
    if isinstance(body.kinds, tuple):
        values["kinds"] = [kind.value for kind in SyncKind if kind in body.kinds]
    if isinstance(body.filter, InstanceSelection):
        values["filter"] = filter_as_json(body.filter.as_filter())
    return cast("ScheduleValues", values)
