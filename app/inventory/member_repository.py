"""SQL about an instance's places in replication and clusters, which have a table for each kind of server."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Table, bindparam, delete, func, literal, select, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.database.statements import dialect_name
from app.inventory.reading_records import Found, PlaceRecord
from app.inventory.records import (
    Member,
    MongodbMember,
    MysqlMember,
    OracleMember,
    PostgresqlMember,
    RedisMember,
    SqlserverMember,
)
from app.models.base import table_of
from app.models.instance import DatabaseType
from app.models.inventory import (
    MongodbClusterInstance,
    MysqlClusterInstance,
    OracleClusterInstance,
    PostgresqlClusterInstance,
    RedisClusterInstance,
    SqlserverClusterInstance,
)
from app.pagination import PageRequest, Sort

# The columns are named as the members' fields.
TABLES: Final[Mapping[type[Member], Table]] = {
    MysqlMember: table_of(MysqlClusterInstance),
    PostgresqlMember: table_of(PostgresqlClusterInstance),
    RedisMember: table_of(RedisClusterInstance),
    MongodbMember: table_of(MongodbClusterInstance),
    OracleMember: table_of(OracleClusterInstance),
    SqlserverMember: table_of(SqlserverClusterInstance),
}
KINDS: Final[Mapping[DatabaseType, type[Member]]] = {
    DatabaseType.MYSQL: MysqlMember,
    DatabaseType.MARIADB: MysqlMember,
    DatabaseType.POSTGRESQL: PostgresqlMember,
    DatabaseType.SQLSERVER: SqlserverMember,
    DatabaseType.ORACLE: OracleMember,
    DatabaseType.REDIS: RedisMember,
    DatabaseType.MONGODB: MongodbMember,
}


class Place(NamedTuple):
    """What tells an instance's places apart: the kind of server, and the group where it can be in several."""

    kind: type[Member]
    group: str = ""


def _group(kind: type[Member]) -> ColumnElement[str]:
    return TABLES[kind].c.group_name if kind is SqlserverMember else literal("")


_kinds: Final = {kind.__name__: kind for kind in TABLES}
_known = union_all(
    *(
        select(literal(name), _group(kind)).where(
            TABLES[kind].c.instance_id == bindparam("instance_id", type_=BigInteger())
        )
        for name, kind in _kinds.items()
    )
)


async def known_places(session: AsyncSession, instance_id: int) -> set[Place]:
    """Of an instance that was looked up."""
    result = await session.execute(_known, {"instance_id": instance_id}, execution_options=SPACES_CHECKED)
    return {Place(_kinds[name], group) for name, group in result}


async def put(
    session: AsyncSession, instance_id: int, kind: type[Member], members: Sequence[Member], seen_at: datetime
) -> None:
    """Writes the places, one kind's, each over what is there. The instance must have been looked up."""
    names = [field.name for field in fields(kind)]
    rows = [
        {name: getattr(member, name) for name in names} | {"instance_id": instance_id, "seen_at": seen_at}
        for member in members
    ]
    dialect = postgresql if dialect_name(session) == "postgresql" else sqlite
    statement = dialect.insert(TABLES[kind]).values(rows)
    key = ["instance_id", "group_name"] if kind is SqlserverMember else ["instance_id"]
    changed = {name: statement.excluded[name] for name in (*names, "seen_at") if name not in key}
    await session.execute(
        statement.on_conflict_do_update(index_elements=key, set_=changed), execution_options=SPACES_CHECKED
    )


async def remove(session: AsyncSession, instance_id: int, place: Place) -> None:
    statement = delete(TABLES[place.kind]).where(
        TABLES[place.kind].c.instance_id == instance_id, _group(place.kind) == place.group
    )
    await session.execute(statement, execution_options=SPACES_CHECKED)


async def page(
    session: AsyncSession, instance_id: int, db_type: DatabaseType, request: PageRequest
) -> Found[PlaceRecord]:
    """The places of an instance of that type, in order of id. It must have been looked up. Raises InvalidCursor."""
    kind = KINDS[db_type]
    table = TABLES[kind]
    ordering = Sort.parse("id", {"id": table.c.id})
    names = [field.name for field in fields(kind)]
    statement = select(table.c.id, table.c.seen_at, *(table.c[name] for name in names))
    statement = ordering.apply(statement.where(table.c.instance_id == instance_id), request)
    result = await session.execute(statement, execution_options=SPACES_CHECKED)
    rows, next_cursor = ordering.cut(result.all(), request)
    items = [PlaceRecord(row[0], db_type, row[1], kind(**dict(zip(names, row[2:], strict=True)))) for row in rows]
    counted = select(func.count(table.c.id)).where(table.c.instance_id == instance_id)
    total = await session.scalar(counted, execution_options=SPACES_CHECKED) if request.include_total else None
    return Found(items, next_cursor, total)
