"""Capacity: measured sizes, one row for each object and day, and their aggregations.

The keys are natural (instance, object, date), so that a second measurement on a day updates the first, and so that the
tables can be partitioned by month. All sizes are bytes. `collected_on` is the day in UTC.
"""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Date, Float, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UtcDateTime, enum_column, utc_now


class AggregationPeriod(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


class Trend(StrEnum):
    GROWING = "growing"
    SHRINKING = "shrinking"
    STABLE = "stable"


class _BelowInstance:
    # First in the primary key, which so serves as the foreign key's index.
    instance_id: Mapped[int] = mapped_column(
        ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True, sort_order=-1
    )


class _Measured(_BelowInstance):
    collected_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class _Aggregated(_BelowInstance):
    average_bytes: Mapped[int] = mapped_column(BigInteger)
    maximum_bytes: Mapped[int] = mapped_column(BigInteger)
    minimum_bytes: Mapped[int] = mapped_column(BigInteger)
    growth_bytes: Mapped[int | None] = mapped_column(
        BigInteger, doc="Last minus first of the period; null with one day"
    )
    growth_percent: Mapped[float | None] = mapped_column(Float, doc="Of the period's first size; null when that is 0")
    trend: Mapped[Trend] = mapped_column(enum_column(Trend), doc="Growth beyond ±5 %, or stable")
    sample_count: Mapped[int] = mapped_column(Integer, doc="Days measured in the period")


class InstanceSizeStat(_Measured, Base):
    __tablename__ = "instance_size_stats"

    # Retention removes by date; the primary key begins with the instance.
    collected_on: Mapped[date] = mapped_column(Date, primary_key=True, index=True)
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    database_count: Mapped[int] = mapped_column(Integer)


class InstanceSizeAggregation(_Aggregated, Base):
    __tablename__ = "instance_size_aggregations"

    period: Mapped[AggregationPeriod] = mapped_column(enum_column(AggregationPeriod), primary_key=True)
    period_start: Mapped[date] = mapped_column(Date, primary_key=True, index=True)


class DatabaseSizeStat(_Measured, Base):
    __tablename__ = "database_size_stats"

    database_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    collected_on: Mapped[date] = mapped_column(Date, primary_key=True, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger, doc="pg_database_size(); MySQL: data plus index")
    data_bytes: Mapped[int | None] = mapped_column(BigInteger, doc="Where the server tells data from indexes")
    index_bytes: Mapped[int | None] = mapped_column(BigInteger)


class DatabaseSizeAggregation(_Aggregated, Base):
    __tablename__ = "database_size_aggregations"

    database_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    period: Mapped[AggregationPeriod] = mapped_column(enum_column(AggregationPeriod), primary_key=True)
    period_start: Mapped[date] = mapped_column(Date, primary_key=True, index=True)


class DatabaseTableSizeStat(_Measured, Base):
    __tablename__ = "database_table_size_stats"

    database_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    schema_name: Mapped[str] = mapped_column(String(255), primary_key=True, doc="Empty where the server has none")
    table_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    collected_on: Mapped[date] = mapped_column(Date, primary_key=True, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger, doc="pg_total_relation_size(); MySQL: data plus index")
    data_bytes: Mapped[int | None] = mapped_column(BigInteger)
    index_bytes: Mapped[int | None] = mapped_column(BigInteger)
    row_estimate: Mapped[int | None] = mapped_column(BigInteger, doc="pg_class.reltuples; TABLES.TABLE_ROWS")
