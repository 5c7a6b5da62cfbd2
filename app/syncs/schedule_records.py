"""Schedules, as they pass between layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from app.instances.records import InstanceFilter
from app.models.instance import DatabaseType, Environment
from app.models.sync import SyncKind


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """`filter` is that of GET /instances, without the empty ones; it selects active instances of the space."""

    id: int
    space_id: int
    name: str
    cron: str
    timezone: str
    kinds: Sequence[str]
    filter: Mapping[str, Any]
    paused: bool
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_operation_id: int | None
    revision: int
    created_at: datetime
    updated_at: datetime


class ScheduleValues(TypedDict, total=False):
    """What a client sets."""

    name: str
    cron: str
    timezone: str
    kinds: list[str]
    filter: dict[str, Any]
    paused: bool


@dataclass(frozen=True, slots=True)
class ScheduleFilter:
    """None is any."""

    space_id: int | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class SchedulePage:
    items: Sequence[ScheduleRecord]
    next_cursor: str | None
    total: int | None


def filter_as_json(wanted: InstanceFilter) -> dict[str, Any]:
    values = {
        "q": wanted.q,
        "db_type": wanted.db_type,
        "environment": wanted.environment,
        "tag": list(wanted.tags),
        "credential_id": wanted.credential_id,
    }
    return {name: value for name, value in values.items() if value}


def filter_of(stored: Mapping[str, Any], space_id: int) -> InstanceFilter:
    db_type, environment = stored.get("db_type"), stored.get("environment")
    return InstanceFilter(
        q=stored.get("q"),
        db_type=None if db_type is None else DatabaseType(db_type),
        environment=None if environment is None else Environment(environment),
        tags=tuple(stored.get("tag", ())),
        credential_id=stored.get("credential_id"),
        space_id=space_id,
    )


def kinds_of(stored: Sequence[str]) -> tuple[SyncKind, ...]:
    return tuple(SyncKind(each) for each in stored)
