"""Spaces: the tenants that own instances, credentials and tags."""

from datetime import datetime

from sqlalchemy import Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Name, Timestamped, Traced, UtcDateTime

DEFAULT_SPACE_NAME = "default"


class Space(Traced, Timestamped, Base):
    __tablename__ = "spaces"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    description: Mapped[str | None] = mapped_column(String(500))
    quota_instances: Mapped[int | None] = mapped_column(Integer, doc="Instances, not deleted; null is no limit")
    quota_rows: Mapped[int | None] = mapped_column(Integer, doc="Rows of one import; null is no limit")
    archived_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="Nothing is added or changed in it since")
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
