"""Keeps a server's settings: a new snapshot whenever they differ from the last one."""

from collections.abc import Mapping
from datetime import datetime

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from app.inventory import settings_repository as repository
from app.inventory.instance_lock import hold_instance
from app.inventory.records import SyncCounts
from app.inventory.setting_changes import setting_changes
from app.inventory.settings_repository import LastSnapshot
from app.inventory.stored_text import canonical_json, digest_of


class SettingsSync:
    """In the caller's transaction, of a session that may write."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def apply(self, instance_id: int, settings: Mapping[str, str], seen_at: datetime) -> SyncCounts:
        """The counts are of settings, of which the first snapshot creates every one. Nothing is written when none
        changed. The instance must have been looked up. Raises NotFound when something would have to be written, and it
        is not there any more."""
        text = canonical_json(settings)
        digest = digest_of(text)
        last = await repository.last_snapshot(self._session, instance_id)
        if last is None or last.digest != digest:
            await hold_instance(self._session, instance_id)
            last = await repository.last_snapshot(self._session, instance_id)
        if last is None or last.digest != digest:
            # Never before the last one, whatever the clocks say: the newest is what is true.
            captured_at = seen_at if last is None else max(seen_at, last.captured_at)
            await repository.add(self._session, instance_id, text, digest, captured_at)
        return _counts(last, orjson.loads(text))


def _counts(last: LastSnapshot | None, settings: Mapping[str, str]) -> SyncCounts:
    changes = setting_changes({} if last is None else last.settings, settings)
    created, updated, removed = len(changes.added), len(changes.changed), len(changes.removed)
    return SyncCounts(len(settings), created, updated, removed, len(settings) - created - updated)
