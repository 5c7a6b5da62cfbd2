"""Operations as rows, without anybody who works on them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from app.models.operation import OperationState
from tests.factories import Registry

IMPORT: Mapping[str, Any] = {
    "kind": "instance_import",
    "request": {"filename": "fleet.csv", "on_existing": "update", "atomic": False, "dry_run": False},
}
DELETION: Mapping[str, Any] = {
    "kind": "instance_deletion",
    "request": {"instance_ids": [4, 5, 6], "mode": "hard", "force": True, "plan": None},
}
PERMISSIONS = ("instance:create", "instance:delete", "instance:purge")


async def operation_of(registry: Registry, user_id: int, items: tuple[str, ...] = (), **values: Any) -> int:
    """A deletion of three instances, unless told otherwise, with items of these statuses; it has ended as partial."""
    counts = {status: items.count(status) for status in sorted(set(items))}
    state = values.get("state", "partial")
    defaults: dict[str, Any] = {
        **DELETION,
        "state": "partial",
        "origin": {
            "method": "POST",
            "path": "/api/v1/instances/batch-delete",
            "address": None,
            "request_id": "r",
            "actor_name": "somebody",
            "api_key_prefix": None,
            "permissions": list(PERMISSIONS),
        },
        "batch_id": uuid4(),
        "total": 3,
        "done": len(items),
        "counts": counts,
        "finished_at": datetime.now(UTC) if OperationState(state).is_end else None,
    }
    operation_id = int(await registry.insert("operations", user_id=user_id, **defaults | values))
    for position, status in enumerate(items, 1):
        await item_of(registry, operation_id, position, status)
    return operation_id


async def item_of(registry: Registry, operation_id: int, position: int, status: str, **values: Any) -> None:
    row = {"operation_id": operation_id, "position": position, "status": status, "name": f"name-{position}"}
    await registry.insert("operation_items", **row | values)
