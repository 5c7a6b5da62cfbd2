"""What every table shares: the naming convention, the column types that differ between databases, timestamps."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Enum, ForeignKey, Integer, MetaData, String, Table, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from app.caller import current_user_id


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite has no such type and keeps the text of a naive one, to which the zone is given back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


# SQLite makes only INTEGER PRIMARY KEY an alias of the row id.
Id = BigInteger().with_variant(Integer(), "sqlite")
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def enum_column(kind: type[Any]) -> Enum:
    """A StrEnum stored as its value in a plain string column (a native type would outlive a downgrade)."""
    return Enum(kind, native_enum=False, length=32, values_callable=lambda members: [each.value for each in members])


def utc_now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def table_of(model: type[Base]) -> Table:
    """The model's table, for Core statements (the attribute's declared type is wider)."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


class Timestamped:
    """`created_at` and `updated_at`, also for statements that name neither; `onupdate` covers ORM and Core updates."""

    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        UtcDateTime, default=utc_now, onupdate=utc_now, server_default=func.now()
    )


class Traced:
    """Who made and last changed a row, by user id; null for the service itself, and once the user is deleted.

    Not foreign keys: these would be looked up for every row that an import writes. Instead a trigger on `users` sets
    them to null; a test compares what it covers with the tables that have these columns.
    """

    created_by: Mapped[int | None] = mapped_column(Id, default=current_user_id)
    updated_by: Mapped[int | None] = mapped_column(Id, default=current_user_id, onupdate=current_user_id)


class OwnedBySpace:
    """Rows of a tenant: whoever may not see the space sees none of them (app.access.tenancy)."""

    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="RESTRICT"))


Name = String(100)
