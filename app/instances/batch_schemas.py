"""The shapes of batch calls, for validation and for the docs page. Reports are written as JSON by batch_report."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.fields import ResourceId
from app.instances.batch_report import BatchOutcome, RowStatus
from app.instances.cascade import DeletionMode
from app.instances.deletion_report import ItemStatus

Encoding = Literal[
    "auto", "utf-8", "utf8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk", "gb2312", "cp1252",
    "windows-1252", "latin-1", "iso-8859-1",
]  # fmt: skip


class RowErrorReport(BaseModel):
    column: str | None = None
    code: str
    message: str
    value: str | None = None


class RowReport(BaseModel):
    """`line` is the first line of the record as an editor shows it; the header is line 1."""

    line: int
    name: str | None
    status: RowStatus
    instance_id: int | None = None
    errors: list[RowErrorReport] = []


class CreationCounts(BaseModel):
    rows: int
    created: int
    updated: int
    unchanged: int
    skipped: int
    invalid: int
    failed: int


class BatchCreateReport(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outcome": "partial",
                    "dry_run": False,
                    "counts": {
                        "rows": 2, "created": 1, "updated": 0, "unchanged": 0, "skipped": 0, "invalid": 1, "failed": 0,
                    },
                    "encoding": "utf-8",
                    "delimiter": ",",
                    "items": [
                        {"line": 2, "name": "pg-01", "status": "created", "instance_id": 17},
                        {
                            "line": 3,
                            "name": "ora-01",
                            "status": "invalid",
                            "errors": [
                                {
                                    "column": "port",
                                    "code": "out_of_range",
                                    "message": "port must be 1 to 65535, not 99999",
                                    "value": "99999",
                                }
                            ],
                        },
                    ],
                }
            ]
        }
    )  # fmt: skip

    outcome: BatchOutcome
    dry_run: bool
    counts: CreationCounts
    encoding: str
    delimiter: str
    items: list[RowReport]


class PrecheckBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"instance_ids": [1, 2], "mode": "hard"}]}
    )

    instance_ids: Annotated[list[ResourceId], Field(min_length=1)]
    mode: DeletionMode = DeletionMode.SOFT


class BatchDeletion(PrecheckBody):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"instance_ids": [1, 2], "mode": "soft", "dry_run": True}]}
    )

    force: bool = False
    dry_run: bool = False
    plan_token: Annotated[str, Field(max_length=1_000_000, description="From a precheck of the same ids")] | None = None
    background: bool | Literal["auto"] = "auto"


class FoundBlocker(BaseModel):
    code: str
    message: str
    count: int | None = None


class PrecheckCounts(BaseModel):
    requested: int
    deletable: int
    blocked: int
    missing: int


class PrecheckItem(BaseModel):
    instance_id: int
    name: str
    rows: dict[str, int]
    blockers: list[FoundBlocker]


class PrecheckReport(BaseModel):
    """`rows` counts what hard deletion would remove, by table."""

    plan_token: str
    expires_at: datetime
    mode: DeletionMode
    counts: PrecheckCounts
    rows: dict[str, int]
    items: list[PrecheckItem]
    missing: list[int]


class ItemError(BaseModel):
    code: int
    message: str


class DeletedItem(BaseModel):
    """`rows_deleted` counts by table, without the instance's own row; `retryable`: another try can help."""

    instance_id: int
    name: str | None = None
    status: ItemStatus
    rows_deleted: dict[str, int] | None = None
    blockers: list[FoundBlocker] | None = None
    error: ItemError | None = None
    retryable: bool | None = None


class DeletionCounts(BaseModel):
    requested: int
    deleted: int
    missing: int
    blocked: int
    failed: int


class BatchDeleteReport(BaseModel):
    outcome: BatchOutcome
    mode: DeletionMode
    dry_run: bool
    counts: DeletionCounts
    rows_deleted: dict[str, int]
    items: list[DeletedItem]
