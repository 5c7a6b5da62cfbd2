"""Rows that name an instance which does not exist: reported per table, planned or not, and removed on demand.

Foreign keys make such rows impossible where there are any. They come from tables that somebody added without one, and
from writers that had foreign keys switched off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import orjson
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.credentials.encryption import SecretBox, SecretUnreadable
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import JsonValue, PreconditionFailed
from app.instances import deletion_repository as repository
from app.instances.cascade import InstanceCascadeDeletionPlan


@dataclass(frozen=True, slots=True)
class OrphansInTable:
    table: str
    planned: bool
    rows: int


@dataclass(frozen=True, slots=True)
class OrphanReport:
    token: str
    expires_at: datetime
    tables: list[OrphansInTable]
    total: int


@dataclass(frozen=True, slots=True)
class CleanedTable:
    """`error` tells why rows were left, such as another table that still refers to them."""

    table: str
    rows_deleted: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CleaningReport:
    tables: list[CleanedTable]
    total: int


class OrphanService:
    def __init__(
        self, database: Database, plan: InstanceCascadeDeletionPlan, box: SecretBox, lifetime: timedelta
    ) -> None:
        self._database = database
        self._plan = plan
        self._planned = [table.name for table in plan.tables()]
        self._box = box
        self._lifetime = lifetime

    async def report(self) -> OrphanReport:
        """Tables with orphans, in the order in which they would be cleaned."""
        found = [OrphansInTable(live.name, live.name in self._planned, rows) for live, rows in await self._found()]
        expires_at = datetime.now(UTC).replace(microsecond=0) + self._lifetime
        sealed = orjson.dumps({"orphans": {each.table: each.rows for each in found}, "expires": expires_at.timestamp()})
        return OrphanReport(self._box.seal(sealed.decode()), expires_at, found, sum(each.rows for each in found))

    async def clean(self, token: str) -> CleaningReport:
        """Removes what the report showed. Raises PreconditionFailed when the orphans are not those any more."""
        shown = self._opened(token)
        found = await self._found()
        now = {live.name: rows for live, rows in found}
        if now != shown:
            changed: list[JsonValue] = [
                {"table": name, "reported": shown.get(name, 0), "rows": now.get(name, 0)}
                for name in sorted(now.keys() | shown.keys())
                if now.get(name) != shown.get(name)
            ]
            raise PreconditionFailed("the orphans changed; read the report again", members={"changed": changed})
        tables = [await self._clean(live) for live, _ in found]
        return CleaningReport(tables, sum(each.rows_deleted for each in tables))

    async def _found(self) -> list[tuple[repository.LiveTable, int]]:
        """Tables with orphans, and how many each has. Kept tables outlive their instances: they have none."""
        async with self._database.readers() as session:
            live = [each for each in await repository.tables_below(session) if each.holds_ids]
            by_name = {each.name: each for each in live}
            # Unplanned tables first: they may refer to planned ones, never the other way.
            ordered = repository.unplanned(self._plan, live)
            ordered += [by_name[name] for name in self._planned if name in by_name]
            counted = [(each, await repository.count_orphans(session, each)) for each in ordered]
        return [(each, rows) for each, rows in counted if rows]

    async def _clean(self, live: repository.LiveTable) -> CleanedTable:
        """In bounded steps, each a transaction with its audit entry."""
        name, batch_id, total = live.name, uuid4(), 0

        async def step(session: AsyncSession) -> int:
            rows = await repository.delete_orphans(session, live)
            if rows:
                changes = {"table": name, "rows": rows}
                await record(
                    session, AuditEntry("orphan:clean", "table", None, name, None, batch_id=batch_id, changes=changes)
                )
            return rows

        try:
            while rows := await run_in_transaction(self._database.writers, step):
                total += rows
        except IntegrityError:
            return CleanedTable(name, total, "another table refers to these rows and is not in the deletion plan")
        except DBAPIError as error:
            return CleanedTable(name, total, f"the database refused: {error.__class__.__name__}")
        return CleanedTable(name, total)

    def _opened(self, token: str) -> Mapping[str, int]:
        try:
            content = orjson.loads(self._box.open(token))
            orphans, expires = content["orphans"], content["expires"]
        except (SecretUnreadable, ValueError, KeyError, TypeError) as error:
            raise PreconditionFailed("the token is not one of ours; read the orphan report again") from error
        if expires < datetime.now(UTC).timestamp():
            raise PreconditionFailed("the token has expired; read the orphan report again")
        return dict(orphans)
