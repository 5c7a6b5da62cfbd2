"""Tags, and which instance carries which."""

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Name, OwnedBySpace, Timestamped, Traced


class Tag(OwnedBySpace, Traced, Timestamped, Base):
    __tablename__ = "tags"
    __table_args__ = (Index("uq_tags_space_id_name", "space_id", "name", unique=True), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    color: Mapped[str | None] = mapped_column(String(7), doc="#rrggbb")
    description: Mapped[str | None] = mapped_column(String(500))
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")


class InstanceTag(Base):
    __tablename__ = "instance_tags"

    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True)
    # Restricting, so that a tag cannot vanish from instances that got it while somebody was deleting an unused one.
    tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id", ondelete="RESTRICT"), primary_key=True, index=True)
