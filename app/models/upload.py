"""Uploaded files that wait to be worked on: in a directory that every worker sees, or in pieces in the database."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UtcDateTime, utc_now


class Upload(Base):
    """The content is immutable, and removed with this row."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, doc="Random, hexadecimal; names the file too")
    filename: Mapped[str | None] = mapped_column(String(255), doc="As the client called it")
    size: Mapped[int] = mapped_column(BigInteger, doc="Bytes")
    sha256: Mapped[str] = mapped_column(String(64), doc="Of the content, hexadecimal")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, index=True)


class UploadPiece(Base):
    """A piece of the content, where no directory is shared."""

    __tablename__ = "upload_pieces"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
