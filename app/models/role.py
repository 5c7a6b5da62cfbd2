"""Permissions, the roles that bundle them, and who holds which role where."""

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Name, Timestamped, Traced

_everywhere = text("space_id IS NULL")


class PermissionRow(Base):
    """What `app.access.permissions` declares; a row that a role holds cannot be removed."""

    __tablename__ = "permissions"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    description: Mapped[str] = mapped_column(String(200))


class Role(Traced, Timestamped, Base):
    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    description: Mapped[str | None] = mapped_column(String(500))
    is_builtin: Mapped[bool] = mapped_column(default=False, server_default=false(), doc="Cannot be edited or deleted")
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")


class RolePermission(Base):
    __tablename__ = "role_permissions"

    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True)
    permission: Mapped[str] = mapped_column(
        ForeignKey("permissions.name", ondelete="RESTRICT"), primary_key=True, index=True
    )


class RoleGrant(Base):
    """A user holds a role in a space, or everywhere."""

    __tablename__ = "role_grants"
    __table_args__ = (
        Index("uq_role_grants_user_id_space_id_role_id", "user_id", "space_id", "role_id", unique=True),
        Index(
            "uq_role_grants_user_id_role_id_everywhere",
            "user_id",
            "role_id",
            unique=True,
            postgresql_where=_everywhere,
            sqlite_where=_everywhere,
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="RESTRICT"), index=True)
    space_id: Mapped[int | None] = mapped_column(
        ForeignKey("spaces.id", ondelete="CASCADE"), index=True, doc="Null is everywhere"
    )
