"""The tables. Importing this package loads the whole metadata."""

from app.models import audit, capacity, credential, instance, inventory, space, sync, tag
from app.models.base import Base

__all__ = ["Base", "audit", "capacity", "credential", "instance", "inventory", "space", "sync", "tag"]
