"""The tables. Importing this package loads the whole metadata."""

from app.models import (
    audit,
    capacity,
    credential,
    idempotency,
    instance,
    inventory,
    notification,
    operation,
    role,
    space,
    sync,
    tag,
    upload,
    user,
)
from app.models.base import Base

__all__ = [
    "Base",
    "audit",
    "capacity",
    "credential",
    "idempotency",
    "instance",
    "inventory",
    "notification",
    "operation",
    "role",
    "space",
    "sync",
    "tag",
    "upload",
    "user",
]
