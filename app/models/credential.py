"""Credentials: what instances are reached with. The password is stored encrypted and never read back by a client."""

from enum import StrEnum

from sqlalchemy import Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Id, Name, OwnedBySpace, Timestamped, Traced, enum_column


class CredentialType(StrEnum):
    DATABASE = "database"
    SSH = "ssh"
    API = "api"


class Credential(OwnedBySpace, Traced, Timestamped, Base):
    __tablename__ = "credentials"
    __table_args__ = (
        Index("uq_credentials_space_id_name", "space_id", "name", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    type: Mapped[CredentialType] = mapped_column(enum_column(CredentialType))
    username: Mapped[str | None] = mapped_column(String(255))
    encrypted_password: Mapped[str | None] = mapped_column(Text, doc="Fernet token (URL-safe base64)")
    description: Mapped[str | None] = mapped_column(String(500))
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
