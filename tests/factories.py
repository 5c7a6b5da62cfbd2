"""Rows with valid parents, so that a test states only what it checks."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import insert, select

from app.database import Database
from app.instances.cascade import plan
from app.models import Base
from app.models.role import Role
from app.models.space import Space
from tests.catalogue import counts_of, listed_tables

tables = Base.metadata.tables
_numbers = count(1)


# Of these an instance has one row at most: what else such a row needs.
SINGLE_ROWS: Mapping[str, Mapping[str, Any]] = {
    "instance_sync_plans": {"policy": "daily", "next_sync_at": datetime(2026, 1, 1, tzinfo=UTC)},
    "mysql_cluster_instances": {"role": "source"},
    "postgresql_cluster_instances": {"role": "primary"},
    "oracle_cluster_instances": {"role": "primary"},
    "redis_cluster_instances": {"mode": "standalone", "role": "primary"},
    "mongodb_cluster_instances": {"role": "primary"},
}


class Registry:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, table_name: str, /, **values: Any) -> Any:
        """Inserts one row as given and returns its `id` (or None where the table has none)."""
        table = tables[table_name]
        async with self._database.engine.begin() as connection:
            result = await connection.execute(insert(table).values(**values))
            key = result.inserted_primary_key
            return key[0] if key is not None and "id" in table.c else None

    async def default_space(self) -> int:
        async with self._database.read_engine.connect() as connection:
            return (await connection.execute(select(Space.id).where(Space.name == "default"))).scalar_one()

    async def space(self, name: str | None = None) -> int:
        return await self.insert("spaces", name=name or f"space-{next(_numbers)}")

    async def role(self, name: str | None = None, permissions: Collection[str] = ()) -> int:
        role_id = await self.insert("roles", name=name or f"role-{next(_numbers)}")
        for permission in permissions:
            await self.insert("role_permissions", role_id=role_id, permission=permission)
        return int(role_id)

    async def role_id(self, name: str) -> int:
        async with self._database.read_engine.connect() as connection:
            return (await connection.execute(select(Role.id).where(Role.name == name))).scalar_one()

    async def user(
        self, name: str | None = None, *, role: str | None = None, space_id: int | None = None, **values: Any
    ) -> int:
        """A user whose password opens nothing, with a role in a space, or everywhere."""
        defaults = {"username": name or f"user-{next(_numbers)}", "password_hash": "!", "is_active": True}
        user_id = await self.insert("users", **defaults | values)
        if role is not None:
            await self.grant(user_id, await self.role_id(role), space_id)
        return int(user_id)

    async def grant(self, user_id: int, role_id: int, space_id: int | None = None) -> None:
        await self.insert("role_grants", user_id=user_id, role_id=role_id, space_id=space_id)

    async def user_session(self, user_id: int, **values: Any) -> int:
        expires_at = datetime.now(UTC) + timedelta(days=1)
        return int(await self.insert("user_sessions", **{"user_id": user_id, "expires_at": expires_at} | values))

    async def instance(self, **values: Any) -> int:
        number = next(_numbers)
        host = values.get("host", f"host-{number}.example")
        defaults = {
            "space_id": values.get("space_id") or await self.default_space(),
            "name": f"instance-{number}",
            "db_type": "mysql",
            "host": host,
            "port": 3306,
            "endpoint_key": f"mysql:{host}:3306",
            "environment": "production",
            "sync_policy": "off",
        }
        return await self.insert("instances", **defaults | values)

    async def credential(self, name: str | None = None, **values: Any) -> int:
        space_id = values.pop("space_id", None) or await self.default_space()
        defaults = {"type": "database", "username": "ops"}
        return await self.insert(
            "credentials", space_id=space_id, name=name or f"credential-{next(_numbers)}", **defaults | values
        )

    async def tag(self, name: str | None = None, *, space_id: int | None = None) -> int:
        return await self.insert(
            "tags", space_id=space_id or await self.default_space(), name=name or f"tag-{next(_numbers)}"
        )

    async def dependents(self, instance_id: int, rows: int = 1) -> None:
        """`rows` rows in every table below the instance."""
        space_id = await self.default_space()
        classification = await self.insert(
            "account_classifications", space_id=space_id, name=f"class-{next(_numbers)}", rule={"all": []}
        )
        now = datetime.now(UTC)
        for number in range(rows):
            below: dict[str, Any] = {"instance_id": instance_id}
            day = date(2026, 1, 1) + timedelta(days=number)
            period: dict[str, Any] = {
                "period": "day",
                "period_start": day,
                "average_bytes": 1,
                "maximum_bytes": 1,
                "minimum_bytes": 1,
                "trend": "stable",
                "sample_count": 1,
            }
            tag = await self.tag()
            await self.insert("instance_tags", tag_id=tag, **below)
            account = await self.insert("instance_accounts", username=f"user-{number}", **below)
            permission = await self.insert("account_permissions", account_id=account, digest="0" * 64, **below)
            await self.insert(
                "account_classification_assignments",
                permission_id=permission,
                classification_id=classification,
                rule_version=1,
                **below,
            )
            await self.insert("account_change_logs", username=f"user-{number}", change_type="added", diff="+", **below)
            await self.insert("instance_databases", name=f"db-{number}", **below)
            await self.insert("instance_size_stats", collected_on=day, total_bytes=1, database_count=1, **below)
            await self.insert("instance_size_aggregations", **period, **below)
            await self.insert("database_size_stats", database_name="db", collected_on=day, size_bytes=1, **below)
            await self.insert("database_size_aggregations", database_name="db", **period, **below)
            await self.insert(
                "database_table_size_stats",
                database_name="db",
                schema_name="",
                table_name="t",
                collected_on=day,
                size_bytes=1,
                **below,
            )
            session = await self.insert(
                "sync_sessions", space_id=space_id, kinds=["accounts"], trigger="manual", state="succeeded"
            )
            await self.insert("sync_instance_records", session_id=session, kind="accounts", state="succeeded", **below)
            await self.insert("instance_config_snapshots", settings={}, digest="0" * 64, captured_at=now, **below)
            await self.insert("sqlserver_cluster_instances", group_name=f"group-{number}", role="primary", **below)
        for table, values in SINGLE_ROWS.items():
            await self.insert(table, instance_id=instance_id, **values)

    async def counts(self) -> dict[str, int]:
        """Rows of every table that the database itself lists, whether or not the metadata knows it."""
        async with self._database.read_engine.connect() as connection:
            return await counts_of(connection, await listed_tables(connection))

    async def rows_of(self, instance_ids: Sequence[int]) -> dict[str, int]:
        """Rows in every table with an `instance_id` column, found by catalogue, that name one of these instances, but
        for those that are to outlive it."""
        async with self._database.read_engine.connect() as connection:
            tables = (await listed_tables(connection)).values()
            names = [table.name for table in tables if "instance_id" in table.c and table.name not in plan.kept]
            listed = ", ".join(map(str, instance_ids)) or "NULL"
            return await counts_of(connection, names, f"instance_id IN ({listed})")
