"""Users, how they sign in, and their API keys. Whatever belongs to a user goes with the user."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, Id, Json, Name, Timestamped, Traced, UtcDateTime, enum_column, utc_now
from app.models.idempotency import IdempotencyKey
from app.models.notification import Notification
from app.models.operation import Operation
from app.models.role import RoleGrant


class SessionEnd(StrEnum):
    LOGOUT = "logout"
    REUSE = "reuse"
    PASSWORD = "password"  # noqa: S105 - why it ended
    DISABLED = "disabled"


class User(Traced, Timestamped, Base):
    """`username` is stored in lower case. Tokens issued before a session's end are worth nothing after it."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("username"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    username: Mapped[str] = mapped_column(Name)
    password_hash: Mapped[str] = mapped_column(String(255), doc="argon2id, in PHC string form; never shown")
    email: Mapped[str | None] = mapped_column(String(254))
    display_name: Mapped[str | None] = mapped_column(Name)
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    password_changed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revision: Mapped[int] = mapped_column(Integer, default=1, server_default="1")

    sessions: Mapped[list["UserSession"]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, lazy="raise"
    )
    api_keys: Mapped[list["ApiKey"]] = relationship(cascade="all, delete-orphan", passive_deletes=True, lazy="raise")
    grants: Mapped[list[RoleGrant]] = relationship(cascade="all, delete-orphan", passive_deletes=True, lazy="raise")
    notifications: Mapped[list[Notification]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, lazy="raise"
    )
    operations: Mapped[list[Operation]] = relationship(cascade="all, delete-orphan", passive_deletes=True, lazy="raise")
    idempotency_keys: Mapped[list[IdempotencyKey]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, lazy="raise"
    )


class UserSession(Base):
    """One signing-in and what followed from it: a family of refresh tokens, of which one can be used, once."""

    __tablename__ = "user_sessions"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    address: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    end_reason: Mapped[SessionEnd | None] = mapped_column(enum_column(SessionEnd))

    refresh_tokens: Mapped[list["RefreshToken"]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, lazy="raise"
    )


class RefreshToken(Base):
    """A used one stays until it has expired, so that using it again can be told from nonsense."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (UniqueConstraint("token_hash"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("user_sessions.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64), doc="SHA-256, hexadecimal")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ApiKey(Base):
    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("key_hash"),
        Index("uq_api_keys_user_id_name", "user_id", "name", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Name)
    prefix: Mapped[str] = mapped_column(String(16), doc="How the key begins; enough to tell keys apart")
    key_hash: Mapped[str] = mapped_column(String(64), doc="SHA-256 of the key, hexadecimal")
    scopes: Mapped[list[str]] = mapped_column(Json, doc="Permissions, of which the owner must hold each all the same")
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="To the minute")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class SignInFailure(Base):
    """Failures of one account from one address, whether or not there is such an account.

    A name that somebody typed may be a password by mistake, so its SHA-256 is kept.
    """

    __tablename__ = "sign_in_failures"

    username: Mapped[str] = mapped_column(Name, primary_key=True, doc="SHA-256 of the name in its one form")
    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    first_failed_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
