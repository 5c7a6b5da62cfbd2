"""Brings what is known of an instance's databases in line with its server, as account_sync does for accounts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from app.inventory import database_repository as repository
from app.inventory.database_repository import DatabaseValues, StoredDatabase
from app.inventory.instance_lock import hold_instance
from app.inventory.records import FoundDatabase, SyncCounts
from app.inventory.stored_text import stored_name

MAX_NAME_CHARACTERS: Final = 255
MAX_CHARACTER_SET_CHARACTERS: Final = 64
MAX_COLLATION_CHARACTERS: Final = 128


@dataclass(slots=True)
class _Differences:
    """`added` and `unchanged` by name, the others by id."""

    added: list[tuple[str, DatabaseValues]] = field(default_factory=list)
    back: list[tuple[int, DatabaseValues]] = field(default_factory=list)
    changed: list[tuple[int, DatabaseValues]] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.back or self.changed or self.gone)

    @property
    def counts(self) -> SyncCounts:
        created, updated, unchanged = len(self.added) + len(self.back), len(self.changed), len(self.unchanged)
        return SyncCounts(created + updated + unchanged, created, updated, len(self.gone), unchanged)


class SyncedDatabases(NamedTuple):
    """`unchanged` are names, as they are stored."""

    counts: SyncCounts
    unchanged: Sequence[str]


class DatabaseSync:
    """In the caller's transaction, of a session that may write."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def apply(self, instance_id: int, found: Sequence[FoundDatabase], seen_at: datetime) -> SyncedDatabases:
        """`found` is everything that the server has: what is missing from it is gone, and kept as not present.

        Those that are back count as created. Of two with one name the first stands. The instance must have been looked
        up. Raises NotFound when it is not there any more and something would have to be written.
        """
        seen = _as_stored(found)
        differing = await self._compare(instance_id, seen)
        if differing:
            await hold_instance(self._session, instance_id)
            differing = await self._compare(instance_id, seen)
            await self._write(instance_id, differing, seen_at)
        if seen:
            await repository.refresh(self._session, instance_id, seen_at)
        return SyncedDatabases(differing.counts, differing.unchanged)

    async def _compare(self, instance_id: int, seen: Mapping[str, DatabaseValues]) -> _Differences:
        return _differences(await repository.stored_databases(self._session, instance_id), seen)

    async def _write(self, instance_id: int, differing: _Differences, seen_at: datetime) -> None:
        await repository.add(self._session, instance_id, differing.added, seen_at)
        await repository.change(self._session, instance_id, [*differing.back, *differing.changed])
        await repository.deactivate(self._session, instance_id, differing.gone)


def _as_stored(found: Sequence[FoundDatabase]) -> dict[str, DatabaseValues]:
    seen: dict[str, DatabaseValues] = {}
    for database in found:
        values = DatabaseValues(
            _cut(database.owner, MAX_NAME_CHARACTERS),
            _cut(database.character_set_name, MAX_CHARACTER_SET_CHARACTERS),
            _cut(database.collation_name, MAX_COLLATION_CHARACTERS),
            database.is_system,
        )
        seen.setdefault(stored_name(database.name, MAX_NAME_CHARACTERS), values)
    return seen


def _cut(text: str | None, limit: int) -> str | None:
    return None if text is None else stored_name(text, limit)


def _differences(stored: Sequence[StoredDatabase], seen: Mapping[str, DatabaseValues]) -> _Differences:
    known = {database.name: database for database in stored}
    result = _Differences()
    for name, values in seen.items():
        before = known.get(name)
        if before is None:
            result.added.append((name, values))
        elif not before.is_present:
            result.back.append((before.id, values))
        elif before.values != values:
            result.changed.append((before.id, values))
        else:
            result.unchanged.append(name)
    result.gone = [database.id for name, database in known.items() if database.is_present and name not in seen]
    return result
