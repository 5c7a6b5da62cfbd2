"""Spaces: the tenants that own instances, credentials and tags."""

from sqlalchemy import String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Name, Timestamped

DEFAULT_SPACE_NAME = "default"


class Space(Timestamped, Base):
    __tablename__ = "spaces"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    description: Mapped[str | None] = mapped_column(String(500))
