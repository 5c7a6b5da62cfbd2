"""Bodies of the calls about operations, and the answer of a call that has started one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from fastapi import Request, Response, status
from pydantic import MISSING, BaseModel, ConfigDict, Field

from app.models.operation import OperationKind, OperationState
from app.operations.records import Item, OperationRecord
from app.preconditions import etag

# How long a client should wait before it looks how far the operation is.
RETRY_AFTER_SECONDS = 1


class OperationError(BaseModel):
    code: int = Field(description="Number from the error catalogue")
    message: str


class ImportAsked(BaseModel):
    """What an import was asked to do."""

    filename: str | None = Field(None, description="As the client called the file")
    on_existing: str | None = Field(None, description="What becomes of a row whose name is known")
    atomic: bool = False
    dry_run: bool = False
    encoding: str = "auto"
    ignore_unknown_columns: bool = False


class DeletionAsked(BaseModel):
    """What a deletion was asked to do."""

    instances: int = Field(description="How many ids were given")
    mode: str
    force: bool = False

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Self:
        return cls(
            instances=len(request["instance_ids"]), mode=request["mode"], force=bool(request.get("force", False))
        )


class SyncAsked(BaseModel):
    """What a sync was asked to do."""

    kinds: list[str]
    instances: int = Field(description="How many instances were chosen")


class ConnectionTestAsked(BaseModel):
    """What a test of connections was asked to do."""

    instances: int = Field(description="How many ids were given")

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Self:
        return cls(instances=len(request["instance_ids"]))


Asked = ImportAsked | DeletionAsked | SyncAsked | ConnectionTestAsked


class Operation(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 42,
                    "kind": "instance_import",
                    "state": "running",
                    "done": 15_000,
                    "total": 100_000,
                    "counts": {"created": 14_990, "invalid": 10},
                    "rate": 9_842.5,
                    "remaining_seconds": 8.6,
                    "attempt": 1,
                    "cancel_requested": False,
                    "error": None,
                    "space_id": 1,
                    "request": {
                        "filename": "fleet.csv",
                        "on_existing": "skip",
                        "atomic": False,
                        "dry_run": False,
                        "encoding": "auto",
                        "ignore_unknown_columns": False,
                    },
                    "created_by": 7,
                    "created_at": "2026-11-22T10:00:00Z",
                    "started_at": "2026-11-22T10:00:00.104Z",
                    "finished_at": None,
                }
            ]
        }
    )

    id: int
    kind: OperationKind
    state: OperationState
    done: int = Field(description="Rows or ids that have an item, as noted twice a second")
    total: int
    counts: dict[str, int] = Field(description="Items by status")
    rate: float | None = Field(description="Items a second; null before the first")
    remaining_seconds: float | None = Field(description="How long the rest takes at this rate; null unless it runs")
    attempt: int = Field(description="How many workers have taken it")
    cancel_requested: bool
    error: OperationError | None = Field(description="Why it could not be gone on with")
    space_id: int | None = Field(description="The one that it works in; null where it works in several")
    request: Asked
    sync_session_id: int | MISSING = Field(MISSING, description="Of a sync: where its records are")
    created_by: int | None = Field(description="The user whose it is; null for what a schedule started")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, record: OperationRecord) -> Self:
        return cls(
            id=record.id,
            kind=record.kind,
            state=record.state,
            done=record.done,
            total=record.total,
            counts=dict(record.counts),
            rate=_rounded(record.rate),
            remaining_seconds=_rounded(record.remaining_seconds),
            attempt=record.attempt,
            cancel_requested=record.cancel_requested,
            error=None if record.error is None else OperationError.model_validate(record.error),
            space_id=record.space_id,
            request=_asked(record),
            sync_session_id=record.request.get("sync_session_id", MISSING),
            created_by=record.user_id,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
        )


class ItemProblem(BaseModel):
    """Why a row was not applied as it stands."""

    column: str | MISSING | None = MISSING
    code: str
    message: str
    value: str | MISSING | None = MISSING


class ItemBlocker(BaseModel):
    code: str
    message: str
    count: int | MISSING | None = MISSING


class ServerError(BaseModel):
    """Why a server could not be connected to or asked, or was not."""

    kind: str = Field(description="Such as `refused`, `timed_out`, `sign_in_refused`, `permission_missing`, `disabled`")
    message: str = Field(description="What the server or the system said")
    hint: str = Field(description="What to look at")
    server_code: str | None = Field(description="SQLSTATE or the server's error number")


class SyncedKind(BaseModel):
    """What a sync of one kind did: counts as its record has them, or why there are none."""

    found: int | MISSING = MISSING
    created: int | MISSING = MISSING
    updated: int | MISSING = MISSING
    removed: int | MISSING = MISSING
    unchanged: int | MISSING = MISSING
    milliseconds: int | None
    error: ServerError | MISSING = MISSING


class OperationItem(BaseModel):
    """What became of one row or id. The instance that it names may be gone."""

    position: int = Field(description="The line of the file, or 1 for the first id")
    line: int | MISSING = Field(MISSING, description="The same, of an import")
    name: str | None
    status: str
    instance_id: int | None
    errors: list[ItemProblem] | MISSING = Field(MISSING, description="Of an import's row that is not as it should be")
    blockers: list[ItemBlocker] | MISSING = Field(MISSING, description="What keeps an instance from being deleted")
    rows_deleted: dict[str, int] | MISSING = Field(MISSING, description="By table, what went with the instance")
    error: OperationError | ServerError | MISSING = Field(MISSING, description="Why it failed")
    retryable: bool | MISSING = Field(MISSING, description="Whether another try can help")
    kinds: dict[str, SyncedKind] | MISSING = Field(MISSING, description="Of a sync: accounts, capacity, settings")
    unreachable_since: datetime | MISSING = Field(MISSING, description="Since when nobody reaches the server")
    version: str | MISSING = Field(MISSING, description="Of a connection test: the server's own")
    round_trip_ms: float | MISSING = Field(MISSING, description="Of a connection test: how long a question took")

    @classmethod
    def of(cls, item: Item, kind: OperationKind) -> Self:
        own = {"position": item.position, "name": item.name, "status": item.status, "instance_id": item.instance_id}
        if kind is OperationKind.INSTANCE_IMPORT:
            own["line"] = item.position
        return cls.model_validate({**(item.detail or {}), **own})


def accepted(operation: OperationRecord, request: Request) -> Response:
    """202 with the operation, and where and when to look how far it is."""
    headers = {
        "Location": request.url_for("get_operation", operation_id=operation.id).path,
        "Retry-After": str(RETRY_AFTER_SECONDS),
        "ETag": etag(operation.revision),
    }
    body = Operation.of(operation).model_dump_json()
    return Response(body, status.HTTP_202_ACCEPTED, headers, "application/json")


def _asked(record: OperationRecord) -> Asked:
    """Without the long lists of ids."""
    match record.kind:
        case OperationKind.INSTANCE_IMPORT:
            return ImportAsked.model_validate(record.request)
        case OperationKind.INSTANCE_DELETION:
            return DeletionAsked.of(record.request)
        case OperationKind.INSTANCE_SYNC:
            return SyncAsked(kinds=record.request["kinds"], instances=record.total)
        case OperationKind.CONNECTION_TEST:
            return ConnectionTestAsked.of(record.request)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
